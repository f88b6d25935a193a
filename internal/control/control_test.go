package control

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// newMachine makes a machine's directory, with its lock held.
func newMachine(t testing.TB, dir, name string) (state.Store, state.Machine, *state.Lock) {
	t.Helper()
	store := state.Open(dir)
	m, lock, err := store.Create(plan.Plan{Version: plan.Version, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lock.Release)
	return store, m, lock
}

func TestDialNobody(t *testing.T) {
	_, m, _ := newMachine(t, t.TempDir(), "m")
	if _, err := OpenGuest(t.Context(), m); fault.CodeOf(err) != fault.MachineNotRunning {
		t.Errorf("OpenGuest() without a supervisor = %v; want %s", err, fault.MachineNotRunning)
	}
	l, err := Listen(m)
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // the name stays, as after a kill -9
	if _, err := OpenGuest(t.Context(), m); err == nil {
		t.Error("OpenGuest() of a dead supervisor = nil; want an error")
	}
	if err := m.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenGuest(t.Context(), m); err == nil {
		t.Error("OpenGuest() of no machine = nil; want an error")
	}
}

// What a supervisor that was taken over puts in the token's place is not shown to it.
func TestTokenReplaced(t *testing.T) {
	for name, replace := range map[string]func(path, secret string) error{
		"a link":      func(path, secret string) error { return os.Symlink(secret, path) },
		"a hard link": func(path, secret string) error { return os.Link(secret, path) },
		"a pipe":      func(path, _ string) error { return unix.Mkfifo(path, 0o600) },
		"a directory": func(path, _ string) error { return os.Mkdir(path, 0o700) },
	} {
		dir := t.TempDir()
		_, m, _ := newMachine(t, dir, "m")
		l, err := Listen(m)
		if err != nil {
			t.Fatal(err)
		}
		heard := make(chan int64, 1)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				t.Error(err)
				heard <- 0
				return
			}
			defer conn.Close()
			n, _ := io.Copy(io.Discard, conn)
			heard <- n
		}()
		secret, path := filepath.Join(dir, "secret"), m.File(state.TokenFile)
		// As long as a token.
		if err := errors.Join(os.WriteFile(secret, []byte(strings.Repeat("key-of-the-user!", 4)), 0o600), os.Remove(path), replace(path, secret)); err != nil {
			t.Fatal(err)
		}
		if conn, err := OpenGuest(t.Context(), m); err == nil {
			conn.Close()
			t.Errorf("%s: OpenGuest() = nil; want an error", name)
		}
		if n := <-heard; n > 0 {
			t.Errorf("%s: the supervisor heard %d bytes; want none", name, n)
		}
		l.Close()
	}
}

func TestCollect(t *testing.T) {
	dir := t.TempDir()
	store, alive, _ := newMachine(t, dir, "alive")
	_, dead, lock := newMachine(t, dir, "dead")
	lock.Release()
	// What a killed process leaves, and what looks like it for a moment.
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{".half-1", ".dead-m-2", ".fresh-3"} {
		path := filepath.Join(store.Dir, name)
		if err := os.MkdirAll(filepath.Join(path, "sub"), 0o700); err != nil {
			t.Fatal(err)
		}
		if name != ".fresh-3" {
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	removed, err := Collect(store)
	slices.Sort(removed)
	if want := []string{".dead-m-2", ".half-1", "dead"}; err != nil || !slices.Equal(removed, want) {
		t.Errorf("Collect() = %q, %v; want %q", removed, err, want)
	}
	if _, err := os.Stat(dead.Dir); !os.IsNotExist(err) {
		t.Errorf("the dead machine's directory: %v; want it gone", err)
	}
	if !alive.Alive() {
		t.Error("the live machine is dead")
	}
	if err := Remove(alive); !errors.Is(err, state.ErrAlive) {
		t.Errorf("Remove() of the live machine = %v; want %v", err, state.ErrAlive)
	}
	if err := Remove(dead); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("Remove() of what is gone = %v; want %v", err, state.ErrNotFound)
	}
}

// Ready gives up with its context, and says what the supervisor said last.
func TestOwnerEvents(t *testing.T) {
	for _, tt := range []struct{ name, lines, want string }{
		{"ready", `{"phase":"boot"}` + "\n" + `{"ready":true}` + "\n", ""},
		{"error", `{"phase":"boot"}` + "\n" + `{"error":"no disk","code":"disk-full","args":{"dir":"/d"}}` + "\n", "no disk"},
		{"the end", `{"phase":"boot"}` + "\n", "ended unexpectedly"},
		{"garbage", "garbage\n", "ended unexpectedly"},
	} {
		r, w := io.Pipe()
		ch := make(chan Event, 16)
		o := &Owner{Events: ch}
		go o.read(r, ch)
		go func() {
			io.WriteString(w, tt.lines)
			w.Close()
		}()
		var phases []string
		err := o.Ready(t.Context(), func(e Event) { phases = append(phases, string(e.Phase)) })
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Ready() = %v; want %q", tt.name, err, tt.want)
		}
		if f, ok := fault.Of(err); tt.name == "error" && (!ok || f.Code != fault.DiskFull || f.Args["dir"] != "/d") {
			t.Errorf("%s: the failure is %+v; want %s", tt.name, f, fault.DiskFull)
		}
		if len(phases) > 0 && phases[0] != "boot" {
			t.Errorf("%s: events %q; want boot first", tt.name, phases)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := &Owner{Events: make(chan Event)}
	if err := o.Ready(ctx, func(Event) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("Ready() = %v; want %v", err, context.Canceled)
	}
}

// A supervisor that stands still holds up nobody who asks it for longer than it may take.
func TestSilentSupervisor(t *testing.T) {
	for name, ask := range map[string]func(context.Context, state.Machine) error{
		"stop": stop,
		"network": func(ctx context.Context, m state.Machine) error {
			_, err := changeNetwork(ctx, m, NetworkChange{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, m, _ := newMachine(t, t.TempDir(), "m")
			l, err := Listen(m) // and never answer
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errSilent)
			defer cancel()
			if err := ask(ctx, m); !errors.Is(err, errSilent) {
				t.Errorf("it returns %v; want %v", err, errSilent)
			}
		})
	}
}
