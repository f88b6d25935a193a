package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/host"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/template"
)

// measureTemplate compares machines that begin from a template with such that
// boot.
func (b *bench) measureTemplate(ctx context.Context) error {
	dir, err := b.smallProject()
	if err != nil {
		return err
	}
	// The first one makes the template.
	if _, err := timed(b.runTrue(ctx, dir)); err != nil {
		return err
	}
	for _, measure := range []func(context.Context, string) error{
		b.measureTemplateStart, b.measureTemplateExec, b.measureAgent, b.measureIdle, b.measureSave,
	} {
		if err := measure(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}

// measureTemplateStart measures whole commands.
func (b *bench) measureTemplateStart(ctx context.Context, dir string) error {
	var ours, cold, oursCPU, coldCPU []float64
	for range b.runs(15) {
		for _, side := range []struct {
			flags     []string
			wall, cpu *[]float64
		}{{nil, &ours, &oursCPU}, {[]string{"--cold"}, &cold, &coldCPU}} {
			before, err := childrenCPU()
			if err != nil {
				return err
			}
			took, err := timed(b.runTrue(ctx, dir, side.flags...))
			if err != nil {
				return err
			}
			after, err := childrenCPU()
			if err != nil {
				return err
			}
			*side.wall = append(*side.wall, took.Seconds())
			*side.cpu = append(*side.cpu, (after - before).Seconds())
		}
	}
	b.add(newRow("template: start to exit", "s", ours, cold,
		"mayfly run --discard -- true on 10 small files, from a template; baseline: the same with --cold").ratioAtMost(0.2))
	b.add(newRow("template: absolute", "s", ours, nil, "of that, the time itself, which is for a quiet machine").atMost(0.5))
	b.add(newRow("template: CPU", "s", oursCPU, coldCPU, "CPU time of the same, all processes together"))
	return nil
}

// measureTemplateExec measures from the start of the VMM to the end of the first
// command.
func (b *bench) measureTemplateExec(ctx context.Context, dir string) error {
	machines, err := openMachines()
	if err != nil {
		return err
	}
	first := func(flags ...string) (float64, error) {
		d, err := dryRun(ctx, b.mayfly, dir, flags...)
		if err != nil {
			return 0, err
		}
		owner, t, err := b.startMachine(ctx, machines, d.Plan)
		if err != nil {
			return 0, err
		}
		defer owner.Close()
		start := time.Now()
		if err := execTrue(owner.Machine, d.Plan); err != nil {
			return 0, err
		}
		return (t.ready - t.boot + time.Since(start)).Seconds(), nil
	}
	var ours, cold []float64
	for range b.runs(9) {
		t, err := first()
		if err != nil {
			return err
		}
		ours = append(ours, t)
		if t, err = first("--cold"); err != nil {
			return err
		}
		cold = append(cold, t)
	}
	b.add(newRow("template: first exec", "s", ours, cold,
		"from the start of the VMM to the exit code of the first command, configuration included, restored; baseline: booted").ratioAtMost(0.1))
	return nil
}

func openMachines() (state.Store, error) {
	dirs, err := host.XDGDirs(os.Getenv)
	if err != nil {
		return state.Store{}, err
	}
	return state.Open(dirs.State), nil
}

// execTrue runs true in the machine m.
func execTrue(m state.Machine, p plan.Plan) error {
	stream, err := control.OpenGuest(m)
	if err != nil {
		return err
	}
	defer stream.Close()
	code, err := client.Exec(stream, &wire.Exec{Argv: []string{"/bin/true"}, Dir: p.Dir()}, client.Stdio{})
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d", code)
	}
	if err != nil {
		return fmt.Errorf("/bin/true in the guest: %w", err)
	}
	return nil
}

// measureAgent measures the time to the first output of a real agent.
func (b *bench) measureAgent(ctx context.Context, dir string) error {
	firstOutput := func(flags ...string) (float64, error) {
		args := append([]string{"run", "--discard", "--no-detect", "--profile", "claude"}, flags...)
		cmd := exec.CommandContext(ctx, b.mayfly, append(args, "--", "claude", "--version")...)
		cmd.Dir = dir
		cmd.Stderr = b.log
		out, err := cmd.StdoutPipe()
		if err != nil {
			return 0, err
		}
		start := time.Now()
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		r := bufio.NewReader(out)
		_, readErr := r.ReadByte()
		took := time.Since(start)
		discard(r)
		return took.Seconds(), errors.Join(readErr, cmd.Wait())
	}
	// The image, if it is not there, and the template.
	if _, err := firstOutput(); err != nil {
		fmt.Fprintf(b.log, "the agent's row is left out: %v\n", err)
		return ctx.Err()
	}
	var ours, cold []float64
	for range b.runs(5) {
		t, err := firstOutput()
		if err != nil {
			return err
		}
		ours = append(ours, t)
		if t, err = firstOutput("--cold"); err != nil {
			return err
		}
		cold = append(cold, t)
	}
	b.add(newRow("template: claude --version", "s", ours, cold,
		"from the start of mayfly run to the first output of claude --version, from a prewarmed template; baseline: the same with --cold").ratioAtMost(0.4))
	return nil
}

// idleMachines is the number of machines whose memory is measured at once.
const idleMachines = 10

// measureIdle measures what a machine costs that does nothing, beside others.
func (b *bench) measureIdle(ctx context.Context, dir string) error {
	machines, err := openMachines()
	if err != nil {
		return err
	}
	var owners []*control.Owner
	defer func() {
		for _, o := range owners {
			o.Close()
		}
	}()
	for range idleMachines {
		d, err := dryRun(ctx, b.mayfly, dir)
		if err != nil {
			return err
		}
		owner, _, err := b.startMachine(ctx, machines, d.Plan)
		if err != nil {
			return err
		}
		owners = append(owners, owner)
		if err := execTrue(owner.Machine, d.Plan); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(idle):
	}
	var both, vmm []float64
	for _, o := range owners {
		st := o.Machine.Status()
		q, err := statusMiB(fmt.Sprintf("/proc/%d/smaps_rollup", st.VMM.PID), "Pss")
		if err != nil {
			return err
		}
		s, err := statusMiB(fmt.Sprintf("/proc/%d/smaps_rollup", st.Supervisor.PID), "Pss")
		if err != nil {
			return err
		}
		both, vmm = append(both, q+s), append(vmm, q)
	}
	b.add(newRow("template: idle machine", "MiB", both, nil,
		"memory (Pss) of the VMM and the supervisor of each of ten machines from one template, idle after a command").atMost(60))
	b.add(newRow("template: idle VMM", "MiB", vmm, nil, "of that, the VMM's"))
	return nil
}

// measureSave measures how long a guest stands still when it is saved.
func (b *bench) measureSave(ctx context.Context, dir string) error {
	var pause, size []float64
	for i := range b.runs(5) {
		cache := filepath.Join(b.dir, fmt.Sprintf("cache%d", i))
		cmd := b.runTrue(ctx, dir, "--memory", "1GiB")
		cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+cache)
		if _, err := timed(cmd); err != nil {
			return err
		}
		all, err := template.Store{Dir: filepath.Join(cache, "mayfly", "templates")}.List()
		if err != nil {
			return err
		}
		if len(all) != 1 {
			return fmt.Errorf("%d templates were made; want one", len(all))
		}
		pause = append(pause, all[0].Pause.Seconds())
		size = append(size, float64(all[0].Bytes)/(1<<20))
		if err := os.RemoveAll(cache); err != nil {
			return err
		}
	}
	b.add(newRow("template: save", "s", pause, nil, "how long the guest of a machine of 1 GiB stands still while it is saved").atMost(0.5))
	b.add(newRow("template: size", "MiB", size, nil, "disk space of that template"))
	return nil
}
