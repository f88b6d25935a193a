package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// client returns package mayfly's client of the first program's user. The program is
// what supervises its machines.
func (b *bench) client(onEvent func(mayfly.Event)) (*mayfly.Client, error) {
	p := b.programs[0]
	return mayfly.New(mayfly.Options{Getenv: p.getenv, Program: p.path, OnEvent: onEvent})
}

// set sets a key of a machine's file.
func set(key string, value any) mayfly.Setting {
	return mayfly.Setting{From: key, Key: key, Value: value}
}

// cold makes a machine boot.
var cold = set("machine.cold", true)

// phases are the times of a machine's start, from its supervisor's start.
type phases struct {
	boot  time.Duration // until the VMM was started
	hello time.Duration // until the guest was up, with its image
	ready time.Duration // until the machine could be used
}

// started is a machine that this process has started.
type started struct {
	*mayfly.Machine
	phases
}

// start starts a machine.
func (b *bench) start(ctx context.Context, spec mayfly.Spec) (started, error) {
	var t phases
	c, err := b.client(func(e mayfly.Event) {
		since := time.Duration(e.Nanos)
		switch {
		case e.Kind == mayfly.EventStarted:
			t.ready = since
		case e.Kind != mayfly.EventPhase:
		case e.Code == "boot", e.Code == "restore":
			t.boot = since
		case e.Code == "configure":
			t.hello = since
		}
	})
	if err != nil {
		return started{}, err
	}
	m, err := c.Start(ctx, spec)
	return started{m, t}, err
}

// execTrue runs true in the machine.
func (m started) execTrue(ctx context.Context) error {
	code, err := m.Exec(ctx, mayfly.Cmd{Argv: []string{"/bin/true"}})
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d", code)
	}
	if err != nil {
		return fmt.Errorf("/bin/true in the guest: %w", err)
	}
	return nil
}

// supervisorMemory waits until the machine is at rest, and returns the resident memory of
// its supervisor, and that with shared pages divided, in MiB. Package mayfly has only the
// sum of a machine's processes.
func (b *bench) supervisorMemory(ctx context.Context, m started) (rss, pss float64, err error) {
	if err := sleep(ctx, idle); err != nil {
		return 0, 0, err
	}
	s, err := state.Open(filepath.Join(b.programs[0].getenv("XDG_STATE_HOME"), "mayfly")).Get(m.Name())
	if err != nil {
		return 0, 0, err
	}
	proc := fmt.Sprintf("/proc/%d/", s.Status().Supervisor.PID)
	if rss, err = statusMiB(proc+"status", "VmRSS"); err == nil {
		pss, err = statusMiB(proc+"smaps_rollup", "Pss")
	}
	return rss, pss, err
}

// measureFirst measures from the start of the VMM to the end of the first command.
func (b *bench) measureFirst(ctx context.Context) error {
	dir, err := b.smallProject()
	if err != nil {
		return err
	}
	first := func(settings ...mayfly.Setting) (float64, error) {
		m, err := b.start(ctx, mayfly.Spec{Dir: dir, NoDetect: true, Settings: settings})
		if err != nil {
			return 0, err
		}
		defer m.Close()
		start := time.Now()
		err = m.execTrue(ctx)
		return (m.ready - m.boot + time.Since(start)).Seconds(), err
	}
	if _, err := first(); err != nil { // makes the template
		return err
	}
	v, err := pairs(b.runs(9), func() (float64, error) { return first() }, func() (float64, error) { return first(cold) })
	if err != nil {
		return err
	}
	b.add(v.row("template: first exec", "s",
		"from the start of the VMM to the exit code of the first command, configuration included, restored; baseline: booted").ratioAtMost(0.1))
	return nil
}

// measureMachine measures the parts of a start, and what a machine costs that
// runs.
func (b *bench) measureMachine(ctx context.Context) error {
	dir, err := b.smallProject()
	if err != nil {
		return err
	}
	var boot, hello, ready, end values
	for i := range b.runs(5) {
		m, err := b.start(ctx, mayfly.Spec{Dir: dir, NoDetect: true, Settings: []mayfly.Setting{cold}})
		if err != nil {
			return err
		}
		if i == 0 {
			err = b.measureRunning(ctx, m) // it is used for the rest, too
		}
		begin := time.Now()
		m.Close()
		end.add(time.Since(begin).Seconds())
		if err != nil {
			return err
		}
		boot.add(m.boot.Seconds())
		hello.add((m.hello - m.boot).Seconds())
		ready.add((m.ready - m.hello).Seconds())
	}
	b.add(boot.row("start: disks and VMM", "s", "from the supervisor's main function until QEMU is executed"))
	b.add(hello.row("start: boot", "s", "from there until the guest's agent has answered and prepared the image"))
	b.add(ready.row("start: configure", "s", "from there until commands can run"))
	b.add(end.row("end", "s", "from the owner's wish until nothing is left of a machine that is thrown away"))
	return nil
}

// measureRunning measures the running machine m.
func (b *bench) measureRunning(ctx context.Context, m started) error {
	return errors.Join(b.measureMemory(ctx, m), b.measureExec(ctx, m), b.measureStream(ctx, m))
}

func (b *bench) measureMemory(ctx context.Context, m started) error {
	rss, pss, err := b.supervisorMemory(ctx, m)
	if err != nil {
		return err
	}
	b.add(newRow("supervisor: memory", "MiB", []float64{rss}, nil, "resident memory (VmRSS) of a machine's supervisor, 5 s after its start").atMost(30))
	b.add(newRow("supervisor: share", "MiB", []float64{pss}, nil, "of that, with pages that several processes use divided among them (Pss)"))
	return nil
}

// measureExec measures the way to the guest and back: with nothing done there,
// with a program run there, and as a command of its own.
func (b *bench) measureExec(ctx context.Context, m started) error {
	var trip, whole values
	const warm = 5
	for i := range b.runs(50) + warm {
		start := time.Now()
		if _, err := m.Sessions(ctx); err != nil { // there are none
			return err
		}
		asked := time.Now()
		if err := m.execTrue(ctx); err != nil {
			return err
		}
		ran := time.Now()
		took, err := timed(b.programs[0].command(ctx, b.dir, "exec", m.Name(), "--", "true"))
		if err != nil {
			return err
		}
		if i >= warm {
			trip.compare(milliseconds(ran.Sub(asked)), milliseconds(asked.Sub(start)))
			whole.add(milliseconds(took))
		}
	}
	b.add(trip.row("exec round trip", "ms",
		"a connection to a supervisor, /bin/true in its machine and its exit code; baseline: the same, but the guest's agent only answers").atMost(20))
	b.add(whole.row("mayfly exec", "ms", "mayfly exec MACHINE -- true, the whole process"))
	return nil
}

// measureStream measures how fast bytes go into the guest and back.
func (b *bench) measureStream(ctx context.Context, m started) error {
	const size = 128e6
	in := filepath.Join(b.dir, "stream")
	if err := os.WriteFile(in, make([]byte, size), 0o600); err != nil {
		return err
	}
	var rate values
	for range b.runs(3) {
		f, err := os.Open(in)
		if err != nil {
			return err
		}
		cmd := b.programs[0].command(ctx, b.dir, "exec", m.Name(), "--", "cat")
		cmd.Stdin = f
		var n counter
		cmd.Stdout = &n
		start := time.Now()
		err = cmd.Run()
		f.Close()
		if err != nil {
			return fmt.Errorf("mayfly exec -- cat: %w", err)
		}
		if n != size {
			return fmt.Errorf("mayfly exec -- cat: %d bytes came back of %d", n, int64(size))
		}
		rate.add(size / 1e6 / time.Since(start).Seconds())
	}
	b.add(rate.row("stream", "MB/s", "128 MB through mayfly exec MACHINE -- cat"))
	return nil
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
