package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly"
)

// oddText is a text that plays with a terminal and with its reader.
const oddText = "plain\n\x1b[2Jcleared\r\nif a \u202e b {\n\ttab \u200b\xff"

// A patch shows what would act on a terminal, or would not be seen, and nothing of it acts.
func TestDiffPatch(t *testing.T) {
	home := t.TempDir()
	sessionMachine(t, home, map[string]string{"odd.txt": oddText, "zero": "a\x00b", "large": strings.Repeat("x\n", 1<<20)})
	got, _ := userOf(t, home, nil).printed(t, "diff", "m", "--patch")
	for _, want := range []string{
		"--- /dev/null\n+++ b/odd.txt\n@@ -0,0 +1,4 @@\n+plain\n+\\u{1b}[2Jcleared\\u{d}\n+if a \\u{202e} b {\n+\ttab \\u{200b}\\x{ff}\n\\ No newline at end of file\n",
		"binary content\n", "too large to compare line by line\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("diff --patch printed no %q:\n%s", want, got)
		}
	}
	got, _ = userOf(t, home, nil).printed(t, "diff", "m", "--stat")
	if want := "A  too large to compare line by line  large\nA  +4 -0                              odd.txt\nA  binary content                     zero\n3 changes, +4 -0 lines\n"; got != want {
		t.Errorf("diff --stat printed %q; want %q", got, want)
	}
	got, _ = userOf(t, home, nil).printed(t, "diff", "m", "--json", "--patch", "odd.txt")
	var changes []mayfly.Change
	if err := json.Unmarshal([]byte(got), &changes); err != nil || len(changes) != 1 {
		t.Fatalf("diff --json printed %q", got)
	}
	sum := sha256.Sum256([]byte(oddText))
	if c := changes[0]; c.SHA256 != hex.EncodeToString(sum[:]) || c.OldSHA256 != "" || len(c.Hunks) != 1 || c.Hunks[0].New != [2]int{1, 4} || c.Hunks[0].Lines[0] != "+plain\n" {
		t.Errorf("diff --json printed %+v", c)
	}
	if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' && r != '\n' || r == '\u202e' }) {
		t.Errorf("diff --json printed %q", got)
	}
	for _, args := range [][]string{{"--stat", "--patch"}, {"--name-only", "--json"}, {"--stat", "--name-only"}} {
		if err := userOf(t, home, nil).command(append([]string{"diff", "m"}, args...)...); err == nil || !strings.HasSuffix(err.Error(), "exclude each other") {
			t.Errorf("diff %q = %v", args, err)
		}
	}
}

// On a terminal a patch has colours, which are ours, and a long one goes through the
// user's pager, which may do no more than show it.
func TestDiffPager(t *testing.T) {
	home := t.TempDir()
	sessionMachine(t, home, map[string]string{"long": strings.Repeat("line\n", 100), "short": "\x1b[31mred\n"})
	run := func(path string, env map[string]string) string {
		t.Helper()
		user, ours := pseudoTerminal(t)
		size := unix.Winsize{Row: 24, Col: 80}
		if err := unix.IoctlSetWinsize(int(ours.Fd()), unix.TIOCSWINSZ, &size); err != nil {
			t.Fatal(err)
		}
		shown := make(chan string, 1)
		go func() {
			text, _ := io.ReadAll(user) // ends with an error once nobody has the other end
			shown <- string(text)
		}()
		a := userOf(t, home, ours)
		a.Out = ours
		getenv := a.getenv
		a.getenv = func(name string) string {
			if v, ok := env[name]; ok {
				return v
			}
			return getenv(name)
		}
		if err := a.command("diff", "m", "--patch", path); err != nil {
			t.Errorf("diff --patch %s = %v", path, err)
		}
		ours.Close()
		return <-shown
	}
	pagedTo := filepath.Join(t.TempDir(), "paged")
	env := map[string]string{"PAGER": fmt.Sprintf(`sh -c 'echo "secure $LESSSECURE, less $LESS" >%s; cat >>%[1]s'`, pagedTo), "TERM": "xterm"}
	if got := run("short", env); !strings.Contains(got, "\x1b[32m+\x1b[m\x1b[7m\\u{1b}\x1b[m\x1b[32m[31mred\x1b[m\r\n") {
		t.Errorf("on the terminal: %q", got)
	}
	if _, err := os.Stat(pagedTo); err == nil {
		t.Error("what fits on the screen went through the pager")
	}
	run("long", env)
	got, err := os.ReadFile(pagedTo)
	if err != nil || !strings.HasPrefix(string(got), "secure 1, less FRX\n") || strings.Count(string(got), "+line") != 100 {
		t.Errorf("the pager got %q, %v", got, err)
	}
	env["PAGER"], env["NO_COLOR"] = "true", "1"
	run("long", env) // who leaves before the end
	if got := run("short", env); strings.Contains(got, "\x1b") {
		t.Errorf("without colours: %q", got)
	}
	env["PAGER"] = "cat"
	if got := run("long", env); strings.Count(got, "+line") != 100 {
		t.Errorf("without a pager: %q", got)
	}
}

// How a change differs is on the screen before the question about it.
func TestQuestionShows(t *testing.T) {
	home := t.TempDir()
	sessionMachine(t, home, map[string]string{runs: "{\"hooks\": {\"Stop\": \"sh x\"}}\n" + strings.Repeat("\n", 100)})
	user, ours := pseudoTerminal(t)
	shown := make(chan string, 1)
	go func() {
		var text []byte
		answers := []string{"diff\n", "y\n"}
		for buf := make([]byte, 4096); ; {
			n, err := user.Read(buf)
			if err != nil {
				break
			}
			text = append(text, buf[:n]...)
			if strings.HasSuffix(string(text), "[yes/no/diff] ") && len(answers) > 0 {
				user.WriteString(answers[0])
				answers = answers[1:]
			}
		}
		shown <- string(text)
	}()
	a := userOf(t, home, ours)
	a.getenv = func(name string) string { return map[string]string{"PAGER": "cat", "HOME": home}[name] }
	if err := a.command("apply", "m"); err != nil {
		t.Errorf("apply = %v", err)
	}
	ours.Close()
	a.In.Close()
	text := <-shown
	first, rest, _ := strings.Cut(text, "[yes/no/diff] ")
	if !strings.Contains(first, `{"hooks": {"Stop": "sh x"}}`) || !strings.Contains(first, "more lines; \"diff\" shows them") {
		t.Errorf("before the question: %q", first)
	}
	if strings.Count(rest, "+") < 100 || !strings.Contains(rest, "applied 1 of 1") {
		t.Errorf("after it: %q", rest)
	}
}
