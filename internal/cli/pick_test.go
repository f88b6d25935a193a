package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// tenLines is a text of ten lines, in which some are others.
func tenLines(others ...string) string {
	var lines []string
	for i := range 10 {
		lines = append(lines, fmt.Sprintf("line %d\n", i))
	}
	for i := 0; i < len(others); i += 2 {
		lines[slices.Index(lines, others[i]+"\n")] = others[i+1] + "\n"
	}
	return strings.Join(lines, "")
}

// pickedMachine is a machine whose workspace has files of before and that has those of after.
func pickedMachine(t *testing.T, home string, before, after map[string]string) *fakeMachine {
	t.Helper()
	for name, text := range before {
		name = filepath.Join(home, "project", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return sessionMachine(t, home, after)
}

// dialogue runs a command on a terminal, and checks its questions.
func dialogue(t *testing.T, home string, answers, questions []string, args ...string) error {
	t.Helper()
	user, ours := pseudoTerminal(t)
	asked := answering(user, answers)
	err := userOf(t, home, ours).command(args...)
	select {
	case got := <-asked:
		if !slices.Equal(got, questions) {
			t.Errorf("%q asked %q; want %q", args, got, questions)
		}
	case <-time.After(time.Minute):
		t.Errorf("%q did not ask all of %q", args, questions)
	}
	return err
}

func (m *fakeMachine) has(t *testing.T, name, want string) {
	t.Helper()
	if got, err := os.ReadFile(filepath.Join(m.dir, name)); string(got) != want || err != nil && want != "" {
		t.Errorf("%s holds %q, %v; want %q", name, got, err, want)
	}
}

// Hunks and files are picked as with git add -p. What is left out is what the next one
// shows, and an undo takes the last one back.
func TestApplyPicks(t *testing.T) {
	const whole, both, later = "apply this new file? [y/n/q/?]", "(1/2) apply this hunk? [y/n/q/a/d/?]", "(2/2) apply this hunk? [y/n/q/a/d/?]"
	const one, parts = "(1/1) apply this hunk? [y/n/q/a/d/?]", "(1/1) apply this hunk? [y/n/q/a/d/s/?]"
	far := tenLines("line 0", "first", "line 9", "last")
	near := tenLines("line 2", "two", "line 4", "four")
	for name, tt := range map[string]struct {
		answers, asked []string
		a, b, c        string // what these files are then
	}{
		"all":          {[]string{"y", "y", "y", "y"}, []string{both, later, parts, whole}, far, near, "new\n"},
		"none":         {[]string{"n", "n", "n", "n"}, []string{both, later, parts, whole}, tenLines(), tenLines(), ""},
		"one hunk":     {[]string{"n", "y", "n", "y"}, []string{both, later, parts, whole}, tenLines("line 9", "last"), tenLines(), "new\n"},
		"all of one":   {[]string{"a", "n", "n"}, []string{both, parts, whole}, far, tenLines(), ""},
		"none of one":  {[]string{"d", "y", "y"}, []string{both, parts, whole}, tenLines(), near, "new\n"},
		"quit":         {[]string{"y", "q"}, []string{both, later}, tenLines("line 0", "first"), tenLines(), ""},
		"split":        {[]string{"d", "s", "n", "y", "n"}, []string{both, parts, both, later, whole}, tenLines(), tenLines("line 4", "four"), ""},
		"a question":   {[]string{"d", "?", "y", "?", "n"}, []string{both, parts, parts, whole, whole}, tenLines(), near, ""},
		"an odd word":  {[]string{"d", "", "s", "y", "q"}, []string{both, parts, parts, both, later}, tenLines(), tenLines("line 2", "two"), ""},
		"not answered": {[]string{"y", "\x04"}, []string{both, later}, tenLines(), tenLines(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			m := pickedMachine(t, home, map[string]string{"a.txt": tenLines(), "b.txt": tenLines()}, map[string]string{"a.txt": far, "b.txt": near, "c.txt": "new\n"})
			err := dialogue(t, home, tt.answers, tt.asked, "apply", "m", "-p")
			if want := name == "not answered"; (err != nil) != want {
				t.Errorf("apply -p = %v", err)
			}
			m.has(t, "a.txt", tt.a)
			m.has(t, "b.txt", tt.b)
			m.has(t, "c.txt", tt.c)
			left := ""
			for _, f := range []struct{ name, now, want string }{{"a.txt", tt.a, far}, {"b.txt", tt.b, near}, {"c.txt", tt.c, "new\n"}} {
				if f.now != f.want {
					left += f.name + "\n"
				}
			}
			if got, _ := userOf(t, home, nil).printed(t, "diff", "m", "--name-only"); got != left {
				t.Errorf("afterwards diff lists %q; want %q", got, left)
			}
			if err := userOf(t, home, nil).command("apply", "m"); err != nil {
				t.Errorf("apply = %v", err)
			}
			m.has(t, "a.txt", far)
			m.has(t, "b.txt", near)
			m.has(t, "c.txt", "new\n")
		})
	}
	t.Run("again", func(t *testing.T) {
		home := t.TempDir()
		m := pickedMachine(t, home, map[string]string{"a.txt": tenLines()}, map[string]string{"a.txt": far})
		if err := dialogue(t, home, []string{"y", "n"}, []string{both, later}, "apply", "m", "-p"); err != nil {
			t.Fatal(err)
		}
		got, _ := userOf(t, home, nil).printed(t, "diff", "m", "--patch")
		if !strings.Contains(got, "-line 9\n+last\n") || strings.Contains(got, "+first") {
			t.Errorf("afterwards diff --patch printed\n%s", got)
		}
		m.files["a.txt"] = tenLines("line 0", "first", "line 9", "the last") // the machine goes on
		if err := dialogue(t, home, []string{"y"}, []string{one}, "apply", "m", "-p"); err != nil {
			t.Fatal(err)
		}
		m.has(t, "a.txt", m.files["a.txt"])
		if err := userOf(t, home, nil).command("undo", "m"); err != nil {
			t.Fatal(err)
		}
		m.has(t, "a.txt", tenLines("line 0", "first"))
		if err := dialogue(t, home, []string{"y"}, []string{one}, "apply", "m", "-p"); err != nil {
			t.Fatal(err)
		}
		m.has(t, "a.txt", m.files["a.txt"])
		// What the user writes since is not overwritten.
		if err := os.WriteFile(filepath.Join(m.dir, "a.txt"), []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
		m.files["a.txt"] = far
		if err := userOf(t, home, nil).command("apply", "m"); err == nil {
			t.Error("apply over what the user wrote = nil")
		}
		m.has(t, "a.txt", "mine")
	})
}

// A part that is graver than the whole is asked about once more, with its own reason.
func TestApplyPickGraver(t *testing.T) {
	home := t.TempDir()
	// The whole puts harmless settings into an object; a part of that cannot be read.
	old := "{\n  \"a\": 1,\n  \"b\": 2,\n  \"c\": 3,\n  \"d\": 4,\n  \"e\": 5,\n  \"f\": 6,\n  \"g\": 7,\n  \"editor.tabSize\": 4\n}\n"
	now := strings.NewReplacer("{\n", "{\"x\": {\n", "4\n}\n", "4\n}}\n").Replace(old)
	m := pickedMachine(t, home, map[string]string{".vscode/settings.json": old}, map[string]string{".vscode/settings.json": now})
	list, _ := userOf(t, home, nil).printed(t, "diff", "m")
	t.Log(list)
	err := dialogue(t, home, []string{"y", "n", "n"},
		[]string{"(1/2) apply this hunk? [y/n/q/a/d/?]", "(2/2) apply this hunk? [y/n/q/a/d/?]", "apply this part of .vscode/settings.json? [y/n/?]"}, "apply", "m", "-p")
	if err != nil {
		t.Error(err)
	}
	m.has(t, ".vscode/settings.json", old)
}

// Without a terminal there is one clear line, and nothing is applied.
func TestApplyPickUnattended(t *testing.T) {
	home := t.TempDir()
	m := sessionMachine(t, home, session)
	err := userOf(t, home, nil).command("apply", "m", "-p")
	if _, usage := errors.AsType[usageError](err); !usage || err.Error() != "--patch asks about each change, and there is no terminal to ask on" {
		t.Errorf("apply -p = %v", err)
	}
	if err := userOf(t, home, nil).command("apply", "m", "-p", "--all"); err == nil || err.Error() != "--all and --patch exclude each other" {
		t.Errorf("apply -p --all = %v", err)
	}
	if got := m.onHost(t); len(got) > 0 {
		t.Errorf("the directory has %q", got)
	}
}

// Modes, deletions and binary contents are one question each, and so are all commits.
func TestApplyPickKinds(t *testing.T) {
	const mode, hunk, whole = "apply the mode 755, was 644? [y/n/q/?]", "(1/1) apply this hunk? [y/n/q/a/d/?]", "apply this change? [y/n/q/?]"
	const deletion, commits = "apply this deletion? [y/n/q/?]", "bring these commits back? [y/n/q/?]"
	all := []string{commits, mode, hunk, whole, deletion}
	for name, tt := range map[string]struct {
		answers, asked []string
		committed      bool
		mode           os.FileMode
		text, binary   string
		gone           bool
	}{
		"all":       {[]string{"y", "y", "y", "y", "y"}, all, true, 0o755, "2\n", "\x00\x02", true},
		"none":      {[]string{"n", "n", "n", "n", "n"}, all, false, 0o644, "1\n", "\x00\x01", false},
		"the mode":  {[]string{"n", "y", "n", "n", "n"}, all, false, 0o755, "1\n", "\x00\x01", false},
		"the lines": {[]string{"n", "n", "y", "n", "y"}, all, false, 0o644, "2\n", "\x00\x01", true},
		"quit":      {[]string{"y", "q"}, all[:2], false, 0o644, "1\n", "\x00\x01", false},
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := newRepository(t)
			s.write(dir, "binary", "\x00\x01")
			s.git(dir, "add", ".")
			s.git(dir, "commit", "-q", "-m", "binary")
			s.start()
			s.write(s.guest, "a.txt", "2\n")
			if err := os.Chmod(filepath.Join(s.guest, "a.txt"), 0o755); err != nil {
				t.Fatal(err)
			}
			s.write(s.guest, "binary", "\x00\x02")
			s.git(s.guest, "rm", "-q", "dir/gone.txt")
			tip := s.commit(s.guest, "one")
			if err := dialogue(t, s.home, tt.answers, tt.asked, "apply", "m", "-p"); err != nil {
				t.Error(err)
			}
			if got := s.git(s.dir, "rev-parse", "main") == tip; got != tt.committed {
				t.Errorf("the branch has gone on: %t", got)
			}
			if fi, err := os.Lstat(filepath.Join(s.dir, "a.txt")); err != nil || fi.Mode() != tt.mode {
				t.Errorf("the mode is %v, %v", fi.Mode(), err)
			}
			s.has(t, "a.txt", tt.text)
			s.has(t, "binary", tt.binary)
			if _, err := os.Lstat(filepath.Join(s.dir, "dir/gone.txt")); (err != nil) != tt.gone {
				t.Errorf("the deleted file: %v", err)
			}
		})
	}
}
