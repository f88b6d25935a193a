package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

// fakeStarted is a machine for runIn, which ends well but for what is set.
type fakeStarted struct {
	exec    func(context.Context, mayfly.Cmd) (int, error)
	changes func(context.Context) (*mayfly.ChangeSet, error)
	lost    error
	onKeep  func()

	dead, kept, discarded bool
}

func (m *fakeStarted) Name() string { return "m" }

func (m *fakeStarted) Plan() mayfly.Plan { return mayfly.Plan{Workspace: "/w", Mode: "copy"} }

func (m *fakeStarted) Alive() bool { return !m.dead && !m.discarded }

func (m *fakeStarted) Reached() ([]mayfly.Reached, error) { return nil, nil }

func (m *fakeStarted) Lost() error { return m.lost }

func (m *fakeStarted) Keep() error {
	m.kept = true
	if m.onKeep != nil {
		m.onKeep()
	}
	return nil
}

func (m *fakeStarted) Discard() error { m.discarded = true; return nil }

func (m *fakeStarted) Exec(ctx context.Context, cmd mayfly.Cmd) (int, error) {
	if m.exec == nil {
		return 0, nil
	}
	return m.exec(ctx, cmd)
}

func (m *fakeStarted) Changes(ctx context.Context, _ bool) (*mayfly.ChangeSet, error) {
	if m.changes == nil {
		return &mayfly.ChangeSet{}, nil
	}
	return m.changes(ctx)
}

func (m *fakeStarted) ChangesToApply(ctx context.Context, quiesce bool) (*mayfly.ChangeSet, error) {
	return m.Changes(ctx, quiesce)
}

// oneChange is a list of one change, which cannot be applied.
func oneChange(context.Context) (*mayfly.ChangeSet, error) {
	return &mayfly.ChangeSet{Changes: []mayfly.Change{{Op: "M", Path: "f"}}}, nil
}

// coded is an error as package mayfly returns it.
func coded(code fault.Code) error {
	return &mayfly.Error{Code: string(code), Cause: errors.New(string(code))}
}

// runFake runs a command in m as mayfly run does once the machine has started, and returns
// what it printed. in is its standard input, and its standard error if it is a terminal.
func runFake(t *testing.T, m *fakeStarted, o runOptions, in *os.File) (printed string, err error) {
	t.Helper()
	r, w, pipeErr := os.Pipe()
	null, nullErr := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err := errors.Join(pipeErr, nullErr); err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	a := &app{Streams: Streams{In: null, Out: null, Err: w}, getenv: os.Getenv, signals: terminal.NewSignals()}
	defer a.signals.Stop()
	if in != nil {
		a.In = in
		if terminal.Is(in) {
			a.Err = in
		}
	}
	done := make(chan error, 1)
	go func() { done <- a.runIn(a.signals.Context(), m, &o, []string{"true"}, a.attended()) }()
	select {
	case err = <-done:
	case <-time.After(time.Minute):
		t.Fatal("run does not end")
	}
	w.Close()
	out, _ := io.ReadAll(r)
	return string(out), a.interrupted(err)
}

// pseudoTerminal returns both ends of one.
func pseudoTerminal(t *testing.T) (user, ours *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	user = os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { user.Close() })
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err := errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	ours, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	return user, ours
}

// Once a command has run, its machine is discarded only by a decision: whatever fails, it
// is kept and named.
func TestRunKeeps(t *testing.T) {
	failing := func(err error) func(context.Context) (*mayfly.ChangeSet, error) {
		return func(context.Context) (*mayfly.ChangeSet, error) { return nil, err }
	}
	exits := func(code int, err error) func(context.Context, mayfly.Cmd) (int, error) {
		return func(context.Context, mayfly.Cmd) (int, error) { return code, err }
	}
	signals := func(sig syscall.Signal, code int) func(context.Context, mayfly.Cmd) (int, error) {
		return func(_ context.Context, cmd mayfly.Cmd) (int, error) {
			syscall.Kill(os.Getpid(), sig)
			<-cmd.Signals
			return code, nil
		}
	}
	for _, tt := range []struct {
		name string
		m    fakeStarted
		o    runOptions
		keep bool
		code int // of the process; 0 for that of an error that has none of its own
	}{
		{"nothing changed", fakeStarted{}, runOptions{}, false, 0},
		{"nothing is to be applied", fakeStarted{changes: oneChange}, runOptions{}, false, 0},
		{"discard", fakeStarted{changes: oneChange}, runOptions{discard: true}, false, 0},
		{"keep", fakeStarted{changes: oneChange}, runOptions{keep: true}, true, 0},
		{"a list that is refused", fakeStarted{changes: failing(errors.New("deeper than 512"))}, runOptions{apply: true}, true, 1},
		{"a list that nobody would apply", fakeStarted{changes: failing(errors.New("deeper than 512"))}, runOptions{}, true, 1},
		{"a list that is refused, and a command that failed", fakeStarted{exec: exits(3, nil), changes: failing(errors.New("too many"))}, runOptions{}, true, 3},
		{"no list of what was given up", fakeStarted{changes: failing(errors.New("deeper than 512"))}, runOptions{discard: true}, false, 1},
		{"an interrupted list", fakeStarted{changes: func(ctx context.Context) (*mayfly.ChangeSet, error) {
			syscall.Kill(os.Getpid(), syscall.SIGINT)
			<-ctx.Done()
			return nil, errors.New("use of closed network connection")
		}}, runOptions{}, true, 130},
		{"the guest broke off", fakeStarted{exec: exits(0, coded(fault.MachineLost)), lost: errors.New("broke off")}, runOptions{}, true, 125},
		{"the guest broke the list off", fakeStarted{changes: failing(coded(fault.MachineLost)), lost: errors.New("broke off")}, runOptions{}, true, 125},
		{"the machine is dead", fakeStarted{exec: exits(0, coded(fault.MachineLost)), lost: errors.New("died"), dead: true}, runOptions{}, false, 125},
		{"no such command", fakeStarted{exec: exits(0, coded(fault.CommandNotFound))}, runOptions{}, false, 127},
		{"no program", fakeStarted{exec: exits(0, coded(fault.CommandRefused))}, runOptions{}, false, 126},
		{"no such command in a machine to keep", fakeStarted{exec: exits(0, coded(fault.CommandNotFound))}, runOptions{keep: true}, true, 127},
		{"no program in a machine to keep", fakeStarted{exec: exits(0, coded(fault.CommandRefused))}, runOptions{keep: true}, true, 126},
		{"given up", fakeStarted{exec: exits(0, terminal.ErrInterrupted)}, runOptions{}, true, 130},
		{"the reader of the output has ended", fakeStarted{exec: exits(0, &os.PathError{Op: "write", Path: "|1", Err: syscall.EPIPE})}, runOptions{}, false, 141},
		{"a closed terminal", fakeStarted{exec: signals(syscall.SIGHUP, 129), changes: oneChange}, runOptions{}, true, 129},
		{"a closed terminal, and the command goes on", fakeStarted{exec: signals(syscall.SIGHUP, 0), changes: oneChange}, runOptions{}, true, 1},
		{"a closed terminal of what was to be discarded", fakeStarted{exec: signals(syscall.SIGHUP, 129), changes: oneChange}, runOptions{discard: true}, false, 129},
		{"another signal", fakeStarted{exec: signals(syscall.SIGTERM, 143), changes: oneChange}, runOptions{}, false, 143},
	} {
		t.Run(tt.name, func(t *testing.T) {
			printed, err := runFake(t, &tt.m, tt.o, nil)
			if got := !tt.m.discarded; got != tt.keep {
				t.Errorf("the machine is kept: %t; want %t", got, tt.keep)
			}
			if named := strings.Contains(printed, "machine m is kept: mayfly shell m, mayfly apply m, mayfly rm m"); named != tt.keep || tt.keep && !tt.m.kept {
				t.Errorf("kept: %t, named: %t; want %t; printed %q", tt.m.kept, named, tt.keep, printed)
			}
			code := 0
			if run, ok := errors.AsType[runError](err); ok {
				code = run.code
			} else if exit, ok := errors.AsType[exitCode](err); ok {
				code = int(exit)
			} else if err != nil {
				code = exitError
			}
			if code != tt.code {
				t.Errorf("exit code %d, %v; want %d", code, err, tt.code)
			}
		})
	}
}

// Whatever happens at the question instead of an answer, the machine is kept.
func TestRunKeepsAtTheQuestion(t *testing.T) {
	for name, do := range map[string]func(user *os.File){
		"Ctrl-D":            func(user *os.File) { user.WriteString("\x04") },
		"a closed terminal": func(user *os.File) { user.Close() },
		"SIGINT":            func(*os.File) { syscall.Kill(os.Getpid(), syscall.SIGINT) },
		"SIGTERM":           func(*os.File) { syscall.Kill(os.Getpid(), syscall.SIGTERM) },
		"SIGHUP":            func(*os.File) { syscall.Kill(os.Getpid(), syscall.SIGHUP) },
		"no":                nil,
		"keep":              nil,
	} {
		t.Run(name, func(t *testing.T) {
			user, ours := pseudoTerminal(t)
			asked := make(chan struct{})
			go func() {
				defer close(asked)
				var seen []byte
				for buf := make([]byte, 1000); !strings.Contains(string(seen), "apply these changes?"); {
					n, err := user.Read(buf)
					if err != nil {
						return
					}
					seen = append(seen, buf[:n]...)
				}
				if do == nil {
					user.WriteString(name + "\n")
				} else {
					do(user)
				}
			}()
			m := &fakeStarted{changes: oneChange}
			_, err := runFake(t, m, runOptions{}, ours)
			<-asked
			if m.discarded != (name == "no") || m.kept != (name != "no") {
				t.Errorf("discarded: %t, kept: %t", m.discarded, m.kept)
			}
			if (err == nil) != (do == nil) {
				t.Errorf("run = %v; want an error unless it was answered", err)
			}
		})
	}
}

// A terminal that is closed while a command runs keeps the machine at once: whoever closed
// it may kill mayfly next.
func TestRunKeepsAtHangup(t *testing.T) {
	kept := make(chan struct{})
	m := &fakeStarted{onKeep: func() { close(kept) }, changes: oneChange}
	m.exec = func(context.Context, mayfly.Cmd) (int, error) {
		syscall.Kill(os.Getpid(), syscall.SIGHUP)
		<-kept // and the command goes on
		return 0, nil
	}
	if printed, _ := runFake(t, m, runOptions{}, nil); m.discarded {
		t.Errorf("the machine is discarded after a hangup; printed %q", printed)
	}
}
