package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly"
)

// environment is where the numbers are from. Without it they mean nothing.
type environment struct {
	programs                       []string // the first lines of their mayfly version
	golang, cpu, kernel            string
	cores                          int
	accelerator, qemu, guestKernel string
	loadBefore, loadAfter          float64 // average of one minute, ours among it
	// busy is the share of all CPUs that other programs used when a group
	// began, at worst.
	busy float64
}

func (b *bench) newEnvironment(ctx context.Context) environment {
	e := environment{
		golang: runtime.Version(), cpu: cpuModel(), cores: runtime.NumCPU(), loadBefore: loadAverage(),
		guestKernel: b.image.Kernel.Version,
	}
	for _, p := range b.programs {
		out, err := output(p.command(ctx, b.dir, "version"))
		if err != nil {
			out = []byte(p.path)
		}
		first, _, _ := strings.Cut(string(out), "\n")
		e.programs = append(e.programs, first)
	}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		e.kernel = unix.ByteSliceToString(uts.Release[:])
	}
	// What a machine would be like. A group that needs one finds out why
	// there is none.
	if p, err := b.plan(ctx); err == nil {
		e.accelerator, e.qemu = p.Machine.Accelerator, p.Machine.Engine.Version
	}
	return e
}

// machinePlan is what matters here of a machine's plan, as its JSON has it.
type machinePlan struct {
	Machine struct {
		Accelerator string
		Engine      struct{ Version string }
	}
}

// plan returns how a machine would be made.
func (b *bench) plan(ctx context.Context) (machinePlan, error) {
	var p machinePlan
	c, err := b.client(nil)
	if err != nil {
		return p, err
	}
	d, err := c.DryRun(ctx, mayfly.Spec{NoWorkspace: true, NoDetect: true})
	if err != nil {
		return p, err
	}
	return p, convert(d.Plan, &p)
}

func (e environment) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %s, %d cores, Linux %s, %s\n", strings.Join(e.programs, " against "), e.cpu, e.cores, e.kernel, e.golang)
	fmt.Fprintf(w, "guests: %s, QEMU %s, Linux %s\n", e.accelerator, e.qemu, e.guestKernel)
	fmt.Fprintf(w, "load average %.2f before, %.2f after; others used at most %.0f %% of the CPUs when a group began\n", e.loadBefore, e.loadAfter, e.busy*100)
	if e.loadBefore > 1 || e.busy > quiet {
		fmt.Fprintln(w, "NOT QUIET: only the ratios, and the CPU times, mean something")
	}
}

func cpuModel() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func loadAverage() float64 {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(data), " ")
	load, _ := strconv.ParseFloat(first, 64)
	return load
}

// quiet is the share of the CPUs that others may use while we measure.
const quiet = 0.05

// awaitQuiet waits until other programs use next to nothing, but no longer
// than most. It returns the share that they used in the end. The load average
// would not do: it remembers a minute.
func awaitQuiet(ctx context.Context, most time.Duration, log io.Writer) (float64, error) {
	deadline := time.Now().Add(most)
	for said := false; ; {
		busy, err := busyShare(ctx, time.Second)
		if err != nil || busy <= quiet || time.Now().After(deadline) {
			return busy, err
		}
		if !said {
			fmt.Fprintf(log, "waiting at most %v for other programs to rest\n", most)
			said = true
		}
	}
}

func busyShare(ctx context.Context, over time.Duration) (float64, error) {
	idle0, all0, err := cpuTicks()
	if err != nil {
		return 0, err
	}
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-time.After(over):
	}
	idle1, all1, err := cpuTicks()
	if err != nil || all1 == all0 {
		return 0, err
	}
	return 1 - float64(idle1-idle0)/float64(all1-all0), nil
}

// cpuTicks returns the idle and all times of all CPUs, proc_stat(5).
func cpuTicks() (idle, all uint64, err error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	for i, field := range strings.Fields(string(line))[1:] {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("read /proc/stat: %w", err)
		}
		const idleField, iowait, guest = 3, 4, 8
		if i == idleField || i == iowait {
			idle += n
		}
		if i < guest { // what follows is counted as user time already
			all += n
		}
	}
	return idle, all, nil
}

// statusMiB returns a field of /proc/PID/status or smaps_rollup, in MiB.
func statusMiB(file, field string) (float64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, field)
}
