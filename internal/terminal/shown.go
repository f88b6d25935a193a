package terminal

import (
	"io"

	"github.com/mayfly-vm/mayfly/internal/terminal/screen"
)

// Shown is our terminal while a session of a machine is shown on it.
type Shown struct {
	to     io.Writer
	screen screen.Screen
	used   bool
}

// NewShown returns the terminal to as one on which a session is to be shown.
func NewShown(to io.Writer) *Shown { return &Shown{to: to} }

func (t *Shown) Write(p []byte) (int, error) {
	if !t.used {
		t.used = true
		io.WriteString(t.to, "\x1b[22;2t") // keeps the window's title, where a terminal can
	}
	t.screen.Write(p)
	return t.to.Write(p)
}

// Leave gives the terminal back, whatever the program made of it and wherever
// its output was cut off. What a program that has ended said last stays in sight.
func (t *Shown) Leave(ended bool) {
	if !t.used {
		return
	}
	leave := t.screen.Leave
	if ended {
		leave = t.screen.LeaveEnded
	}
	t.to.Write(append(leave(), "\x1b[23;2t"...))
}
