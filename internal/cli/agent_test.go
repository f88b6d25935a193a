package cli

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// An agent that has worked in a machine before goes on there if its user says so, and
// without somebody who could be asked begins anew, as before.
func TestAgentOffersToContinue(t *testing.T) {
	const question = "continue its last conversation? [yes/no] "
	const flag = "--dangerously-skip-permissions"
	for _, tt := range []struct {
		what    string
		args    []string
		earlier bool
		answer  string // "" where nothing is asked
		want    []string
		says    string
	}{
		{"the first conversation", []string{"claude", "m"}, false, "", []string{"claude", flag}, ""},
		{"yes", []string{"claude", "m"}, true, "yes\n", []string{"claude", flag, "--continue"}, ""},
		{"no", []string{"claude", "m"}, true, "no\n", []string{"claude", flag}, ""},
		{"another agent", []string{"codex", "m"}, true, "y\n", []string{"codex", "resume", "--no-daemon", "--dangerously-bypass-approvals-and-sandbox", "--last", "--include-non-interactive"}, ""},
		{"arguments", []string{"claude", "m", "--", "-r"}, true, "", []string{"claude", flag, "-r"}, ""},
		{"--new", []string{"claude", "--new", "m"}, true, "", []string{"claude", flag}, ""},
		{"--detach", []string{"claude", "--detach", "m"}, true, "", []string{"claude", flag}, "mayfly claude m --continue continues the last one"},
		{"--continue", []string{"claude", "--continue", "m"}, true, "", []string{"claude", flag, "--continue"}, ""},
		{"--continue --detach", []string{"codex", "-dc", "m"}, true, "", []string{"codex", "resume", "--no-daemon", "--dangerously-bypass-approvals-and-sandbox", "--last", "--include-non-interactive"}, ""},
		{"--continue of nothing", []string{"claude", "--continue", "m"}, false, "", []string{"claude", flag}, "it begins the first one"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			home := t.TempDir()
			m := runFakeMachine(t, home, nil)
			m.earlier, m.started = tt.earlier, make(chan []string, 1)
			user, ours := pseudoTerminal(t)
			seen := make(chan string, 1)
			go func() {
				var text []byte
				for buf := make([]byte, 1000); ; {
					n, err := user.Read(buf)
					text = append(text, buf[:n]...)
					if strings.HasSuffix(string(text), question) {
						user.WriteString(tt.answer)
					}
					if err != nil || strings.HasSuffix(string(text), "the end") {
						seen <- string(text)
						return
					}
				}
			}()
			a := userOf(t, home, ours)
			// Who copies the input may read it a moment longer than the command takes: it is
			// not to be closed.
			fd, err := syscall.Dup(int(ours.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			a.In, a.Out = os.NewFile(uintptr(fd), "terminal"), ours
			err = a.command(tt.args...)
			ours.WriteString("the end")
			text := <-seen
			if err != nil && !errors.Is(err, exitCode(0)) {
				t.Errorf("%q = %v", tt.args, err)
			}
			if got := <-m.started; !slices.Equal(got, tt.want) {
				t.Errorf("started %q; want %q", got, tt.want)
			}
			if strings.Contains(text, question) != (tt.answer != "") || !strings.Contains(text, tt.says) {
				t.Errorf("it printed %q; want a question: %v, and %q", text, tt.answer != "", tt.says)
			}
		})
	}
	// Nobody is asked whose standard output is a pipe, and is told.
	home := t.TempDir()
	m := runFakeMachine(t, home, nil)
	m.earlier, m.exits = true, true
	ran := make(chan []string, 1)
	m.before = func(req wire.Request) bool {
		if req.Op == wire.OpExec {
			ran <- req.Exec.Argv
		}
		return true
	}
	for _, tt := range []struct {
		args []string
		want []string
		says string
	}{
		{[]string{"claude", "m"}, []string{"claude", flag}, "mayfly claude m --continue continues the last one"},
		{[]string{"claude", "-c", "m"}, []string{"claude", flag, "--continue"}, ""},
		{[]string{"agent", "m", "codex", "--continue"}, []string{"codex", "resume", "--no-daemon", "--dangerously-bypass-approvals-and-sandbox", "--last", "--include-non-interactive"}, ""},
		{[]string{"claude", "--new", "m"}, []string{"claude", flag}, ""},
		{[]string{"claude", "m", "--", "-p", "hi"}, []string{"claude", flag, "-p", "hi"}, ""},
	} {
		a := userOf(t, home, nil)
		text, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
		if err != nil {
			t.Fatal(err)
		}
		a.Err = text
		err = a.command(tt.args...)
		said, readErr := os.ReadFile(text.Name())
		if got := <-ran; !errors.Is(err, exitCode(0)) || !slices.Equal(got, tt.want) || readErr != nil {
			t.Errorf("%q = %v, started %q; want %q", tt.args, err, got, tt.want)
		}
		if !strings.Contains(string(said), tt.says) || (tt.says == "") != (len(said) == 0) {
			t.Errorf("%q says %q; want %q", tt.args, said, tt.says)
		}
		text.Close()
	}
	for _, args := range [][]string{{"claude", "--new", "--continue", "m"}, {"claude", "--continue", "m", "--", "-r"}} {
		if err := userOf(t, home, nil).command(args...); !errors.As(err, new(usageError)) {
			t.Errorf("%q = %v; want a usage error", args, err)
		}
	}
}
