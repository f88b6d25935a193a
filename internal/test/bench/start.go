package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/binary"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/host"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// dry is what mayfly run --dry-run prints.
type dry struct {
	Plan    plan.Plan       `json:"plan"`
	Command machine.Command `json:"command"`
}

// dryRun asks mayfly what it would do in dir.
func dryRun(ctx context.Context, mayfly, dir string, flags ...string) (dry, error) {
	var d dry
	cmd := exec.CommandContext(ctx, mayfly, append([]string{"run", "--dry-run", "--no-detect"}, flags...)...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return d, fmt.Errorf("mayfly run --dry-run: %w", err)
	}
	return d, json.Unmarshal(out, &d)
}

// lookUp finds the plan's image in the user's store.
func lookUp(p plan.Plan) (image.Image, error) {
	dirs, err := host.XDGDirs(os.Getenv)
	if err != nil {
		return image.Image{}, err
	}
	agent, err := binary.Agent()
	if err != nil {
		return image.Image{}, err
	}
	store, err := image.Open(image.Options{
		Dir:        filepath.Join(dirs.Data, "store"),
		BuildDir:   "/var/tmp",
		Agent:      agent,
		AgentsLock: filepath.Join(dirs.Config, "agents.lock.json"),
	})
	if err != nil {
		return image.Image{}, err
	}
	return store.Lookup(p.Image)
}

// smallProject makes a directory to work on.
func (b *bench) smallProject() (string, error) {
	dir := filepath.Join(b.dir, "project")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for i := range 10 {
		name := filepath.Join(dir, fmt.Sprintf("file%d.txt", i))
		if err := os.WriteFile(name, []byte("a small file\n"), 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// childrenCPU returns the CPU time of all processes that ended below this one.
func childrenCPU() (time.Duration, error) {
	var ru unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_CHILDREN, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano()), err
}

// timed runs cmd and returns how long that took.
func timed(cmd *exec.Cmd) (time.Duration, error) {
	start := time.Now()
	if text, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, text)
	}
	return time.Since(start), nil
}

// measureStart compares a whole mayfly run with the least that a virtual
// machine can take.
func (b *bench) measureStart(ctx context.Context) error {
	dir, err := b.smallProject()
	if err != nil {
		return err
	}
	// The first one builds what is missing, and warms the page cache.
	if _, err := timed(b.runTrue(ctx, dir, "--cold")); err != nil {
		return err
	}
	d, err := dryRun(ctx, b.mayfly, dir, "--cold")
	if err != nil {
		return err
	}
	floor, err := bare(d.Command)
	if err != nil {
		return err
	}
	if _, err := bareBoot(ctx, floor); err != nil {
		return err
	}
	var ours, oursCPU, bareAll, bareCPU, bareHello, bareKill []float64
	for range b.runs(9) {
		before, err := childrenCPU()
		if err != nil {
			return err
		}
		took, err := timed(b.runTrue(ctx, dir, "--cold"))
		if err != nil {
			return err
		}
		between, err := childrenCPU()
		if err != nil {
			return err
		}
		t, err := bareBoot(ctx, floor)
		if err != nil {
			return fmt.Errorf("bare QEMU: %w", err)
		}
		after, err := childrenCPU()
		if err != nil {
			return err
		}
		ours = append(ours, took.Seconds())
		oursCPU = append(oursCPU, (between - before).Seconds())
		bareCPU = append(bareCPU, (after - between).Seconds())
		bareAll = append(bareAll, t.all.Seconds())
		bareHello = append(bareHello, t.hello.Seconds())
		bareKill = append(bareKill, (t.all - t.hello).Seconds())
	}
	b.add(newRow("start to exit", "s", ours, bareAll,
		"mayfly run --cold --discard -- true on 10 small files; baseline: QEMU with the same kernel, initramfs, CPUs and memory, but no disks, until its init has answered, and killed").ratioAtMost(1.35))
	b.add(newRow("start to exit: CPU", "s", oursCPU, bareCPU, "CPU time of the same, all processes together, which other programs disturb less"))
	b.add(newRow("start to exit: bare boot", "s", bareHello, nil, "of the baseline above: from QEMU's start to its init's answer"))
	b.add(newRow("start to exit: bare end", "s", bareKill, nil, "of the baseline above: from the kill to the end of the process"))
	return nil
}

func (b *bench) runTrue(ctx context.Context, dir string, flags ...string) *exec.Cmd {
	args := append([]string{"run", "--discard", "--no-detect"}, flags...)
	cmd := exec.CommandContext(ctx, b.mayfly, append(args, "--", "true")...)
	cmd.Dir = dir
	return cmd
}

// bare returns c without all that makes a machine of ours: its disks, its
// devices but the control port, its sandbox and its namespaces.
func bare(c machine.Command) (machine.Command, error) {
	kept := []string{"-L", "-no-user-config", "-nodefaults", "-display", "-no-reboot", "-machine", "-accel", "-cpu", "-smp", "-m", "-kernel", "-initrd", "-append"}
	out := machine.Command{Path: c.Path, Env: c.Env, Readable: c.Readable, Writable: c.Writable}
	for i := 0; i < len(c.Args); {
		n := 1
		if i+1 < len(c.Args) && c.Args[i+1][0] != '-' {
			n = 2
		}
		if slices.Contains(kept, c.Args[i]) {
			out.Args = append(out.Args, c.Args[i:i+n]...)
		}
		i += n
	}
	if !slices.Contains(out.Args, "-kernel") {
		return out, errors.New("mayfly's command line for QEMU names no kernel")
	}
	out.Files = []machine.File{{Socket: machine.Console}, {Socket: machine.Control}}
	out.Args = append(out.Args,
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", machine.FirstFile),
		"-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=control,fd=%d", machine.FirstFile+1),
		"-device", "virtio-serial-pci,id=serial,max_ports=2",
		"-device", "virtserialport,bus=serial.0,nr=1,chardev=control,name="+wire.PortName,
	)
	return out, nil
}

// bareTimes are the times since QEMU's start.
type bareTimes struct{ hello, all time.Duration }

// bareBoot boots c until init has answered, and kills it.
func bareBoot(ctx context.Context, c machine.Command) (bareTimes, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var t bareTimes
	start := time.Now()
	vm, err := machine.Start(c, os.Stderr, nil)
	if err != nil {
		return t, err
	}
	defer vm.Kill()
	go discard(vm.Sockets[machine.Console])
	session, err := wire.Dial(ctx, vm.Sockets[machine.Control])
	if err != nil {
		return t, err
	}
	defer session.Close()
	stream, err := session.Open()
	if err != nil {
		return t, err
	}
	if _, err := client.Hello(stream); err != nil {
		return t, err
	}
	t.hello = time.Since(start)
	vm.Kill()
	t.all = time.Since(start)
	return t, nil
}
