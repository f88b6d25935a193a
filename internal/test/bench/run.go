package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/mayfly-vm/mayfly"
)

// measureStart compares a whole mayfly run with the least that a virtual
// machine can take.
func (b *bench) measureStart(ctx context.Context) error {
	dir, err := b.smallProject()
	if err != nil {
		return err
	}
	wall, cpu := b.newSeries(), b.newSeries()
	boot, end := b.newSeries(), b.newSeries()
	once := func(i int, p program) error {
		floor, err := p.floor(ctx, dir)
		if err != nil {
			return err
		}
		ours, err := spend(func() error { return run(p.runTrue(ctx, dir, "--cold")) })
		if err != nil {
			return err
		}
		var hello time.Duration
		bare, err := spend(func() (err error) {
			hello, err = bareBoot(ctx, floor)
			return err
		})
		if err != nil {
			return fmt.Errorf("bare QEMU: %w", err)
		}
		wall[i].compare(ours.wall, bare.wall)
		cpu[i].compare(ours.cpu, bare.cpu)
		boot[i].add(hello.Seconds())
		end[i].add(bare.wall - hello.Seconds())
		return nil
	}
	// The first ones warm the page cache.
	if err := b.inTurns(1, once); err != nil {
		return err
	}
	for _, s := range []series{wall, cpu, boot, end} {
		clear(s)
	}
	if err := b.inTurns(b.runs(9), once); err != nil {
		return err
	}
	b.add(wall.row("start to exit", "s",
		"mayfly run --cold --discard -- true on 10 small files; baseline: QEMU with the same kernel, initramfs, CPUs and memory, but no disks, until its init has answered, and killed").ratioAtMost(1.35))
	b.add(cpu.row("start to exit: CPU", "s", "CPU time of the same, all processes together, which other programs disturb less"))
	b.add(boot.row("start to exit: bare boot", "s", "of the baseline above: from QEMU's start to its init's answer"))
	b.add(end.row("start to exit: bare end", "s", "of the baseline above: from the kill to the end of the process"))
	return nil
}

// measureTemplate compares machines that begin from a template with such that boot.
func (b *bench) measureTemplate(ctx context.Context) error {
	dir, err := b.smallProject()
	if err != nil {
		return err
	}
	// The first one makes the template.
	if err := b.inTurns(1, func(_ int, p program) error { return run(p.runTrue(ctx, dir)) }); err != nil {
		return err
	}
	wall, cpu, absolute := b.newSeries(), b.newSeries(), b.newSeries()
	err = b.inTurns(b.runs(15), func(i int, p program) error {
		ours, err := spend(func() error { return run(p.runTrue(ctx, dir)) })
		if err != nil {
			return err
		}
		cold, err := spend(func() error { return run(p.runTrue(ctx, dir, "--cold")) })
		wall[i].compare(ours.wall, cold.wall)
		cpu[i].compare(ours.cpu, cold.cpu)
		absolute[i].add(ours.wall)
		return err
	})
	if err != nil {
		return err
	}
	b.add(wall.row("template: start to exit", "s",
		"mayfly run --discard -- true on 10 small files, from a template; baseline: the same with --cold").ratioAtMost(0.2))
	b.add(absolute.row("template: absolute", "s", "of that, the time itself, which is for a quiet machine").atMost(0.5))
	b.add(cpu.row("template: CPU", "s", "CPU time of the same, all processes together"))
	return nil
}

// measureClaude measures the time to the first output of a real agent.
func (b *bench) measureClaude(ctx context.Context) error {
	dir, err := b.smallProject()
	if err != nil {
		return err
	}
	firstOutput := func(flags ...string) (float64, error) {
		args := append([]string{"run", "--discard", "--no-detect", "--profile", "claude"}, flags...)
		cmd := b.programs[0].command(ctx, dir, append(args, "--", "claude", "--version")...)
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
		io.Copy(io.Discard, r)
		return took.Seconds(), errors.Join(readErr, cmd.Wait())
	}
	// The image, if it is not there, and the template.
	if _, err := firstOutput(); err != nil {
		fmt.Fprintf(b.log, "the agent's row is left out: %v\n", err)
		return ctx.Err()
	}
	v, err := pairs(b.runs(5), func() (float64, error) { return firstOutput() }, func() (float64, error) { return firstOutput("--cold") })
	if err != nil {
		return err
	}
	b.add(v.row("template: claude --version", "s",
		"from the start of mayfly run to the first output of claude --version, from a prewarmed template; baseline: the same with --cold").ratioAtMost(0.4))
	return nil
}

// Machines whose memory is measured: so many at once, after a time in which each comes
// to rest.
const (
	idleMachines = 10
	idle         = 5 * time.Second
)

// measureIdle measures what a machine costs that does nothing, beside others.
func (b *bench) measureIdle(ctx context.Context) error {
	dir, err := b.smallProject()
	if err != nil {
		return err
	}
	both, vmm := b.newSeries(), b.newSeries()
	err = b.inTurns(1, func(i int, p program) error {
		return measureIdle(ctx, p, dir, &both[i], &vmm[i])
	})
	if err != nil {
		return err
	}
	b.add(both.row("template: idle machine", "MiB",
		"memory (Pss) of the VMM and the supervisor of each of ten machines from one template, idle after a command").atMost(60))
	b.add(vmm.row("template: idle VMM", "MiB", "of that, the VMM's"))
	return nil
}

func measureIdle(ctx context.Context, p program, dir string, both, vmm *values) (err error) {
	// The first one makes the template.
	if err := run(p.runTrue(ctx, dir)); err != nil {
		return err
	}
	remove := []string{"rm"}
	defer func() {
		if len(remove) > 1 {
			err = errors.Join(err, run(p.command(context.WithoutCancel(ctx), dir, remove...)))
		}
	}()
	for i := range idleMachines {
		name := fmt.Sprintf("idle%d", i)
		if err := run(p.command(ctx, dir, "run", "--keep", "--name", name, "--no-detect", "--", "true")); err != nil {
			return err
		}
		remove = append(remove, name)
	}
	if err := sleep(ctx, idle); err != nil {
		return err
	}
	var usage []mayfly.Usage
	var list []mayfly.Info
	if err := errors.Join(p.json(ctx, dir, &usage, "top", "--json"), p.json(ctx, dir, &list, "ls", "--json")); err != nil {
		return err
	}
	if len(usage) != idleMachines || len(list) != idleMachines {
		return fmt.Errorf("%d and %d machines are listed; want %d", len(usage), len(list), idleMachines)
	}
	for i := range usage {
		both.add(float64(usage[i].Memory) / (1 << 20))
		vmm.add(float64(list[i].MemoryUsed) / (1 << 20))
	}
	return nil
}

// measureSave measures how long a guest stands still when it is saved.
func (b *bench) measureSave(ctx context.Context) error {
	dir, err := b.smallProject()
	if err != nil {
		return err
	}
	var pause, size values
	for i := range b.runs(5) {
		cache := filepath.Join(b.dir, fmt.Sprintf("cache%d", i))
		p := b.programs[0].with("XDG_CACHE_HOME=" + cache)
		if err := run(p.runTrue(ctx, dir, "--memory", "1GiB")); err != nil {
			return err
		}
		var images []struct {
			Templates []struct {
				Pause time.Duration
				Bytes int64
			}
		}
		c, err := mayfly.New(mayfly.Options{Getenv: p.getenv, Program: p.path})
		if err != nil {
			return err
		}
		list, err := c.Images()
		if err != nil {
			return err
		}
		if err := convert(list, &images); err != nil {
			return err
		}
		made := 0
		for _, img := range images {
			for _, t := range img.Templates {
				pause.add(t.Pause.Seconds())
				size.add(float64(t.Bytes) / (1 << 20))
				made++
			}
		}
		if made != 1 {
			return fmt.Errorf("%d templates were made; want one", made)
		}
		if err := os.RemoveAll(cache); err != nil {
			return err
		}
	}
	b.add(pause.row("template: save", "s", "how long the guest of a machine of 1 GiB stands still while it is saved").atMost(0.5))
	b.add(size.row("template: size", "MiB", "disk space of that template"))
	return nil
}
