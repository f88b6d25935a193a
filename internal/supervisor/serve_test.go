package supervisor

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// newMachine makes a machine's directory, with its lock held.
func newMachine(t testing.TB, dir, name string) (state.Store, state.Machine, *state.Lock) {
	t.Helper()
	store, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, lock, err := store.Create(plan.Plan{Version: plan.Version, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lock.Release)
	return store, m, lock
}

// serve answers for m until the test ends.
func serve(t testing.TB, m state.Machine, srv *server) {
	t.Helper()
	l, err := listen(m)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.serve(l)
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
}

// echoGuest opens streams to a guest that says back what it hears.
func echoGuest() (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		io.Copy(theirs, theirs)
		theirs.Close()
	}()
	return ours, nil
}

func checkGuest(t testing.TB, m state.Machine) {
	t.Helper()
	conn, err := OpenGuest(m)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
		t.Errorf("the guest said %q, %v; want hello", got, err)
	}
}

func TestOpenGuest(t *testing.T) {
	_, m, _ := newMachine(t, t.TempDir(), "m")
	serve(t, m, &server{guest: echoGuest})
	for range 3 {
		checkGuest(t, m)
	}
}

// A socket's path may be longer than the kernel's 108 bytes.
func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 150), strings.Repeat("e", 150))
	_, m, _ := newMachine(t, dir, strings.Repeat("m", 63))
	if n := len(m.File(state.SocketFile)); n <= 108 {
		t.Fatalf("the path has %d bytes; the test needs more", n)
	}
	serve(t, m, &server{guest: echoGuest})
	checkGuest(t, m)
}

func TestDialNobody(t *testing.T) {
	_, m, _ := newMachine(t, t.TempDir(), "m")
	if _, err := OpenGuest(m); err == nil || hint.Of(err) == "" {
		t.Errorf("OpenGuest() without a supervisor = %v; want an error with a hint", err)
	}
	l, err := listen(m)
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // the name stays, as after a kill -9
	if _, err := OpenGuest(m); err == nil {
		t.Error("OpenGuest() of a dead supervisor = nil; want an error")
	}
	if err := m.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenGuest(m); err == nil {
		t.Error("OpenGuest() of no machine = nil; want an error")
	}
}

func TestGuestRefuses(t *testing.T) {
	_, m, _ := newMachine(t, t.TempDir(), "m")
	serve(t, m, &server{guest: func() (net.Conn, error) { return nil, errors.New("session shutdown") }})
	if _, err := OpenGuest(m); err == nil || !strings.Contains(err.Error(), "session shutdown") {
		t.Errorf("OpenGuest() = %v; want the supervisor's error", err)
	}
	if _, _, err := dial(m, request{Op: "no-such-op"}); err == nil || !strings.Contains(err.Error(), "unknown request") {
		t.Errorf("dial() = %v; want an unknown request", err)
	}
}

// Either end of a stream ends the other, and leaves nothing behind.
func TestJoin(t *testing.T) {
	_, m, _ := newMachine(t, t.TempDir(), "m")
	guests := make(chan net.Conn, 1)
	serve(t, m, &server{guest: func() (net.Conn, error) {
		ours, theirs := net.Pipe()
		guests <- theirs
		return ours, nil
	}})
	before := runtime.NumGoroutine()

	conn, err := OpenGuest(m)
	if err != nil {
		t.Fatal(err)
	}
	guest := <-guests
	guest.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("Read() after the guest's end = %v; want %v", err, io.EOF)
	}
	conn.Close()

	if conn, err = OpenGuest(m); err != nil {
		t.Fatal(err)
	}
	guest = <-guests
	conn.Close()
	guest.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := guest.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the guest's Read() after the command's end = %v; want %v", err, io.EOF)
	}
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines; want %d", runtime.NumGoroutine(), before)
		}
	}
}

func TestStop(t *testing.T) {
	_, m, lock := newMachine(t, t.TempDir(), "m")
	l, err := listen(m)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{})
	ended := make(chan struct{})
	srv := &server{guest: echoGuest, stop: func() { close(asked) }}
	go func() {
		defer close(ended)
		conn, err := l.AcceptUnix()
		if err != nil {
			t.Error(err)
			return
		}
		go srv.answer(conn)
		<-asked
		time.Sleep(20 * time.Millisecond) // it ends in its own time
		lock.Release()
		conn.Close()
		l.Close()
	}()
	if err := Stop(m); err != nil {
		t.Errorf("Stop() = %v; want nil", err)
	}
	if m.Alive() {
		t.Error("the machine is alive after Stop; want it dead")
	}
	<-ended
	if err := Stop(m); err == nil {
		t.Error("Stop() of the dead = nil; want an error")
	}
}

// Who connects and says nothing, or too much, is let go.
func TestServeGarbage(t *testing.T) {
	_, m, _ := newMachine(t, t.TempDir(), "m")
	serve(t, m, &server{guest: echoGuest})
	dir, err := os.Open(m.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, garbage := range []string{"\xff\xff\xff\xff", "\x04\x00\x00\x00null", "\x02\x00\x00\x00[]", "GET / HTTP/1.0\r\n\r\n"} {
		conn, err := net.Dial("unix", socketPath(dir))
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(conn, garbage)
		var answer response
		if err := wire.ReadMessage(conn, &answer); err == nil && answer.Error == "" {
			t.Errorf("%q was granted", garbage)
		} else if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q was not answered", garbage)
		}
		conn.Close()
	}
	checkGuest(t, m)
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
		{"error", `{"phase":"boot"}` + "\n" + `{"error":"no disk","hint":"mayfly gc"}` + "\n", "no disk"},
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
		err := o.Ready(t.Context(), func(e Event) { phases = append(phases, e.Phase) })
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Ready() = %v; want %q", tt.name, err, tt.want)
		}
		if tt.name == "error" && hint.Of(err) != "mayfly gc" {
			t.Errorf("%s: the hint is %q; want mayfly gc", tt.name, hint.Of(err))
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
