package supervisor

import (
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/diskspace"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/test/fakevmm"
)

// rig is a supervisor whose VMMs are fake.
type rig struct {
	*supervisor
	driver *fakevmm.Driver
	heard  *recorder
	lock   *state.Lock
}

// recorder is an owner's end of the pipe of events.
type recorder struct {
	mu     sync.Mutex // guards events
	events []control.Event
}

func (r *recorder) Write(line []byte) (int, error) {
	var e control.Event
	if err := json.Unmarshal(line, &e); err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	return len(line), nil
}

func (r *recorder) all() []control.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]control.Event(nil), r.events...)
}

// phases returns the phases in their order.
func (r *recorder) phases() (phases []control.Phase) {
	for _, e := range r.all() {
		if e.Phase != "" {
			phases = append(phases, e.Phase)
		}
	}
	return phases
}

// notes returns the remarks for the user.
func (r *recorder) notes() (notes []string) {
	for _, e := range r.all() {
		if e.Note != "" {
			notes = append(notes, e.Note)
		}
	}
	return notes
}

// always is a script for every VMM.
func always(s fakevmm.Script) func(int, machine.Spec) fakevmm.Script {
	return func(int, machine.Spec) fakevmm.Script { return s }
}

// only is a script for one VMM.
func only(n int, s fakevmm.Script) func(int, machine.Spec) fakevmm.Script {
	return func(i int, _ machine.Spec) fakevmm.Script {
		if i == n {
			return s
		}
		return nil
	}
}

// newRig returns a supervisor of a machine with a workspace and no network. change
// changes its plan, unless it is nil.
func newRig(t testing.TB, script func(int, machine.Spec) fakevmm.Script, change func(*plan.Plan)) *rig {
	t.Helper()
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	img := image.Image{
		Key: "image", Kernel: image.Kernel{ID: "kernel", Path: file("kernel", "k")}, Initramfs: file("initramfs", "i"),
		Layers: []image.Layer{{Path: file("layer", "l"), SHA256: "layer"}}, Scratch: file("scratch", "s"),
	}
	p := plan.Plan{
		Version:   plan.Version,
		Name:      "m",
		Machine:   plan.Machine{Accelerator: plan.TCG, VCPUs: 1, MemoryMiB: 16, Engine: plan.Engine{Name: "fake", Path: file("vmm", "v")}},
		Network:   plan.Network{Mode: plan.NetworkNone},
		Workspace: plan.Workspace{Path: filepath.Dir(file("ws/file", "content")), Mode: plan.ModeCopy},
		Disk:      plan.DiskSize, // its scratch disk is no file system
		Template:  plan.Template{Reason: "not asked for", Dir: filepath.Join(dir, "templates")},
	}
	if change != nil {
		change(&p)
	}
	store := state.Open(filepath.Join(dir, "state"))
	m, lock, err := store.Create(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lock.Release)
	d := &fakevmm.Driver{Script: script}
	heard := &recorder{}
	return &rig{
		supervisor: &supervisor{
			machine: m, plan: p, image: img, driver: d, log: slog.New(slog.DiscardHandler),
			events: newEvents(heard), owner: newOwner(), measure: roomy, held: make(held),
		},
		driver: d, heard: heard, lock: lock,
	}
}

// roomy measures a file system with room for all that a machine can write.
func roomy(string) (diskspace.Usage, error) {
	return diskspace.Usage{Total: 1 << 50, Free: 1 << 50}, nil
}

// withTemplate lets a machine begin from a template.
func withTemplate(p *plan.Plan) { p.Template.Use, p.Template.Reason = true, "" }

// up starts the machine and ends it with the test.
func (r *rig) up(t testing.TB) *running {
	t.Helper()
	m, err := r.start(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// checkEnded fails the test if a VMM runs.
func (r *rig) checkEnded(t testing.TB) {
	t.Helper()
	for i, v := range r.driver.VMMs() {
		select {
		case <-v.Done():
		default:
			t.Errorf("VMM %d runs", i)
		}
	}
}

// alone runs a test of bubbles in a process of its own, and reports whether this is that
// process. The multiplexer keeps timers in a pool of the process, and what other tests
// have left running puts timers there that a bubble cannot use.
func alone(t *testing.T) bool {
	t.Helper()
	const variable = "MAYFLY_TEST_ALONE"
	if os.Getenv(variable) == t.Name() {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), variable+"="+t.Name())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// bubble runs f with a clock of its own, in a test that is alone.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	dropTimers()
	defer dropTimers()
	synctest.Test(t, f)
}

// dropTimers empties the pool in which the multiplexer keeps its timers: one of a bubble
// cannot be used in the next. A sync.Pool holds nothing for longer than two
// collections.
func dropTimers() {
	runtime.GC()
	runtime.GC()
}
