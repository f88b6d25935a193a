// Package conformance is the suite that every machine.Driver passes.
//
// It knows of an engine what package machine says, and talks to the guest as the
// supervisor does. A driver with an engine passes it with a real image, the fake one
// with whatever files it is given.
package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// Suite is what is tested.
type Suite struct {
	Driver machine.Driver
	// Spec is a machine with an image: a kernel, an initramfs, and one layer in
	// plan.SlotFirstLayer. It is not changed.
	Spec machine.Spec
	// Timeout bounds what a guest takes for one step.
	Timeout time.Duration
}

// parentVariable makes this program the parent of a VMM that is to die with it. Its
// value is a machine.Spec, as JSON.
const parentVariable = "MAYFLY_CONFORMANCE_PARENT"

// Parent is to be called first by a test of a driver whose VMMs are processes: in the
// process that the suite starts it does not return.
func Parent(t *testing.T, d machine.Driver) {
	text := os.Getenv(parentVariable)
	if text == "" {
		return
	}
	var spec machine.Spec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		t.Fatal(err)
	}
	v, err := d.Start(t.Context(), spec, machine.Files{Log: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("\npid %d\n", v.PID())
	<-v.Done()
	t.Fatal("the VMM ended before its parent")
}

// Run tests the driver of s.
func Run(t *testing.T, s Suite) {
	t.Run("command", s.testCommand)
	t.Run("capabilities", s.testCapabilities)
	t.Run("life", s.testLife)
	t.Run("events", s.testEvents)
	t.Run("quit", s.testQuit)
	t.Run("kill", s.testKill)
	t.Run("start fails", s.testStartFails)
	t.Run("save and restore", s.testSaveRestore)
	t.Run("restore garbage", s.testRestoreGarbage)
	t.Run("dies with its parent", s.testDiesWithParent)
}

// A command line is the same for the same hardware, and names what it is started from.
func (s Suite) testCommand(t *testing.T) {
	c := s.Driver.Command(s.Spec)
	if again := s.Driver.Command(s.Spec); !reflect.DeepEqual(c, again) {
		t.Errorf("Command() = %v, and then %v", c, again)
	}
	if c.Path != s.Spec.Machine.Engine.Path {
		t.Errorf("Command().Path = %s; want the engine, %s", c.Path, s.Spec.Machine.Engine.Path)
	}
}

// What a driver has not is refused, and what every machine needs is there.
func (s Suite) testCapabilities(t *testing.T) {
	c := s.Driver.Capabilities()
	if c.Control == "" {
		t.Error("there is no way to talk to a guest")
	}
	if err := c.Check(s.Spec); err != nil {
		t.Errorf("Check() of an ordinary machine = %v", err)
	}
	many := s.Spec
	many.Kept = make([]machine.Disk, c.Disks-plan.DiskSlots+1)
	for name, tt := range map[string]struct {
		spec machine.Spec
		has  bool
	}{
		"incoming":       {s.with(func(m *machine.Spec) { m.Incoming = true }), c.Save},
		"shares":         {s.with(func(m *machine.Spec) { m.Shares = []machine.Share{{Tag: "share0"}} }), c.Shares},
		"stream":         {s.with(func(m *machine.Spec) { m.Card = &machine.Card{} }), c.Stream},
		"tap":            {s.with(func(m *machine.Spec) { m.Card = &machine.Card{Tap: true} }), c.Tap},
		"too many disks": {many, false},
	} {
		if err := c.Check(tt.spec); (err == nil) != tt.has {
			t.Errorf("%s: Check() = %v; the driver has it: %v", name, err, tt.has)
		}
	}
}

// with returns the machine with a change.
func (s Suite) with(change func(*machine.Spec)) machine.Spec {
	spec := s.Spec
	change(&spec)
	return spec
}

// A guest boots, answers in one conversation and then in another, finds its disks by
// their serial numbers, ends when it is asked to, and prints on its console.
func (s Suite) testLife(t *testing.T) {
	v := s.start(t, s.Spec)
	first := s.dial(t, v)
	s.hello(t, first)
	first.Close() // else it would read what is for the next one
	g := s.dial(t, v)
	s.hello(t, g)
	if err := s.prepare(t, g, machine.Serial(plan.SlotFirstLayer)); err != nil {
		t.Fatalf("the layer is not found: %v", err)
	}
	client.PowerOff(s.open(t, g)) // the guest may be gone before this returns
	if err := s.ended(t, v); err != nil {
		t.Errorf("Err() after the guest powered off = %v; want nil", err)
	}
	v.copied.Wait()
	if v.console() == "" {
		t.Error("the console was silent; want at least that the power is off")
	}
	// A slot without a disk is no layer.
	v = s.start(t, s.Spec)
	g = s.dial(t, v)
	if err := s.prepare(t, g, "no-such-disk"); err == nil {
		t.Error("a disk that is not there was found")
	}
}

// A VMM tells why it ends, and then that there is no more to tell. One that runs can be
// told to go on.
func (s Suite) testEvents(t *testing.T) {
	for _, tt := range []struct {
		end    func(context.Context, *vmm)
		reason string
	}{
		{func(_ context.Context, v *vmm) {
			g := s.dial(t, v)
			s.hello(t, g)
			client.PowerOff(s.open(t, g))
		}, machine.ByGuest},
		{func(ctx context.Context, v *vmm) {
			if err := v.Quit(ctx); err != nil {
				t.Errorf("Quit() = %v", err)
			}
		}, machine.ByHostRequest},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), s.Timeout)
		defer cancel()
		v := s.start(t, s.Spec)
		if err := v.Continue(ctx); err != nil {
			t.Errorf("Continue() of a guest that runs = %v", err)
		}
		tt.end(ctx, v)
		told := ""
		for open := true; open; {
			var e machine.Event
			select {
			case e, open = <-v.Events():
			case <-ctx.Done():
				t.Fatal("Events() does not end")
			}
			if e.Kind == machine.Shutdown {
				told = e.Reason
			}
		}
		if told != tt.reason {
			t.Errorf("the VMM ended by %q; want %q", told, tt.reason)
		}
	}
}

// A VMM quits without its guest's help, even one that was never spoken to.
func (s Suite) testQuit(t *testing.T) {
	v := s.start(t, s.Spec)
	ctx, cancel := context.WithTimeout(t.Context(), s.Timeout)
	defer cancel()
	if err := v.Quit(ctx); err != nil {
		t.Errorf("Quit() = %v", err)
	}
	if err := s.ended(t, v); err != nil {
		t.Errorf("Err() after Quit() = %v; want nil", err)
	}
}

// A VMM that is killed has ended when Kill returns, and so have its connections.
func (s Suite) testKill(t *testing.T) {
	v := s.start(t, s.Spec)
	g := s.dial(t, v)
	v.Kill()
	select {
	case <-v.Done():
	default:
		t.Error("Done() is open after Kill()")
	}
	v.Kill() // changes nothing
	if v.Err() == nil {
		t.Error("Err() after Kill() = nil; want an error")
	}
	if stream, err := g.Open(); err == nil {
		stream.SetDeadline(time.Now().Add(s.Timeout))
		if _, err := client.Hello(stream); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the dead guest's conversation: %v; want its end", err)
		}
	}
}

func (s Suite) testStartFails(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if v, err := s.Driver.Start(ctx, s.Spec, machine.Files{Log: io.Discard}); err == nil {
		v.Kill()
		t.Error("Start() with a context that has ended = nil; want an error")
	}
}

// A machine that was saved goes on where it was, more than once, and its memory stays
// as it is.
func (s Suite) testSaveRestore(t *testing.T) {
	if !s.Driver.Capabilities().Save {
		t.Skip("the driver cannot save")
	}
	memory, saved := s.save(t)
	before, err := os.Stat(memory)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		spec := s.with(func(m *machine.Spec) {
			m.Memory, m.Incoming = machine.PrivateMemory{Path: memory}, true
			m.Disks[plan.SlotScratch] = s.scratch(t)
		})
		v := s.start(t, spec)
		ctx, cancel := context.WithTimeout(t.Context(), s.Timeout)
		defer cancel()
		if err := v.Restore(ctx, bytes.NewReader(saved)); err != nil {
			t.Fatalf("Restore() = %v", err)
		}
		s.hello(t, s.dial(t, v))
		v.Kill()
	}
	if after, err := os.Stat(memory); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the saved memory has changed: %v, %v", after, err)
	}
}

// save boots and saves a machine, and returns its memory's file and its state.
func (s Suite) save(t *testing.T) (memory string, saved []byte) {
	t.Helper()
	memory = filepath.Join(t.TempDir(), "memory")
	f, err := os.Create(memory)
	if err == nil {
		err = errors.Join(f.Truncate(int64(s.Spec.Machine.MemoryMiB)<<20), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	v := s.start(t, s.with(func(m *machine.Spec) { m.Memory = machine.SharedMemory{Path: memory} }))
	g := s.dial(t, v)
	s.hello(t, g)
	if err := s.prepare(t, g, machine.Serial(plan.SlotFirstLayer)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), s.Timeout)
	defer cancel()
	var state bytes.Buffer
	if _, err := v.Save(ctx, &state); err != nil {
		t.Fatalf("Save() = %v", err)
	}
	v.Kill()
	if err := os.Chmod(memory, 0o400); err != nil {
		t.Fatal(err)
	}
	return memory, state.Bytes()
}

// A state that is none is an error, and no wait.
func (s Suite) testRestoreGarbage(t *testing.T) {
	if !s.Driver.Capabilities().Save {
		t.Skip("the driver cannot restore")
	}
	memory := filepath.Join(t.TempDir(), "memory")
	if err := os.WriteFile(memory, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(memory, int64(s.Spec.Machine.MemoryMiB)<<20); err != nil {
		t.Fatal(err)
	}
	v := s.start(t, s.with(func(m *machine.Spec) { m.Memory, m.Incoming = machine.PrivateMemory{Path: memory}, true }))
	ctx, cancel := context.WithTimeout(t.Context(), s.Timeout)
	defer cancel()
	if err := v.Restore(ctx, strings.NewReader("garbage")); err == nil {
		t.Error("Restore() of garbage = nil; want an error")
	}
	if ctx.Err() != nil {
		t.Error("Restore() of garbage took until its deadline")
	}
}

// A VMM dies with the process that started it, also when that is killed.
func (s Suite) testDiesWithParent(t *testing.T) {
	if s.start(t, s.Spec).PID() == 0 {
		t.Skip("the VMMs of this driver are no processes")
	}
	spec, err := json.Marshal(s.Spec)
	if err != nil {
		t.Fatal(err)
	}
	test, _, _ := strings.Cut(t.Name(), "/")
	parent := exec.Command(os.Args[0], "-test.run=^"+test+"$")
	parent.Env = append(os.Environ(), parentVariable+"="+string(spec))
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for pid == 0 {
		if _, err := fmt.Fscanf(out, "pid %d\n", &pid); errors.Is(err, io.EOF) {
			t.Fatal("the parent started no VMM")
		}
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, out)
	parent.Wait()
	for deadline := time.Now().Add(s.Timeout); running(pid); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("the VMM outlives its parent")
		}
	}
}

// running reports whether pid is there and no zombie, which its new parent may leave
// it for long.
func running(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(data), ") Z ")
}

// vmm is a VMM with what its guest printed.
type vmm struct {
	machine.VMM
	copied sync.WaitGroup // until all that the guest printed is in printed

	mu      sync.Mutex // guards printed
	printed bytes.Buffer
}

func (v *vmm) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.printed.Write(p)
}

func (v *vmm) console() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.printed.String()
}

// start starts a VMM that ends with the test. What it and its guest print is shown if
// that fails.
func (s Suite) start(t *testing.T, spec machine.Spec) *vmm {
	t.Helper()
	var log bytes.Buffer
	inner, err := s.Driver.Start(t.Context(), spec, machine.Files{Log: &log})
	if err != nil {
		t.Fatalf("Start() = %v", err)
	}
	v := &vmm{VMM: inner}
	console, err := v.Dial(t.Context(), machine.Console)
	if err != nil {
		v.Kill()
		t.Fatalf("Dial() of the console = %v", err)
	}
	v.copied.Go(func() {
		io.Copy(v, console)
		console.Close()
	})
	t.Cleanup(func() {
		v.Kill()
		v.copied.Wait()
		if t.Failed() {
			t.Logf("the VMM printed %q, and its guest %q", log.String(), v.console())
		}
	})
	return v
}

// scratch returns a disk that a guest may write.
func (s Suite) scratch(t *testing.T) machine.Disk {
	t.Helper()
	path := filepath.Join(t.TempDir(), "scratch")
	if err := os.WriteFile(path, []byte("scratch"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, plan.DiskSize); err != nil {
		t.Fatal(err)
	}
	return machine.Disk{Path: path, Writable: true}
}

// dial begins a conversation with the guest.
func (s Suite) dial(t *testing.T, v *vmm) *yamux.Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), s.Timeout)
	defer cancel()
	port, err := v.Dial(ctx, machine.Control)
	if err != nil {
		t.Fatalf("Dial() = %v", err)
	}
	session, err := wire.Dial(ctx, port)
	if err != nil {
		t.Fatalf("no conversation: %v", err)
	}
	t.Cleanup(func() { session.Close() })
	return session.Session
}

// open opens a stream to the guest.
func (s Suite) open(t *testing.T, session *yamux.Session) net.Conn {
	t.Helper()
	stream, err := session.Open()
	if err != nil {
		t.Fatal(err)
	}
	stream.SetDeadline(time.Now().Add(s.Timeout))
	return stream
}

func (s Suite) hello(t *testing.T, session *yamux.Session) {
	t.Helper()
	if _, err := client.Hello(s.open(t, session)); err != nil {
		t.Fatal(err)
	}
}

// prepare makes the guest mount a layer.
func (s Suite) prepare(t *testing.T, session *yamux.Session, serial string) error {
	t.Helper()
	_, err := client.Prepare(s.open(t, session), &wire.Prepare{Layers: []string{serial}, Scratch: machine.Serial(plan.SlotScratch)})
	return err
}

// ended waits for the VMM's end and returns why it ended.
func (s Suite) ended(t *testing.T, v *vmm) error {
	t.Helper()
	select {
	case <-v.Done():
		return v.Err()
	case <-time.After(s.Timeout):
		t.Fatal("the VMM does not end")
		return nil
	}
}
