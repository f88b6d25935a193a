package cli

import (
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
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
		{"another agent", []string{"codex", "m"}, true, "y\n", []string{"codex", "resume", "--no-daemon", "--dangerously-bypass-approvals-and-sandbox", "--last"}, ""},
		{"arguments", []string{"claude", "m", "--", "-r"}, true, "", []string{"claude", flag, "-r"}, ""},
		{"--new", []string{"claude", "--new", "m"}, true, "", []string{"claude", flag}, ""},
		{"--detach", []string{"claude", "--detach", "m"}, true, "", []string{"claude", flag}, "mayfly claude m -- --continue continues the last one"},
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
	// Nobody is asked whose standard output is a pipe.
	home := t.TempDir()
	runFakeMachine(t, home, nil).earlier = true
	_, ours := pseudoTerminal(t)
	a := userOf(t, home, ours)
	a.In = os.Stdin
	if err := a.command("claude", "m"); !errors.Is(err, exitCode(0)) {
		t.Error(err)
	}
}
