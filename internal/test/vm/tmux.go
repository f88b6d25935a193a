package vm

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Tmux is a person at a shell in a terminal of tmux's, which knows what is on the screen,
// in which colours, and which modes programs have switched on.
type Tmux struct {
	t      testing.TB
	socket string
	env    []string
}

// Tmux starts a shell in a terminal of 24 lines and 80 columns, with mayfly in its PATH. It
// ends with the test.
func (h *Host) Tmux() *Tmux {
	h.t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		h.t.Skip("tmux is not installed; scripts/setup.sh test installs it")
	}
	term := &Tmux{h.t, filepath.Join(h.t.TempDir(), "tmux"), append([]string{"TERM=xterm-256color"}, h.Env...)}
	h.t.Cleanup(func() {
		// Its programs get SIGHUP, as from a terminal that is closed.
		if out, err := term.command("kill-server").CombinedOutput(); err != nil {
			h.t.Errorf("tmux kill-server: %v: %s", err, out)
		}
	})
	term.Run("new-session", "-d", "-x", "80", "-y", "24", "-c", h.Dir, shell, ";", "set", "-g", "status", "off")
	return term
}

// shell is one without a user's settings.
const shell = "env PS1='$ ' bash --norc --noprofile"

func (term *Tmux) command(args ...string) *exec.Cmd {
	cmd := exec.Command("tmux", append([]string{"-u", "-S", term.socket, "-f", "/dev/null"}, args...)...)
	cmd.Env = term.env
	return cmd
}

// Run runs a command of tmux's and returns what it prints.
func (term *Tmux) Run(args ...string) string {
	term.t.Helper()
	out, err := term.command(args...).CombinedOutput()
	if err != nil {
		term.t.Fatalf("tmux %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// For returns the terminal for a subtest t.
func (term *Tmux) For(t testing.TB) *Tmux {
	sub := *term
	sub.t = t
	return &sub
}

// Type types text.
func (term *Tmux) Type(text string) {
	term.t.Helper()
	term.Run("send-keys", "-l", "--", text)
}

// Press presses keys, as tmux calls them: "C-c", "Escape", "Enter".
func (term *Tmux) Press(keys ...string) {
	term.t.Helper()
	term.Run(append([]string{"send-keys"}, keys...)...)
}

// Paste pastes text, in brackets if the program has asked for them.
func (term *Tmux) Paste(text string) {
	term.t.Helper()
	cmd := term.command("load-buffer", "-")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		term.t.Fatalf("tmux load-buffer: %v: %s", err, out)
	}
	term.Run("paste-buffer", "-d", "-p", "-r")
}

// Screen returns the text on the screen, without spaces at the ends of lines.
func (term *Tmux) Screen() string {
	term.t.Helper()
	return term.Run("capture-pane", "-p")
}

// Colours returns the screen with the escape sequences of its colours.
func (term *Tmux) Colours() string {
	term.t.Helper()
	return term.Run("capture-pane", "-p", "-e")
}

// Until waits until ok of the screen, and fails the test when a watchdog's time has passed.
func (term *Tmux) Until(what string, ok func(screen string) bool) {
	term.t.Helper()
	for deadline := time.Now().Add(Timeout); ; time.Sleep(50 * time.Millisecond) {
		screen := term.Screen()
		if ok(screen) {
			return
		}
		if time.Now().After(deadline) {
			term.t.Fatalf("no %s on the screen:\n%s", what, Clip(screen))
		}
	}
}

// Shows waits until text is on the screen.
func (term *Tmux) Shows(text string) {
	term.t.Helper()
	term.Until(strconv.Quote(text), func(screen string) bool { return strings.Contains(screen, text) })
}

// Enter has the shell, which is at its prompt, run a command on an empty screen.
func (term *Tmux) Enter(command string) {
	term.t.Helper()
	term.Type("clear")
	term.Press("Enter")
	term.Until("empty screen", func(screen string) bool { return strings.TrimSpace(screen) == "$" })
	term.Type(command)
	term.Press("Enter")
}

// Prompts waits until the shell's prompt is alone on the last line.
func (term *Tmux) Prompts() {
	term.t.Helper()
	term.Until("prompt of the shell", func(screen string) bool {
		screen = strings.TrimRight(screen, "\n")
		return screen[strings.LastIndexByte(screen, '\n')+1:] == "$"
	})
}
