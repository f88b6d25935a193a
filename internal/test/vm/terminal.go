package vm

import (
	"io"
	"os"
	"strings"

	"github.com/creack/pty"
)

// Terminal is a person at a terminal in which mayfly runs.
type Terminal struct {
	*Command
	tty  *os.File
	read int // how much of the screen Expect has gone past
}

// Terminal starts mayfly with args in a terminal of 24 lines and 80 columns.
func (h *Host) Terminal(args ...string) *Terminal {
	h.t.Helper()
	return h.TerminalOf("xterm-256color", args...)
}

// TerminalOf is Terminal with a type of terminal, term(7).
func (h *Host) TerminalOf(kind string, args ...string) *Terminal {
	h.t.Helper()
	tty, slave, err := pty.Open()
	if err != nil {
		h.t.Fatal(err)
	}
	defer slave.Close()
	h.t.Cleanup(func() { tty.Close() })
	term := &Terminal{Command: h.Mayfly(args...), tty: tty}
	term.Resize(24, 80)
	term.Session, term.screen = true, new(lockedBuffer)
	term.Stdin, term.Stdout, term.Stderr = slave, slave, slave
	term.Env = []string{"TERM=" + kind}
	term.Start()
	term.copied = make(chan struct{})
	go func() {
		// It ends with an error when nobody has the terminal open any more.
		io.Copy(term.screen, tty)
		close(term.copied)
	}()
	return term
}

// Type types text.
func (term *Terminal) Type(text string) {
	term.host.t.Helper()
	if _, err := term.tty.WriteString(text); err != nil {
		term.host.t.Fatal(err)
	}
}

// Resize changes the size of the terminal.
func (term *Terminal) Resize(rows, cols uint16) {
	term.host.t.Helper()
	if err := pty.Setsize(term.tty, &pty.Winsize{Rows: rows, Cols: cols}); err != nil {
		term.host.t.Fatal(err)
	}
}

// Expect waits until text is on the screen, after what was expected before.
func (term *Terminal) Expect(text string) {
	term.host.t.Helper()
	term.Until("the text "+text, func() bool {
		all := term.screen.String()
		i := strings.Index(all[term.read:], text)
		if i < 0 {
			return false
		}
		term.read += i + len(text)
		return true
	})
}

// Screen returns all that was printed.
func (term *Terminal) Screen() string { return term.screen.String() }
