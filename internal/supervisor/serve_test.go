package supervisor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/proc"
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

// serve answers for m until the test ends.
func serve(t testing.TB, m state.Machine, srv *server) {
	t.Helper()
	l, err := control.Listen(m)
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

// guestService is a machine that has only a guest.
type guestService func() (net.Conn, error)

func (g guestService) openGuest() (net.Conn, error) { return g() }

func (guestService) changeNetwork(*control.NetworkChange) control.Response {
	return control.Refuse(errors.New("there is no network"))
}

// guestServer serves a machine that is ready.
func guestServer(guest guestService) *server {
	srv := newServer(newEvents(io.Discard), func() {})
	srv.offer(guest)
	return srv
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
	conn, err := control.OpenGuest(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
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
	serve(t, m, guestServer(echoGuest))
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
	serve(t, m, guestServer(echoGuest))
	checkGuest(t, m)
}

func TestGuestRefuses(t *testing.T) {
	_, m, _ := newMachine(t, t.TempDir(), "m")
	serve(t, m, guestServer(func() (net.Conn, error) { return nil, errors.New("session shutdown") }))
	if _, err := control.OpenGuest(t.Context(), m); err == nil || !strings.Contains(err.Error(), "session shutdown") {
		t.Errorf("OpenGuest() = %v; want the supervisor's error", err)
	}
	if answer, err := ask(t, m, control.Request{Op: "no-such-op"}); err != nil || !strings.Contains(answer.Error, "unknown request") {
		t.Errorf("the answer is %q, %v; want an unknown request", answer.Error, err)
	}
}

// Either end of a stream ends the other, and leaves nothing behind.
func TestJoin(t *testing.T) {
	_, m, _ := newMachine(t, t.TempDir(), "m")
	guests := make(chan net.Conn, 1)
	serve(t, m, guestServer(func() (net.Conn, error) {
		ours, theirs := net.Pipe()
		guests <- theirs
		return ours, nil
	}))
	before := runtime.NumGoroutine()

	conn, err := control.OpenGuest(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	guest := <-guests
	guest.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("Read() after the guest's end = %v; want %v", err, io.EOF)
	}
	conn.Close()

	if conn, err = control.OpenGuest(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	guest = <-guests
	conn.Close()
	guest.SetDeadline(time.Now().Add(time.Minute))
	if _, err := guest.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the guest's Read() after the command's end = %v; want %v", err, io.EOF)
	}
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines; want %d", runtime.NumGoroutine(), before)
		}
	}
}

func TestStop(t *testing.T) {
	_, m, lock := newMachine(t, t.TempDir(), "m")
	l, err := control.Listen(m)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{})
	ended := make(chan struct{})
	srv := newServer(newEvents(io.Discard), func() { close(asked) })
	go func() {
		defer close(ended)
		conn, err := l.AcceptUnix()
		if err != nil {
			t.Error(err)
			return
		}
		go srv.answer(conn, l)
		<-asked
		time.Sleep(20 * time.Millisecond) // it ends in its own time
		lock.Release()
		conn.Close()
		l.Close()
	}()
	if err := control.Stop(m); err != nil {
		t.Errorf("Stop() = %v; want nil", err)
	}
	if m.Alive() {
		t.Error("the machine is alive after Stop; want it dead")
	}
	<-ended
	if err := control.Stop(m); err == nil {
		t.Error("Stop() of the dead = nil; want an error")
	}
}

// connect opens a connection to m's socket, and says nothing.
func connect(t testing.TB, m state.Machine) net.Conn {
	t.Helper()
	dir, err := os.Open(m.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	conn, err := net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), state.SocketFile))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// ask sends req with the machine's token and returns the answer.
func ask(t testing.TB, m state.Machine, req control.Request) (answer control.Response, err error) {
	t.Helper()
	data, err := os.ReadFile(m.File(state.TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	return askWith(t, m, req, string(data))
}

// askWith sends req with a token and returns the answer.
func askWith(t testing.TB, m state.Machine, req control.Request, token string) (answer control.Response, err error) {
	t.Helper()
	message := map[string]any{"version": req.Version, "op": req.Op, "token": token}
	if req.Change != nil {
		message["change"] = req.Change
	}
	conn := connect(t, m)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	if err = wire.WriteMessage(conn, message); err == nil {
		err = wire.ReadMessage(conn, &answer)
	}
	return answer, err
}

// Who may connect and may not read the machine's files learns nothing and does nothing.
func TestToken(t *testing.T) {
	_, m, _ := newMachine(t, t.TempDir(), "m")
	_, other, _ := newMachine(t, t.TempDir(), "other")
	stopped := make(chan struct{}, 1)
	srv := newServer(newEvents(io.Discard), func() { stopped <- struct{}{} })
	opened := make(chan struct{}, 1)
	srv.offer(guestService(func() (net.Conn, error) {
		opened <- struct{}{}
		return echoGuest()
	}))
	serve(t, m, srv)
	serve(t, other, guestServer(echoGuest))
	read := func(m state.Machine) string {
		path := m.File(state.TokenFile)
		if fi, err := os.Lstat(path); err != nil || fi.Mode() != 0o600 {
			t.Errorf("%s: %v, %v; want a file for its owner only", path, fi.Mode(), err)
		}
		data, err := os.ReadFile(path)
		if err != nil || len(data) != 64 {
			t.Fatalf("%s has %d bytes, %v; want 64", path, len(data), err)
		}
		return string(data)
	}
	token := read(m)
	want := control.Response{Version: control.Version, Code: "machine-forbidden"}
	for name, wrong := range map[string]string{
		"none": "", "another machine's": read(other), "a part": token[:63], "more": token + "0", "upper case": strings.ToUpper(token),
		"zeros": strings.Repeat("0", 64), "long": strings.Repeat("0", 1<<19), "NUL": "\x00",
	} {
		for _, op := range []control.Op{control.OpGuest, control.OpStop, control.OpNetwork, control.OpWatch, control.OpCondition, "no-such-op"} {
			for _, version := range []int{control.Version, control.Version + 1} {
				answer, err := askWith(t, m, control.Request{Version: version, Op: op}, wrong)
				if want.Error == "" {
					want.Error = answer.Error
				}
				if err != nil || answer.Error == "" || !reflect.DeepEqual(answer, want) {
					t.Errorf("%s, %s: the answer is %+v, %v; want %+v", name, op, answer, err, want)
				}
			}
		}
	}
	if len(stopped)+len(opened) > 0 {
		t.Error("it did what a client without its token asked for")
	}
	if strings.Contains(want.Error, token) || strings.Contains(fmt.Sprintf("%v %+v", control.Request{Token: "secret"}, control.Request{Token: "secret"}), "secret") {
		t.Error("a token is printed")
	}
	checkGuest(t, m)
}

// Landlock lets a process in a sandbox connect to the socket, and not read the token.
func TestTokenInSandbox(t *testing.T) {
	if proc.LandlockVersion() == 0 {
		t.Skip("no Landlock here")
	}
	dir, err := os.MkdirTemp("/var/tmp", "mayfly-") // a short path: it is connected to as it is
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	_, m, _ := newMachine(t, dir, "m")
	serve(t, m, guestServer(echoGuest))
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever: the thread ends with its sandbox
		if err := errors.Join(proc.NoNewPrivileges(), proc.Restrict([]proc.Rule{{Path: "/usr", Access: proc.Run}})); err != nil {
			t.Error(err)
			return
		}
		if _, err := unix.Open(m.File(state.TokenFile), unix.O_RDONLY, 0); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("open the token in a sandbox: %v; want no permission", err)
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err == nil {
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: m.File(state.SocketFile)})
		}
		if err != nil {
			t.Errorf("connect in a sandbox: %v; want a connection, which the token then refuses", err)
			return
		}
		conn := os.NewFile(uintptr(fd), "conn")
		defer conn.Close()
		var answer control.Response
		err = errors.Join(wire.WriteMessage(conn, control.Request{Version: control.Version, Op: control.OpGuest}), wire.ReadMessage(conn, &answer))
		if err != nil || answer.Code != "machine-forbidden" {
			t.Errorf("the answer is %+v, %v; want machine-forbidden", answer, err)
		}
	}()
	<-done
	checkGuest(t, m)
}

// Who connects and says nothing, or too much, is let go.
func TestServeGarbage(t *testing.T) {
	_, m, _ := newMachine(t, t.TempDir(), "m")
	serve(t, m, guestServer(echoGuest))
	for _, garbage := range []string{"\xff\xff\xff\xff", "\x04\x00\x00\x00null", "\x02\x00\x00\x00[]", "GET / HTTP/1.0\r\n\r\n"} {
		conn := connect(t, m)
		conn.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(conn, garbage)
		var answer control.Response
		if err := wire.ReadMessage(conn, &answer); err == nil && answer.Error == "" {
			t.Errorf("%q was granted", garbage)
		} else if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q was not answered", garbage)
		}
		conn.Close()
	}
	checkGuest(t, m)
}
