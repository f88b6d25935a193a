package terminal

import (
	"bytes"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/terminal/filter"
	"github.com/mayfly-vm/mayfly/internal/terminal/screen"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Guard is our terminal while a program of a machine writes on it. Write is for one
// goroutine.
type Guard struct {
	keys   filter.Keys
	mu     sync.Mutex // held while anything is written
	filter *filter.Filter
	screen screen.Screen
	to     io.Writer
}

// clipboardTime is how long after a key or a click a program may set the clipboard.
const clipboardTime = 2 * time.Second

// NewGuard returns the terminal to for a program of the machine name. Links may lead to
// files below workspace.
func NewGuard(to io.Writer, name, workspace string) *Guard {
	g := &Guard{to: to}
	g.filter = filter.New(g.followed(), filter.Options{
		Name: name, Workspace: workspace,
		Clipboard: func() bool { return g.keys.Since() <= clipboardTime },
	})
	return g
}

// followed is the terminal with what follows the modes that it gets.
func (g *Guard) followed() io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		g.screen.Write(p)
		return g.to.Write(p)
	})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func (g *Guard) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.filter.Write(p)
}

// Notice shows a line in the title of the terminal's window, with a bell: what the program
// has drawn stays as it is. It may be called beside Write, whose control sequences reach the
// terminal as a whole.
func (g *Guard) Notice(text string) { g.title(text, "\a") }

// Title is Notice without a bell.
func (g *Guard) Title(text string) { g.title(text, "") }

func (g *Guard) title(text, after string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.followed().Write([]byte("\x1b]2;" + termsafe.Line(text) + "\a" + after))
}

// Input returns in, whose keys the guard hears of.
func (g *Guard) Input(in io.Reader) io.Reader { return io.TeeReader(in, &g.keys) }

// Pastes reports whether the program wants to know what is pasted.
func (g *Guard) Pastes() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.screen.Pastes()
}

// Copied reports whether the program may have put text into the clipboard.
func (g *Guard) Copied(text string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.filter.Copied(text)
}

// Stats returns what the program did.
func (g *Guard) Stats() filter.Stats { return g.filter.Stats() }

// Restore gives the terminal its modes, colours and title back. The cursor stays.
func (g *Guard) Restore() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tidyLocked()
	if b := g.screen.Restore(); len(b) > 0 {
		g.to.Write(b)
	}
}

// Tidy takes back only what [Shown] does not follow.
func (g *Guard) Tidy() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tidyLocked()
}

func (g *Guard) tidyLocked() {
	if b := g.filter.Tidy(); len(b) > 0 {
		g.to.Write(b)
	}
}

const (
	// askedTime is the time in which a terminal may still answer what it was asked.
	askedTime = 5 * time.Second
	// drainTime is how long the last answer is waited for.
	drainTime = 200 * time.Millisecond
)

// Drain takes the answers of the terminal in, which is raw, to what the program has asked:
// else the shell would get them as if they were typed. The answer to a question of ours is
// the last.
func (g *Guard) Drain(in *os.File) {
	asked := g.Stats().Asked
	if asked.IsZero() || time.Since(asked) > askedTime {
		return
	}
	if _, err := io.WriteString(g.to, "\x1b[c"); err != nil {
		return
	}
	var last answers
	buf := make([]byte, 4096)
	for end := time.Now().Add(drainTime); ; {
		left := time.Until(end)
		if left <= 0 {
			break
		}
		fds := []unix.PollFd{{Fd: int32(in.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(left.Milliseconds())+1)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			break
		}
		n, err = in.Read(buf)
		if err != nil || last.has(buf[:n]) {
			break
		}
	}
	unix.IoctlSetInt(int(in.Fd()), unix.TCFLSH, unix.TCIFLUSH)
}

// answers looks for the answer to DA1, which is CSI ? … c.
type answers struct{ seq []byte }

// has reports whether the answer ends in p.
func (a *answers) has(p []byte) bool {
	for _, b := range p {
		switch {
		case b == 0x1b:
			a.seq = append(a.seq[:0], b)
		case len(a.seq) > 0 && len(a.seq) < 64:
			if a.seq = append(a.seq, b); b == 'c' && bytes.HasPrefix(a.seq, []byte("\x1b[?")) {
				return true
			}
		}
	}
	return false
}
