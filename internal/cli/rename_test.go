package cli

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly"
)

// moved is a machine that has renamed files: one as it was, one edited, one to where git
// runs it, and one that is another file now.
func moved(t *testing.T) *committer {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git here")
	}
	s, dir := newRepository(t)
	for name, text := range map[string]string{"same.txt": "one\ntwo\nthree\n", "edited.txt": tenLines(), "hook.txt": "#!/bin/sh\nmake lint\n", "other.txt": tenLines("line 0", "x")} {
		s.write(dir, name, text)
	}
	s.git(dir, "add", ".")
	s.git(dir, "commit", "-q", "-m", "files")
	s.start()
	for from, to := range map[string]string{"same.txt": "deep/er/same.txt", "edited.txt": "new.txt", "hook.txt": ".husky/pre-commit"} {
		to = filepath.Join(s.guest, to)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.Rename(filepath.Join(s.guest, from), to)); err != nil {
			t.Fatal(err)
		}
	}
	s.write(s.guest, "new.txt", tenLines("line 3", "three"))
	if err := os.Remove(filepath.Join(s.guest, "other.txt")); err != nil {
		t.Fatal(err)
	}
	s.write(s.guest, "unlike.txt", "nothing of it\n")
	return s
}

// Files that were renamed are one change, in all lists, with the class of where they go.
func TestRenames(t *testing.T) {
	s := moved(t)
	list, notes := userOf(t, s.home, nil).printed(t, "diff", "m")
	for _, want := range []string{
		"R  same.txt -> deep/er/same.txt\n", "R  edited.txt -> new.txt (-1 B)\n", "  R  hook.txt -> .husky/pre-commit: a script; runs when you or a tool call it", "D  other.txt\n", "A  unlike.txt (14 B)\n",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("diff printed no %q:\n%s", want, list)
		}
	}
	if !strings.Contains(notes, "1 added, 1 deleted, 3 renamed\n") {
		t.Errorf("diff notes %q", notes)
	}
	list, _ = userOf(t, s.home, nil).printed(t, "diff", "m", "--patch", "new.txt", "same.txt")
	for _, want := range []string{
		"similarity index 90%\nrename from edited.txt\nrename to new.txt\n--- a/edited.txt\n+++ b/new.txt\n@@ -1,7 +1,7 @@\n", "-line 3\n+three\n",
		"similarity index 100%\nrename from same.txt\nrename to deep/er/same.txt\n",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("diff --patch printed no %q:\n%s", want, list)
		}
	}
	if list, _ = userOf(t, s.home, nil).printed(t, "diff", "m", "--stat", "edited.txt"); !strings.HasPrefix(list, "R  +1 -1  edited.txt -> new.txt\n") {
		t.Errorf("diff --stat printed %q", list)
	}
	list, _ = userOf(t, s.home, nil).printed(t, "diff", "m", "--json", "new.txt")
	var changes []mayfly.Change
	if err := json.Unmarshal([]byte(list), &changes); err != nil || len(changes) != 1 || changes[0].Op != "R" || changes[0].From != "edited.txt" || changes[0].Likeness != 90 || changes[0].OldSHA256 == "" {
		t.Errorf("diff --json printed %s", list)
	}
}

// Both halves are applied, or none is: also where one is held back, or a conflict.
func TestApplyRenames(t *testing.T) {
	s := moved(t)
	if err := os.WriteFile(filepath.Join(s.dir, "same.txt"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	messages, err := s.mayfly("apply", "m")
	if code, _ := errors.AsType[exitCode](err); code != exitError || !strings.Contains(messages, "applied 3 of 4 changes") || !strings.Contains(messages, "not applied: same.txt: changed on the host") {
		t.Errorf("apply = %v:\n%s", err, messages)
	}
	is := func(name, want string) {
		t.Helper()
		if got, _ := os.ReadFile(filepath.Join(s.dir, name)); string(got) != want {
			t.Errorf("%s holds %q; want %q", name, got, want)
		}
	}
	is("same.txt", "mine")
	is("deep/er/same.txt", "")
	is("edited.txt", "")
	is("new.txt", tenLines("line 3", "three"))
	is("hook.txt", "#!/bin/sh\nmake lint\n")
	is(".husky/pre-commit", "")
	if messages, err := s.mayfly("apply", "m", "hook.txt", ".husky/pre-commit"); err != nil {
		t.Errorf("apply of the hook = %v:\n%s", err, messages)
	}
	is("hook.txt", "")
	is(".husky/pre-commit", "#!/bin/sh\nmake lint\n")
	if messages, err := s.mayfly("undo", "m"); err != nil || !strings.Contains(messages, "took back 1 of 1 changes") {
		t.Errorf("undo = %v:\n%s", err, messages)
	}
	is("hook.txt", "#!/bin/sh\nmake lint\n")
	is(".husky/pre-commit", "")
}
