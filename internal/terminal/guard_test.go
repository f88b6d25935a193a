package terminal

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/terminal/screen"
)

// A notice is in the title, between what a program writes: never in the middle of a control
// sequence or a character of its own.
func TestGuardNotice(t *testing.T) {
	const out = "a\x1b[1;31mr\u00e9d\x1b]0;own title\x1b\\\x1b[2J"
	const notice = "\x1b]2;mayfly: m asks\a\a"
	for i := range len(out) + 1 {
		var whole, cut strings.Builder
		NewGuard(&whole, "m", "/w").Write([]byte(out))
		g := NewGuard(&cut, "m", "/w")
		g.Write([]byte(out[:i]))
		before := cut.Len()
		g.Notice("mayfly: m asks")
		g.Write([]byte(out[i:]))
		got := cut.String()
		if got[:before]+got[before+len(notice):] != whole.String() || !strings.HasPrefix(got[before:], notice) {
			t.Errorf("after %q: %q", out[:i], got)
		}
		var s screen.Screen
		s.Write([]byte(got[:before+len(notice)]))
		if s.Title() != "mayfly: m asks" || len(s.Write([]byte("x")).Shown) != 1 {
			t.Errorf("the notice is in a control sequence: %q", got)
		}
	}
	var b strings.Builder
	NewGuard(&b, "m", "/w").Notice("evil\x1b[2J\a")
	if strings.Contains(b.String(), "\x1b[2J") {
		t.Errorf("a notice controls the terminal: %q", b.String())
	}
}

// What is said while the terminal is given back comes as a whole, before or behind that.
func TestGuardIsGivenBack(t *testing.T) {
	var screen bytes.Buffer
	g := NewGuard(&screen, "web", "")
	io.WriteString(g, "\x1b[?2004h")
	said := make(chan struct{})
	go func() {
		defer close(said)
		g.Notice("late")
	}()
	g.Restore()
	<-said
	if !strings.Contains(screen.String(), "\x1b]2;late\a\a") {
		t.Errorf("it writes %q", screen.String())
	}
}
