// Package bench measures what mayfly promises in numbers.
//
// It takes a built mayfly and gives rows: a table for people, bench.json for
// programs. Where there is something to compare with, that is measured in the
// same run, in turns, on the same machine: an absolute time says little on a
// shared or emulated one. Nothing here fails because a target was missed; the
// row says so.
//
// What a user waits for is measured as a whole process of the built mayfly. Parts
// of it are measured through package mayfly. Internal packages are imported only
// for a layer below that, and for what is compared with.
//
// It is no test, and no test calls it: times on a busy machine are not right
// or wrong.
package bench

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/machine"
)

// options are the flags.
type options struct {
	mayfly  string
	against string
	output  string
	quick   bool
	wait    time.Duration
	groups  []group
}

// bench is one run.
type bench struct {
	options
	self string // this program, for what is measured in a process of its own
	dir  string // scratch, removed at the end
	log  io.Writer
	rows []Row

	// programs are the mayfly that is measured and, with -against, the other one.
	programs []program
	image    imageFiles
}

// imageFiles is what matters here of the default image, as its JSON has it.
type imageFiles struct {
	Kernel struct{ Version string }
	Layers []struct { // the top one first
		Path  string
		Bytes int64
	}
	Scratch string
}

// group is rows that are measured together.
type group struct {
	name string
	what string
	vm   bool // runs virtual machines
	run  func(*bench, context.Context) error
}

func allGroups() []group {
	return []group{
		{"start", "start to exit", true, (*bench).measureStart},
		{"template", "starts from a template", true, (*bench).measureTemplate},
		{"first", "the first command", true, (*bench).measureFirst},
		{"claude", "the first output of claude", true, (*bench).measureClaude},
		{"paint", "the first paint of coding agents", true, (*bench).measurePaint},
		{"idle", "idle machines", true, (*bench).measureIdle},
		{"save", "saving a template", true, (*bench).measureSave},
		{"transfer", "the network's throughput", true, (*bench).measureTransfer},
		{"network", "what the network adds", true, (*bench).measureNetwork},
		{"machine", "a running machine", true, (*bench).measureMachine},
		{"ls", "the list of machines", true, (*bench).measureList},
		{"ssh", "commands by SSH", true, (*bench).measureSSH},
		{"scp", "copies by SSH", true, (*bench).measureSCP},
		{"modes", "a copy against a live workspace", true, (*bench).measureModes},
		{"intercept", "the proxy", false, (*bench).measureInterception},
		{"erofs", "the EROFS writer", false, (*bench).measureErofs},
		{"pack", "packing a workspace", false, (*bench).measurePack},
		{"review", "the review of changes, and an apply", false, (*bench).measureReview},
		{"commits", "commits that come back", false, (*bench).measureCommits},
	}
}

// chooseGroups returns the groups with these names, between commas.
func chooseGroups(names string) ([]group, error) {
	var chosen []group
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(allGroups(), func(g group) bool { return g.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there are only %s", groupNames())
		}
		chosen = append(chosen, allGroups()[i])
	}
	return chosen, nil
}

func groupNames() string {
	var names []string
	for _, g := range allGroups() {
		names = append(names, g.name)
	}
	return strings.Join(names, ", ")
}

// Main runs the benchmarks and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	if len(args) == 2 && args[0] == machine.Word && machine.Spawned(args[1]) {
		machine.Main(args[1]) // a VMM of ours
		return 1
	}
	if len(args) > 0 && args[0] == childCommand {
		if err := child(args[1:], stdout); err != nil {
			fmt.Fprintln(stderr, "mayfly-bench:", err)
			return 1
		}
		return 0
	}
	b := &bench{log: stderr}
	b.groups = allGroups()
	f := flag.NewFlagSet("mayfly-bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&b.mayfly, "mayfly", "bin/mayfly", "the `program` to measure, built from the same source as this one")
	f.StringVar(&b.against, "against", "", "another mayfly `program`, to measure start, template, idle, ls, ssh and scp of in turns with the first")
	f.StringVar(&b.output, "o", "bench.json", "the `file` to write")
	f.BoolVar(&b.quick, "quick", false, "fewer repetitions")
	f.DurationVar(&b.wait, "wait", 3*time.Minute, "wait at most so long for other programs to rest")
	f.Func("rows", "only these `groups` of rows, between commas: "+groupNames(), func(names string) (err error) {
		b.groups, err = chooseGroups(names)
		return err
	})
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil || f.NArg() > 0:
		return 2
	}
	if slices.ContainsFunc(b.groups, func(g group) bool { return g.vm }) {
		if err := lockVM(); err != nil {
			fmt.Fprintln(stderr, "mayfly-bench:", err)
			return 1
		}
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
	if b.dir, err = os.MkdirTemp("/var/tmp", "mayfly-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if err := b.addPrograms(); err != nil {
		return err
	}
	if err := b.buildImages(ctx); err != nil {
		// The groups with machines fail with a better message, and the others
		// measure with something else.
		fmt.Fprintf(b.log, "build the image: %v\n", err)
	}
	env := b.newEnvironment(ctx)
	// What was measured is worth telling, also when something else does not work.
	var failed error
	for _, g := range b.groups {
		if err := b.measure(ctx, g, &env); err != nil {
			failed = errors.Join(failed, fmt.Errorf("measure %s: %w", g.what, err))
		}
		if ctx.Err() != nil {
			return failed
		}
	}
	env.loadAfter = loadAverage()
	r := report{env, b.rows}
	r.print(stdout)
	return errors.Join(failed, r.write(b.output))
}

// addPrograms makes the programs of their files, each with a state of its own: two
// versions need not understand each other's machines.
func (b *bench) addPrograms() error {
	for i, file := range []string{b.mayfly, b.against} {
		if file == "" {
			continue
		}
		path, err := filepath.Abs(file)
		if err != nil {
			return err
		}
		state := filepath.Join(b.dir, fmt.Sprintf("state%d", i))
		b.programs = append(b.programs, program{path, append(os.Environ(), "XDG_STATE_HOME="+state)})
	}
	return nil
}

// buildImages builds what the machines of all programs need.
func (b *bench) buildImages(ctx context.Context) error {
	c, err := b.client(nil)
	if err != nil {
		return err
	}
	img, err := c.BuildImage(ctx, mayfly.Spec{NoWorkspace: true, NoDetect: true})
	if err != nil {
		return err
	}
	if err := convert(img, &b.image); err != nil {
		return err
	}
	for _, p := range b.programs[1:] {
		if err := run(p.command(ctx, b.dir, "image", "build", "--no-workspace", "--no-detect")); err != nil {
			return err
		}
	}
	return nil
}

// convert sets to by the JSON of from, of which package mayfly has no type.
func convert(from, to any) error {
	data, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, to)
}

// measure runs one group on a machine that is as quiet as it gets.
func (b *bench) measure(ctx context.Context, g group, env *environment) error {
	busy, err := awaitQuiet(ctx, b.wait, b.log)
	if err != nil {
		return err
	}
	env.busy = max(env.busy, busy)
	fmt.Fprintf(b.log, "measuring %s", g.what)
	begun := time.Now()
	defer func() { fmt.Fprintf(b.log, ": %.0f s\n", time.Since(begun).Seconds()) }()
	return g.run(b, ctx)
}

// runs returns the number of repetitions: n, or fewer when it is to be quick.
func (b *bench) runs(n int) int {
	if b.quick {
		return max(2, n/3)
	}
	return n
}

// lockVM waits until no other program of ours runs emulated machines for a test or a
// measurement: two at once on two cores disturb each other. The lock ends with the
// process.
func lockVM() error {
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "mayfly-vm.lock"), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	// Waits in the kernel's queue: who only asks now and then never gets a lock that
	// others wait for.
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != unix.EINTR {
			return err
		}
	}
}
