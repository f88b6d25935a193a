package cli

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/incoming"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/sparse"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/terminal"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// fakeMachine is a machine that runs, whose supervisor and guest are the test's. Its guest
// has added files to the workspace.
type fakeMachine struct {
	state.Machine
	dir   string            // the workspace
	files map[string]string // that the guest has added
	dirs  []string          // and the directories that they are in
	// before is called with each request of the guest, and ends its conversation if it
	// returns false.
	before func(req wire.Request) bool
	exits  bool // its commands end when their input does
	health control.Condition
	// list is what it says of its changes, if it is not nil.
	list func(conn net.Conn)
	// earlier says that its coding agent has had a conversation, and started gets how it is
	// started in a session.
	earlier bool
	// guest is a directory of this computer that stands for the machine's copy of the
	// workspace: changes are listed, and commands run, in it.
	guest   string
	started chan []string
	// typed gets the standard input of each of its commands that exit, if it is not nil.
	typed chan string
	// said is the archive of what its coding agents said, and restored gets what is put back.
	said     []byte
	restored []byte
	// sync is what it answers to what is sent, if it is not nil.
	sync atomic.Pointer[func(conn io.ReadWriter)]

	lock  *state.Lock
	work  sync.WaitGroup
	ended context.Context // when its supervisor does
	end   context.CancelFunc
}

// runFakeMachine makes the machine m of a user with this home.
func runFakeMachine(t *testing.T, home string, files map[string]string) *fakeMachine {
	t.Helper()
	return runFakeMachinePacked(t, home, files, workspace.PackOptions{})
}

func runFakeMachinePacked(t *testing.T, home string, files map[string]string, o workspace.PackOptions) *fakeMachine {
	t.Helper()
	m := &fakeMachine{dir: filepath.Join(home, "project"), files: files}
	m.ended, m.end = context.WithCancel(t.Context())
	p := plan.Plan{Version: plan.Version, Name: "m", Workspace: plan.Workspace{Path: m.dir, Mode: "copy"}}
	p.Guest.User.Home = "/home/dev"
	p.Guest.Git = map[string]string{"user.name": "Ada", "user.email": "ada@example.org"}
	store := state.Open(filepath.Join(home, ".local/state/mayfly"))
	var err error
	if m.Machine, m.lock, err = store.Create(p); err != nil {
		t.Fatal(err)
	}
	packed, list := m.WorkspaceFiles(p)
	image, err := os.Create(packed)
	if err := errors.Join(err, os.MkdirAll(m.dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	manifest, err := workspace.Pack(t.Context(), m.dir, image, o)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(list)
	if err != nil {
		t.Fatal(err)
	}
	_, err = manifest.WriteTo(out)
	l, listenErr := control.Listen(m.Machine)
	m.status(t, state.Running)
	if err := errors.Join(err, out.Close(), listenErr); err != nil {
		t.Fatal(err)
	}
	m.work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			m.work.Go(func() { m.answer(t, conn, l) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		m.lock.Release()
	})
	return m
}

func (m *fakeMachine) status(t *testing.T, phase state.Phase) {
	if err := state.WriteJSON(m.File(state.StatusFile), state.Status{Phase: phase, Kept: true, Supervisor: state.Process{PID: 1, Start: 1}}); err != nil {
		t.Error(err)
	}
}

// answer is the supervisor's side of a connection, and the guest's.
func (m *fakeMachine) answer(t *testing.T, conn net.Conn, l net.Listener) {
	defer conn.Close()
	var req control.Request
	if wire.ReadMessage(conn, &req) != nil {
		return
	}
	granted := control.Granted()
	if m.health.Health != "" {
		granted.Condition = &m.health
	}
	if wire.WriteMessage(conn, granted) != nil {
		return
	}
	if req.Op == control.OpStop {
		// As a supervisor ends: guest, status, files, lock.
		l.Close()
		m.status(t, state.Stopping)
		if err := control.Clean(m.Machine); err != nil {
			t.Errorf("the supervisor cannot clean up: %v", err)
		}
		m.lock.Release()
		m.end()
		return
	}
	defer context.AfterFunc(m.ended, func() { conn.Close() })()
	var asked wire.Request
	if wire.ReadMessage(conn, &asked) != nil || m.before != nil && !m.before(asked) {
		return
	}
	switch asked.Op {
	case wire.OpChanges:
		if m.list != nil {
			m.list(conn)
			return
		}
		for _, name := range m.dirs {
			wire.WriteMessage(conn, wire.Change{Path: []byte(name), Kind: wire.KindDir, Mode: 0o755})
		}
		for name, text := range m.files {
			sum, _ := sparse.SumOf(t.Context(), strings.NewReader(text), int64(len(text)))
			wire.WriteMessage(conn, wire.Change{Path: []byte(name), Kind: wire.KindFile, Mode: 0o644, Size: int64(len(text)), Sum: sum[:]})
		}
		wire.WriteMessage(conn, wire.Change{End: true})
	case wire.OpExec:
		if m.guest != "" {
			m.exec(conn, asked.Exec)
			return
		}
		frames := wire.NewFrameReader(conn)
		var typed []byte
		for m.exits {
			kind, data, err := frames.Next()
			if err != nil || kind == wire.FrameStdinEOF {
				break
			}
			if kind == wire.FrameStdin {
				typed = append(typed, data...)
			}
		}
		if m.typed != nil {
			m.typed <- string(typed)
		}
		wire.NewFrameWriter(conn).Write(wire.FrameExit, []byte{0})
	case wire.OpSync:
		if sync := m.sync.Load(); sync != nil {
			(*sync)(conn)
			return
		}
		asked.Sync.Dir = m.guest
		incoming.Take(conn, asked.Sync)
	case wire.OpSessions:
		wire.WriteMessage(conn, wire.Sessions{})
	case wire.OpSeed:
		wire.WriteMessage(conn, wire.Seeded{Earlier: m.earlier})
	case wire.OpTranscripts:
		out := wire.NewFrameWriter(conn)
		if len(m.said) > 0 {
			out.Write(wire.FrameStdout, m.said)
		}
		out.Write(wire.FrameEnd, nil)
	case wire.OpRestore:
		m.restored = nil
		for frames := wire.NewFrameReader(conn); ; {
			kind, data, err := frames.Next()
			if err != nil || kind == wire.FrameStdinEOF {
				break
			}
			m.restored = append(m.restored, data...)
		}
		wire.WriteMessage(conn, wire.Restored{Files: 1, Kept: 2})
	case wire.OpSession:
		m.started <- asked.Session.Exec.Argv
		out := wire.NewFrameWriter(conn)
		out.Write(wire.FrameSession, []byte(`{"name": "claude", "new": true}`))
		if asked.Session.Detached {
			out.Write(wire.FrameEnd, nil)
		}
		out.Write(wire.FrameExit, []byte{0})
	case wire.OpFetch:
		out := wire.NewFrameWriter(conn)
		for _, p := range asked.Fetch.Paths {
			out.Write(wire.FrameFile, p)
			out.Write(wire.FrameStdout, []byte(m.files[string(p)]))
			out.Write(wire.FrameEnd, nil)
		}
	}
}

// userOf returns mayfly for the user with this home, on null or on a terminal.
func userOf(t *testing.T, home string, tty *os.File) *app {
	t.Helper()
	a := appIn(home)
	a.signals = terminal.NewSignals()
	t.Cleanup(a.signals.Stop)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	a.Streams = Streams{In: null, Out: null, Err: null}
	if tty != nil {
		a.In, a.Err = tty, tty
	}
	return a
}

// command runs a command of mayfly as far as its error.
func (a *app) command(args ...string) error {
	root := a.rootCommand()
	root.PersistentPreRunE = nil // it has its client
	root.SetArgs(args)
	return a.interrupted(root.ExecuteContext(a.signals.Context()))
}

// Two who apply the changes of one machine take turns, and both see all of them applied.
func TestTwoApplies(t *testing.T) {
	home := t.TempDir()
	files := map[string]string{}
	for _, c := range "abcdefghijklmnopqrstuvwxyz" {
		files[string(c)] = strings.Repeat(string(c), 1000)
	}
	m := runFakeMachine(t, home, files)
	fetches := make(chan struct{}, 10)
	m.before = func(req wire.Request) bool {
		if req.Op == wire.OpFetch {
			fetches <- struct{}{}
			if len(fetches) > 1 && m.Applying() == 0 {
				t.Error("two stage changes at once")
			}
			time.Sleep(50 * time.Millisecond) // let the other one come
		}
		return true
	}
	var both sync.WaitGroup
	for range 2 {
		a := userOf(t, home, nil)
		both.Go(func() {
			if err := a.command("apply", "m"); err != nil {
				t.Errorf("apply = %v", err)
			}
		})
	}
	both.Wait()
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join(m.dir, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
}

// A machine that is stopped while its changes are applied waits for the apply, which is
// whole, and nothing of the machine is left. One that is stopped while they are listed or
// fetched ends that with a word.
func TestStopDuring(t *testing.T) {
	for _, op := range []wire.Op{wire.OpChanges, wire.OpFetch} {
		t.Run(string(op), func(t *testing.T) {
			home := t.TempDir()
			m := runFakeMachine(t, home, map[string]string{"a": "text"})
			stopped := make(chan error, 1)
			m.before = func(req wire.Request) bool {
				if req.Op == op {
					go func() { stopped <- control.Stop(m.Machine) }()
					for m.Status().Phase == state.Running {
						time.Sleep(time.Millisecond)
					}
				}
				return req.Op != op
			}
			a := userOf(t, home, nil)
			if err := a.command("apply", "m"); errorCode(err) != "machine-lost" || !strings.HasSuffix(err.Error(), "m was stopped meanwhile") {
				t.Errorf("apply = %v; want that it was stopped", err)
			}
			if err := <-stopped; err != nil {
				t.Errorf("stop = %v", err)
			}
			if _, err := os.Lstat(m.Dir); err == nil {
				t.Error("the machine's directory is left: it is listed as dead")
			}
		})
	}
	t.Run("apply", func(t *testing.T) {
		home := t.TempDir()
		m := runFakeMachine(t, home, nil)
		release, err := m.LockApply(t.Context(), nil) // as who applies has it
		if err != nil {
			t.Fatal(err)
		}
		stopped := make(chan error, 1)
		go func() { stopped <- control.Stop(m.Machine) }()
		for m.Status().Phase != state.Stopping {
			time.Sleep(time.Millisecond)
		}
		if pid := m.Applying(); pid != os.Getpid() {
			t.Errorf("changes are being applied by process %d; want %d", pid, os.Getpid())
		}
		select {
		case err := <-stopped:
			t.Errorf("the machine was stopped under an apply: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
		release()
		if err := <-stopped; err != nil {
			t.Errorf("stop = %v", err)
		}
		if _, err := os.Lstat(m.Dir); err == nil {
			t.Error("the machine's directory is left: it is listed as dead")
		}
	})
}

// A guest that does not answer, and a signal: all commands end as interrupted.
func TestInterruptedWhileTheGuestIsSilent(t *testing.T) {
	for _, args := range [][]string{
		{"diff", "m"}, {"apply", "m"}, {"exec", "m", "--", "true"}, {"exec", "-T", "m", "--", "true"}, {"cp", "m:file", "."}, {"cp", ".", "m:"},
		{"ls"}, {"ls", "--json"}, {"inspect", "m"}, {"top", "--once"}, {"top", "--json"}, {"claude", "m"}, {"shell", "m"},
		{"logs", "-f", "m"}, {"attach", "m"}, {"attach", "m", "claude"}, {"attach", "--end", "m", "claude"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			home := t.TempDir()
			m := runFakeMachine(t, home, nil)
			a := userOf(t, home, nil)
			asked := make(chan struct{}, 10)
			over := make(chan struct{}) // who was interrupted does not wait for the guest
			defer close(over)
			m.before = func(wire.Request) bool {
				asked <- struct{}{}
				<-over
				return false
			}
			done := make(chan error, 1)
			go func() { done <- a.command(args...) }()
			if args[0] != "logs" && args[0] != "top" {
				select {
				case <-asked:
				case <-time.After(time.Minute):
					t.Fatal("it does not ask the guest")
				}
			}
			for begun, sent := time.Now(), 0; ; sent++ {
				if sent < giveUpAfterSignals {
					syscall.Kill(os.Getpid(), syscall.SIGTERM)
				}
				select {
				case err := <-done:
					if run, ok := errors.AsType[runError](err); !ok || run.code != 130 || err.Error() != "interrupted" {
						t.Errorf("%v = %v; want interrupted, 130", args, err)
					}
					return
				case <-time.After(50 * time.Millisecond):
				}
				if time.Since(begun) > time.Minute {
					t.Fatal("it does not end")
				}
			}
		})
	}
}

// A machine with too many changes is refused while its guest counts them, and the count is
// seen on a terminal.
func TestTooManyChanges(t *testing.T) {
	home := t.TempDir()
	own := filepath.Join(home, ".config/mayfly/config.toml")
	if err := errors.Join(os.MkdirAll(filepath.Dir(own), 0o700), os.WriteFile(own, []byte("version = 1\n[review]\nmax_memory = \"4GiB\"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	m := runFakeMachine(t, home, nil)
	m.list = func(conn net.Conn) {
		for n := int64(1); ; n += 99_999 {
			if wire.WriteMessage(conn, wire.Change{Progress: &wire.Progress{Counted: n}}) != nil {
				return
			}
			if n == 700_000-6 {
				time.Sleep(1500 * time.Millisecond) // what is quick is not shown
			}
		}
	}
	user, ours := pseudoTerminal(t)
	seen := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(user)
		seen <- string(text)
	}()
	a := userOf(t, home, ours)
	err := a.command("diff", "m")
	if errorCode(err) != "changes-too-many" {
		t.Errorf("diff = %v; want the code changes-too-many", err)
	}
	a.progress.Stop()
	ours.Close()
	user.Close()
	if text, want := <-seen, "count the changes of m: 699994"; !strings.Contains(text, want) {
		t.Errorf("it printed %q; want %q", text, want)
	}
}

// giveUpAfterSignals is how many a command of the guest's is sent before it is left.
const giveUpAfterSignals = 3

// rm asks on a terminal, with the count, if changes were not applied.
func TestRemoveAsks(t *testing.T) {
	for _, tt := range []struct {
		name    string
		files   map[string]string
		answer  string
		args    []string
		removed bool
	}{
		{"no", map[string]string{"a": "1", "b": "2"}, "no\n", nil, false},
		{"yes", map[string]string{"a": "1", "b": "2"}, "yes\n", nil, true},
		{"Ctrl-D", map[string]string{"a": "1"}, "\x04", nil, false},
		{"force", map[string]string{"a": "1"}, "", []string{"--force"}, true},
		{"nothing changed", nil, "", nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			home := t.TempDir()
			m := runFakeMachine(t, home, tt.files)
			user, ours := pseudoTerminal(t)
			a := userOf(t, home, ours)
			seen := make(chan string, 1)
			go func() {
				var text []byte
				for buf := make([]byte, 1000); ; {
					n, err := user.Read(buf)
					text = append(text, buf[:n]...)
					if strings.Contains(string(text), "[yes/no]") || err != nil {
						user.WriteString(tt.answer)
						seen <- string(text)
						return
					}
				}
			}()
			if tt.args != nil {
				m.lock.Release() // there is no supervisor to kill
			}
			err := a.command(append([]string{"rm", "m"}, tt.args...)...)
			_, statErr := os.Lstat(m.Dir)
			if removed := statErr != nil; removed != tt.removed || (err == nil) != tt.removed {
				t.Errorf("rm = %v, removed: %t; want %t", err, removed, tt.removed)
			}
			ours.Close()
			user.Close()
			text := <-seen
			if asked := strings.Contains(text, "2 added") && strings.Contains(text, "remove m, with everything in it?"); asked != (len(tt.files) == 2) {
				t.Errorf("it printed %q", text)
			}
		})
	}
}

// exec -n leaves standard input to the loop that it is in.
func TestExecWithoutStdin(t *testing.T) {
	home := t.TempDir()
	m := runFakeMachine(t, home, nil)
	m.exits = true
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("next line\n"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	a := userOf(t, home, nil)
	a.In = r
	if err := a.command("exec", "-n", "m", "--", "cat"); err != nil && err != exitCode(0) {
		t.Errorf("exec = %v", err)
	}
	if rest, err := io.ReadAll(r); err != nil || string(rest) != "next line\n" {
		t.Errorf("standard input has %q left, %v; want all of it", rest, err)
	}
}
