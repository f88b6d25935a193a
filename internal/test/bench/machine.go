package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

func discard(r io.Reader) { io.Copy(io.Discard, r) }

// phases are the times of a machine's start, from its supervisor's start.
type phases struct {
	boot  time.Duration // until the VMM was started
	hello time.Duration // until the guest was up, with its image
	ready time.Duration // until the machine could be used
}

// startMachine starts a machine of mayfly's, without its command line.
func (b *bench) startMachine(ctx context.Context, machines state.Store, p plan.Plan) (*control.Owner, phases, error) {
	var t phases
	img, err := lookUp(p)
	if err != nil {
		return nil, t, err
	}
	m, lock, err := machines.Create(p)
	if err != nil {
		return nil, t, err
	}
	if err := state.WriteJSON(m.File(state.ImageFile), img); err != nil {
		lock.Release()
		return nil, t, errors.Join(err, m.Remove())
	}
	owner, err := control.Spawn(b.mayfly, m, lock, nil)
	if err != nil {
		return nil, t, errors.Join(err, m.Remove())
	}
	err = owner.Ready(ctx, func(e control.Event) {
		since := time.Duration(e.Nanos)
		switch {
		case e.Phase == control.PhaseBoot, e.Phase == control.PhaseRestore:
			t.boot = since
		case e.Phase == control.PhaseConfigure:
			t.hello = since
		case e.Ready:
			t.ready = since
		}
	})
	if err != nil {
		owner.Close()
		return nil, t, err
	}
	return owner, t, nil
}

// measureMachine measures the parts of a start, and what a machine costs that
// runs.
func (b *bench) measureMachine(ctx context.Context) error {
	dir, err := b.smallProject()
	if err != nil {
		return err
	}
	machines, err := openMachines()
	if err != nil {
		return err
	}
	var boot, hello, ready, end []float64
	for range b.runs(5) {
		d, err := dryRun(ctx, b.mayfly, dir, "--cold")
		if err != nil {
			return err
		}
		owner, t, err := b.startMachine(ctx, machines, d.Plan)
		if err != nil {
			return err
		}
		if len(boot) == 0 {
			// This one is used for the rest, too.
			if err := b.measureRunning(ctx, owner.Machine, d.Plan); err != nil {
				owner.Close()
				return err
			}
		}
		boot = append(boot, t.boot.Seconds())
		hello = append(hello, (t.hello - t.boot).Seconds())
		ready = append(ready, (t.ready - t.hello).Seconds())
		begin := time.Now()
		owner.Close()
		end = append(end, time.Since(begin).Seconds())
	}
	b.add(newRow("start: disks and VMM", "s", boot, nil, "from the supervisor's main function until QEMU is executed"))
	b.add(newRow("start: boot", "s", hello, nil, "from there until the guest's agent has answered and prepared the image"))
	b.add(newRow("start: configure", "s", ready, nil, "from there until commands can run"))
	b.add(newRow("end", "s", end, nil, "from the owner's wish until nothing is left of a machine that is thrown away"))
	return nil
}

// measureRunning measures the running machine m.
func (b *bench) measureRunning(ctx context.Context, m state.Machine, p plan.Plan) error {
	if err := b.measureMemory(ctx, m); err != nil {
		return err
	}
	if err := b.measureExec(ctx, m, p); err != nil {
		return err
	}
	return b.measureStream(ctx, m)
}

// idle is the time after which a machine's supervisor is at rest.
const idle = 5 * time.Second

func (b *bench) measureMemory(ctx context.Context, m state.Machine) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(idle):
	}
	proc := fmt.Sprintf("/proc/%d/", m.Status().Supervisor.PID)
	rss, err := statusMiB(proc+"status", "VmRSS")
	if err != nil {
		return err
	}
	pss, err := statusMiB(proc+"smaps_rollup", "Pss")
	if err != nil {
		return err
	}
	b.add(newRow("supervisor: memory", "MiB", []float64{rss}, nil, "resident memory (VmRSS) of a machine's supervisor, 5 s after its start").atMost(30))
	b.add(newRow("supervisor: share", "MiB", []float64{pss}, nil, "of that, with pages that several processes use divided among them (Pss)"))
	return nil
}

// measureExec measures the way to the guest and back: with nothing done there,
// with a program run there, and as a command of its own.
func (b *bench) measureExec(ctx context.Context, m state.Machine, p plan.Plan) error {
	req := &wire.Exec{Argv: []string{"/bin/true"}, Dir: p.Dir()}
	var greet, run, whole []float64
	const warm = 5
	for i := range b.runs(50) + warm {
		start := time.Now()
		stream, err := control.OpenGuest(m)
		if err != nil {
			return err
		}
		_, err = client.Hello(stream)
		stream.Close()
		if err != nil {
			return err
		}
		greeted := time.Now()
		if stream, err = control.OpenGuest(m); err != nil {
			return err
		}
		code, err := client.Exec(stream, req, client.Stdio{})
		stream.Close()
		if err != nil || code != 0 {
			return fmt.Errorf("/bin/true in the guest: exit code %d, %w", code, err)
		}
		ran := time.Now()
		took, err := timed(exec.CommandContext(ctx, b.mayfly, "exec", m.Name, "--", "true"))
		if err != nil {
			return err
		}
		if i >= warm {
			greet = append(greet, milliseconds(greeted.Sub(start)))
			run = append(run, milliseconds(ran.Sub(greeted)))
			whole = append(whole, milliseconds(took))
		}
	}
	b.add(newRow("exec round trip", "ms", run, greet,
		"a connection to a supervisor, /bin/true in its machine and its exit code; baseline: the same, but the guest's agent only answers").atMost(20))
	b.add(newRow("mayfly exec", "ms", whole, nil, "mayfly exec MACHINE -- true, the whole process"))
	return nil
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

// measureStream measures how fast bytes go into the guest and back.
func (b *bench) measureStream(ctx context.Context, m state.Machine) error {
	const size = 128e6
	in := filepath.Join(b.dir, "stream")
	if err := os.WriteFile(in, make([]byte, size), 0o600); err != nil {
		return err
	}
	var rate []float64
	for range b.runs(3) {
		f, err := os.Open(in)
		if err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, b.mayfly, "exec", m.Name, "--", "cat")
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
		rate = append(rate, size/1e6/time.Since(start).Seconds())
	}
	b.add(newRow("stream", "MB/s", rate, nil, "128 MB through mayfly exec MACHINE -- cat"))
	return nil
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
