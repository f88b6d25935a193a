// Package bench measures what mayfly promises in numbers.
//
// It takes a built mayfly and gives rows: a table for people, bench.json for
// programs. Where there is something to compare with, that is measured in the
// same run, in turns, on the same machine: an absolute time says little on a
// shared or emulated one. Nothing here fails because a target was missed; the
// row says so.
//
// It is no test, and no test calls it: times on a busy machine are not right
// or wrong.
package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// options are the flags.
type options struct {
	mayfly string
	output string
	quick  bool
	wait   time.Duration
	parts  string
}

// bench is one run.
type bench struct {
	options
	self string // this program, for what is measured in a process of its own
	dir  string // scratch, removed at the end
	log  io.Writer
	rows []Row
}

// part is a group of rows that are measured together.
type part struct {
	letter string
	what   string
	vm     bool // runs virtual machines
	run    func(*bench, context.Context) error
}

func parts() []part {
	return []part{
		{"s", "start to exit", true, (*bench).measureStart},
		{"t", "templates", true, (*bench).measureTemplate},
		{"n", "the network", true, (*bench).measureNetwork},
		{"m", "a running machine", true, (*bench).measureMachine},
		{"d", "machines with names", true, (*bench).measureNamed},
		{"e", "the EROFS writer", false, (*bench).measureErofs},
		{"w", "packing a workspace", false, (*bench).measurePack},
	}
}

// Main runs the benchmarks and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == childCommand {
		if err := child(args[1:], stdout); err != nil {
			fmt.Fprintln(stderr, "mayfly-bench:", err)
			return 1
		}
		return 0
	}
	b := &bench{log: stderr}
	f := flag.NewFlagSet("mayfly-bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&b.mayfly, "mayfly", "bin/mayfly", "the `program` to measure")
	f.StringVar(&b.output, "o", "bench.json", "the `file` to write")
	f.BoolVar(&b.quick, "quick", false, "fewer repetitions")
	f.DurationVar(&b.wait, "wait", 3*time.Minute, "wait at most so long for other programs to rest")
	f.StringVar(&b.parts, "parts", "", "only some parts, by letter: e erofs, w workspace, s start, t templates, n network, m machine, d named machines")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil || f.NArg() > 0:
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := b.run(ctx, stdout); err != nil {
		fmt.Fprintln(stderr, "mayfly-bench:", err)
		return 1
	}
	return 0
}

func (b *bench) run(ctx context.Context, stdout io.Writer) error {
	var err error
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.mayfly, err = filepath.Abs(b.mayfly); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("/var/tmp", "mayfly-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)

	// Without an image the machines' parts fail with a better message, and the
	// others measure with something else.
	build := exec.CommandContext(ctx, b.mayfly, "image", "build", "--no-workspace", "--no-detect")
	build.Stderr = b.log
	if err := build.Run(); err != nil {
		fmt.Fprintf(b.log, "mayfly image build: %v\n", err)
	}
	env := newEnvironment(ctx, b.mayfly)
	for _, vm := range []bool{true, false} {
		if err := b.runParts(ctx, vm, &env); err != nil {
			return err
		}
	}
	env.loadAfter = loadAverage()
	r := report{env, b.rows}
	r.print(stdout)
	return r.write(b.output)
}

// runParts runs the parts that were asked for: those with virtual machines, or
// the others.
func (b *bench) runParts(ctx context.Context, vm bool, env *environment) error {
	var chosen []part
	for _, p := range parts() {
		if p.vm == vm && (b.parts == "" || strings.Contains(b.parts, p.letter)) {
			chosen = append(chosen, p)
		}
	}
	if vm && len(chosen) > 0 {
		release, err := lockVM(ctx)
		if err != nil {
			return err
		}
		defer release()
	}
	for _, p := range chosen {
		if err := b.measure(ctx, p, env); err != nil {
			return fmt.Errorf("measure %s: %w", p.what, err)
		}
	}
	return nil
}

// measure runs one part on a machine that is as quiet as it gets.
func (b *bench) measure(ctx context.Context, p part, env *environment) error {
	busy, err := awaitQuiet(ctx, b.wait, b.log)
	if err != nil {
		return err
	}
	env.busy = max(env.busy, busy)
	fmt.Fprintf(b.log, "measuring %s\n", p.what)
	return p.run(b, ctx)
}

// runs returns the number of repetitions: n, or fewer when it is to be quick.
func (b *bench) runs(n int) int {
	if b.quick {
		return max(2, n/3)
	}
	return n
}

// vmLock names the file that programs of ours lock while they run emulated
// machines for a test or a measurement: two at once on two cores disturb each
// other.
const vmLock = "mayfly-vm.lock"

func lockVM(ctx context.Context) (release func(), err error) {
	f, err := os.OpenFile(filepath.Join(os.TempDir(), vmLock), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	// Waits in the kernel's queue, since whoever only asks now and then never
	// gets a lock that others wait for.
	locked := make(chan error, 1)
	go func() {
		for {
			err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
			if err != unix.EINTR {
				locked <- err
				return
			}
		}
	}()
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx) // and with the process the file goes
	case err := <-locked:
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		return func() { f.Close() }, nil
	}
}
