package cli

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/cli/dashboard"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/terminal/grid"
)

// person is who looks at a terminal and types.
type person struct {
	t    *testing.T
	user *os.File

	mu   sync.Mutex // guards what follows
	seen []byte
	rows int
	cols int
}

// newPerson returns who sits at a new terminal, and the terminal.
func newPerson(t *testing.T) (*person, *os.File) {
	t.Helper()
	user, ours := pseudoTerminal(t)
	p := &person{t: t, user: user}
	p.resize(24, 80)
	go func() {
		for buf := make([]byte, 4096); ; {
			n, err := user.Read(buf)
			p.mu.Lock()
			p.seen = append(p.seen, buf[:n]...)
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return p, ours
}

func (p *person) resize(rows, cols int) {
	p.t.Helper()
	p.mu.Lock()
	p.rows, p.cols = rows, cols
	p.mu.Unlock()
	if err := unix.IoctlSetWinsize(int(p.user.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(rows), Col: uint16(cols)}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *person) types(text string) {
	p.t.Helper()
	if _, err := p.user.WriteString(text); err != nil {
		p.t.Fatal(err)
	}
}

// screen returns what the terminal shows.
func (p *person) screen() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := grid.New(p.rows, p.cols)
	g.Write(p.seen)
	return g.String()
}

// sees waits until the terminal shows a text.
func (p *person) sees(text string) {
	p.t.Helper()
	p.waits("it shows "+text, func() bool { return strings.Contains(p.screen(), text) })
}

func (p *person) waits(what string, is func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("not within a minute: %s. The screen is\n%s", what, p.screen())
		}
	}
}

// given reports whether the terminal is as it was: not raw, with its own screen, its cursor,
// and all else.
func (p *person) given(tty *os.File) bool {
	modes, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Error(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, mode := range []struct{ on, off string }{{"\x1b[?1049h", "\x1b[?1049l"}, {"\x1b[?25l", "\x1b[?25h"}, {"\x1b[?7l", "\x1b[?7h"}, {"\x1b[?2004h", "\x1b[?2004l"}} {
		if strings.LastIndex(string(p.seen), mode.on) > strings.LastIndex(string(p.seen), mode.off) {
			return false
		}
	}
	return modes.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) == unix.ICANON|unix.ECHO|unix.ISIG
}

// A key gives the screen to a command, which does what it does by itself; then the dashboard
// is back, at any size.
func TestDashboard(t *testing.T) {
	home := t.TempDir()
	m := runFakeMachine(t, home, map[string]string{"new.txt": "text"})
	m.exits = true
	p, tty := newPerson(t)
	a := userOf(t, home, tty)
	a.Out = tty
	done := make(chan error, 1)
	go func() { done <- a.command("top") }()
	p.sees("m: no agent")
	p.resize(10, 60)
	syscall.Kill(os.Getpid(), syscall.SIGWINCH) // it is no terminal of ours
	p.waits("the new size is used", func() bool {
		return strings.HasPrefix(p.screen(), "mayfly top: 1 machine") && strings.Count(p.screen(), "\n") == 9
	})
	p.types("c")
	p.waits("the changes are counted", func() bool { return strings.Contains(p.screen(), "+     1 ") })

	p.types("d")
	p.sees("A  new.txt")
	p.sees("press Enter for the dashboard")
	p.waits("the terminal is the command's", func() bool { return p.given(tty) })
	p.types("\n")
	p.sees("q quit")

	p.types("a")
	p.sees("apply what is ordinary of m? y/n")
	if _, err := os.Stat(m.dir + "/new.txt"); err == nil {
		t.Error("it applies before it was told to")
	}
	p.types("y")
	p.sees("applied 1 of 1 changes")
	p.types("\n")
	p.sees("q quit")
	if text, err := os.ReadFile(m.dir + "/new.txt"); string(text) != "text" {
		t.Errorf("new.txt holds %q, %v", text, err)
	}

	p.types("q")
	if err := <-done; err != nil {
		t.Errorf("top = %v", err)
	}
	p.waits("the terminal is as before", func() bool { return p.given(tty) })
}

// A guest that does not answer does not hold up the screen or its end.
func TestDashboardOfASilentGuest(t *testing.T) {
	home := t.TempDir()
	m := runFakeMachine(t, home, nil)
	over := make(chan struct{})
	defer close(over)
	m.before = func(wire.Request) bool {
		<-over
		return false
	}
	p, tty := newPerson(t)
	a := userOf(t, home, tty)
	a.Out = tty
	done := make(chan error, 1)
	go func() { done <- a.command("top") }()
	p.sees("reading")
	p.types("?")
	p.sees("Esc back")
	p.types("qq")
	if err := <-done; err != nil {
		t.Errorf("top = %v", err)
	}
}

// Whatever ends the program, the terminal is as before, and so it is while a shell has it.
func TestDashboardGivesTheTerminalBack(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(exe, filepath.Join(bin, "mayfly")); err != nil { // TestMain is mayfly by that name
		t.Fatal(err)
	}
	start := func(t *testing.T, argv ...string) (*person, *os.File, *exec.Cmd) {
		t.Helper()
		p, tty := newPerson(t)
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env = []string{"HOME=" + t.TempDir(), "TERM=xterm", "PATH=" + bin + ":" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0"}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
		return p, tty, cmd
	}
	for _, tt := range []struct {
		name string
		end  func(p *person, cmd *exec.Cmd) error
	}{
		{"q", func(p *person, _ *exec.Cmd) error { p.types("q"); return nil }},
		{"Ctrl-C", func(p *person, _ *exec.Cmd) error { p.types("\x03"); return nil }},
		{"SIGTERM", func(_ *person, cmd *exec.Cmd) error { return cmd.Process.Signal(syscall.SIGTERM) }},
		{"SIGHUP", func(_ *person, cmd *exec.Cmd) error { return cmd.Process.Signal(syscall.SIGHUP) }},
		{"SIGINT", func(_ *person, cmd *exec.Cmd) error { return cmd.Process.Signal(syscall.SIGINT) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, tty, cmd := start(t, filepath.Join(bin, "mayfly"), "top")
			p.sees("no machines")
			if err := tt.end(p, cmd); err != nil {
				t.Fatal(err)
			}
			cmd.Wait() // a signal is an exit code
			p.waits("the terminal is as before", func() bool { return p.given(tty) })
		})
	}
	t.Run("the terminal is closed", func(t *testing.T) {
		p, tty, cmd := start(t, filepath.Join(bin, "mayfly"), "top")
		p.sees("no machines")
		tty.Close()
		p.user.Close()
		cmd.Wait()
	})
	t.Run("Ctrl-Z", func(t *testing.T) {
		p, tty, cmd := start(t, "sh", "-mc", "mayfly top; echo a shell; read -r line; fg; echo ended")
		p.sees("no machines")
		p.types("\x1a")
		p.sees("a shell")
		p.waits("the terminal is as before", func() bool { return p.given(tty) })
		p.types("\n")
		p.sees("no machines")
		p.types("q")
		p.sees("ended")
		p.waits("the terminal is as before", func() bool { return p.given(tty) })
		cmd.Wait()
	})
	t.Run("Ctrl-Z without a shell", func(t *testing.T) {
		p, tty, cmd := start(t, filepath.Join(bin, "mayfly"), "top")
		p.sees("no machines")
		p.types("\x1a")
		p.sees("no shell here would go on")
		p.types("q")
		cmd.Wait()
		p.waits("the terminal is as before", func() bool { return p.given(tty) })
	})
}

// A panic gives the terminal back before it is told.
func TestDashboardPanics(t *testing.T) {
	p, tty := newPerson(t)
	a := userOf(t, t.TempDir(), tty)
	a.Out = tty
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	look, err := newLookout(ctx, a.getenv)
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{a: a, model: dashboard.New(), look: look}
	look.spawn(func() { panic(errors.ErrUnsupported) })
	defer func() {
		if v := recover(); v != errors.ErrUnsupported {
			t.Errorf("it panics with %v", v)
		}
		p.waits("the terminal is as before", func() bool { return p.given(tty) })
	}()
	s.show()
}
