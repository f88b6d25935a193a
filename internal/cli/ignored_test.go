package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// printed runs a command of mayfly and returns what it printed on both streams.
func (a *app) printed(t *testing.T, args ...string) (out, messages string) {
	t.Helper()
	dir := t.TempDir()
	stdout, err := os.Create(filepath.Join(dir, "out"))
	stderr, err2 := os.Create(filepath.Join(dir, "err"))
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	defer stdout.Close()
	defer stderr.Close()
	a.Out, a.Err = stdout, stderr
	if err := a.command(args...); err != nil {
		t.Errorf("%s = %v", args, err)
	}
	text, err := os.ReadFile(stdout.Name())
	note, err2 := os.ReadFile(stderr.Name())
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return string(text), string(note)
}

// What the host's git ignores is one line, and stays in the machine until it is asked for.
func TestIgnored(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git here")
	}
	home := t.TempDir()
	m := runFakeMachine(t, home, map[string]string{
		"main.go": "package main", ".envrc": "rm -rf /", ".gitignore": ".envrc\nmain.go\n",
		"a.o": strings.Repeat("a", 2<<20), "b.o": "b",
	})
	cmd := exec.Command("git", "init", "-q")
	cmd.Dir = m.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git init: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(m.dir, ".git", "info", "exclude"), []byte("*.o\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const line = "mayfly: 2 ignored files changed, 3 MiB; not applied (--ignored applies them)\n"

	list, _ := userOf(t, home, nil).printed(t, "diff", "m", "--name-only")
	if want := ".envrc\n.gitignore\nmain.go\n"; list != want {
		t.Errorf("diff --name-only printed %q", list)
	}
	list, notes := userOf(t, home, nil).printed(t, "diff", "m")
	if strings.Contains(list, ".o") || !strings.Contains(notes, "mayfly: 3 added\n") || !strings.HasSuffix(notes, line) {
		t.Errorf("diff printed %q and %q", list, notes)
	}
	list, notes = userOf(t, home, nil).printed(t, "diff", "--ignored", "m")
	if !strings.Contains(list, "A  a.o (2.0 MiB)\n") || !strings.HasPrefix(notes, "mayfly: 5 added\n") || strings.Contains(notes, "not applied") {
		t.Errorf("diff --ignored printed %q and %q", list, notes)
	}
	list, _ = userOf(t, home, nil).printed(t, "diff", "--json", "m")
	var changes []mayfly.Change
	if err := json.Unmarshal([]byte(list), &changes); err != nil || len(changes) != 5 {
		t.Fatalf("diff --json printed %q", list)
	}
	for _, c := range changes {
		if c.Ignored != strings.HasSuffix(c.Path, ".o") {
			t.Errorf("diff --json: %s is ignored: %t", c.Path, c.Ignored)
		}
	}

	files := func() (names []string) {
		entries, err := os.ReadDir(m.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	_, notes = userOf(t, home, nil).printed(t, "apply", "--all", "m")
	if got := files(); !slices.Equal(got, []string{".envrc", ".git", ".gitignore", "main.go"}) || !strings.Contains(notes, line) {
		t.Errorf("after apply the directory has %q; it printed %q", got, notes)
	}
	_, notes = userOf(t, home, nil).printed(t, "apply", "--all", "--ignored", "m")
	if got := files(); !slices.Equal(got, []string{".envrc", ".git", ".gitignore", "a.o", "b.o", "main.go"}) || strings.Contains(notes, "not applied") {
		t.Errorf("after apply --ignored the directory has %q; it printed %q", got, notes)
	}
}

// What tools make is one line as well, and stays until it is named or asked for; but not
// what the host's git tracks.
func TestGenerated(t *testing.T) {
	s, dir := newRepository(t)
	s.write(dir, "node_modules/kept/index.js", "1\n")
	s.write(dir, "lib/node_modules/gone.js", "1\n")
	s.git(dir, "add", ".")
	s.git(dir, "commit", "-q", "-m", "with packages")
	if err := os.RemoveAll(filepath.Join(dir, "lib")); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.write(s.guest, "node_modules/kept/index.js", "2\n")
	s.write(s.guest, "lib/node_modules/gone.js", "2\n")
	s.write(s.guest, "app/node_modules/new/index.js", "2\n")
	s.write(s.guest, "app/node_modules/.bin/x", "2\n")
	s.write(s.guest, "app/main.js", "2\n")
	const line = "mayfly: 2 generated files changed, 1 MiB; not applied (--ignored applies them)\n"
	list, notes := userOf(t, s.home, nil).printed(t, "diff", "m", "--name-only")
	if want := "app/main.js\nlib/node_modules/gone.js\nnode_modules/kept/index.js\n"; list != want || notes != "" {
		t.Errorf("diff --name-only printed %q and %q", list, notes)
	}
	if _, notes = userOf(t, s.home, nil).printed(t, "diff", "m"); !strings.HasSuffix(notes, line) {
		t.Errorf("diff notes %q", notes)
	}
	if list, _ := userOf(t, s.home, nil).printed(t, "diff", "m", "--name-only", "app/node_modules"); list != "app/node_modules/.bin/x\napp/node_modules/new/index.js\n" {
		t.Errorf("diff of the directory printed %q", list)
	}
	there := func(want bool, what string, name string) {
		t.Helper()
		if _, err := os.Lstat(filepath.Join(s.dir, name)); (err == nil) != want {
			t.Errorf("%s: %s is there: %t", what, name, err == nil)
		}
	}
	if messages, err := s.mayfly("apply", "m", "--all"); err != nil || !strings.Contains(messages, line) {
		t.Errorf("apply --all = %v:\n%s", err, messages)
	}
	there(true, "apply --all", "app/main.js")
	there(true, "apply --all", "lib/node_modules/gone.js")
	there(false, "apply --all", "app/node_modules")
	if messages, err := s.mayfly("apply", "m", "--all", "app/node_modules/new"); err != nil {
		t.Errorf("apply of a path = %v:\n%s", err, messages)
	}
	there(true, "apply of a path", "app/node_modules/new/index.js")
	there(false, "apply of a path", "app/node_modules/.bin/x")
	if messages, err := s.mayfly("apply", "m", "--all", "--ignored"); err != nil || strings.Contains(messages, "generated") {
		t.Errorf("apply --ignored = %v:\n%s", err, messages)
	}
	there(true, "apply --ignored", "app/node_modules/.bin/x")
}

// Ignored files alone are nothing to ask about, and do not keep a machine.
func TestRunIgnored(t *testing.T) {
	user, ours := pseudoTerminal(t)
	go io.Copy(io.Discard, user)
	ignored := func(context.Context) (*mayfly.ChangeSet, error) {
		return &mayfly.ChangeSet{Changes: []mayfly.Change{{Op: "A", Path: "a.o", Kind: "file", Size: 1, Ignored: true}}}, nil
	}
	for name, in := range map[string]*os.File{"on a terminal": ours, "without a terminal": nil} {
		t.Run(name, func(t *testing.T) {
			for _, o := range []runOptions{{}, {apply: true}, {discard: true}} {
				m := &fakeStarted{changes: ignored}
				printed, err := runFake(t, m, o, in)
				if err != nil || !m.discarded || m.kept {
					t.Errorf("run = %v; discarded: %t, kept: %t", err, m.discarded, m.kept)
				}
				want := "mayfly: 1 ignored file changed, 1 MiB; not applied (--ignored applies them)\n"
				if !o.discard { // before they are gone
					want += "mayfly: they go with the machine; mayfly run --keep keeps it, and them\n"
				}
				if in == nil && printed != want {
					t.Errorf("run printed %q; want %q", printed, want)
				}
			}
		})
	}
	m := &fakeStarted{changes: ignored}
	if printed, err := runFake(t, m, runOptions{keep: true}, nil); err != nil || m.discarded || strings.Contains(printed, "they go with") {
		t.Errorf("run --keep = %v; discarded: %t; printed %q", err, m.discarded, printed)
	}
	m = &fakeStarted{changes: ignored}
	if printed, err := runFake(t, m, runOptions{ignored: true}, nil); err != nil || !strings.Contains(printed, "mayfly: 1 added\n") {
		t.Errorf("run --ignored = %v; printed %q", err, printed)
	}
}

// Very many files in a new directory that git ignores are counted, and listed one by one
// where a program or the user asks for them.
func TestIgnoredCounted(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git here")
	}
	const many = 6000
	home := t.TempDir()
	m := runFakeMachine(t, home, map[string]string{"main.go": "x"})
	cmd := exec.Command("git", "init", "-q")
	cmd.Dir = m.dir
	out, err := cmd.CombinedOutput()
	if err := errors.Join(err, os.WriteFile(filepath.Join(m.dir, ".git", "info", "exclude"), []byte("/d/\n"), 0o644)); err != nil {
		t.Fatalf("git init: %v\n%s", err, out)
	}
	m.lists(many+1, func(i int) wire.Change {
		if i == many {
			return small("main.go")
		}
		return small("d/%d", i)
	})
	const line = "mayfly: 6,000 ignored files changed, 1 MiB; not applied (--ignored applies them)\n"
	if list, notes := userOf(t, home, nil).printed(t, "diff", "m"); list != "A  main.go (1 B)\n" || !strings.HasSuffix(notes, line) {
		t.Errorf("diff printed %q and %q", list, notes)
	}
	list, _ := userOf(t, home, nil).printed(t, "diff", "m", "--json")
	var changes []mayfly.Change
	if err := json.Unmarshal([]byte(list), &changes); err != nil || len(changes) != many+1 {
		t.Errorf("diff --json lists %d changes, %v", len(changes), err)
	}
	if list, _ := userOf(t, home, nil).printed(t, "diff", "m", "--name-only", "--ignored"); strings.Count(list, "\n") != many+1 {
		t.Errorf("diff --ignored lists %d changes", strings.Count(list, "\n"))
	}
	if list, _ := userOf(t, home, nil).printed(t, "diff", "m", "--name-only", "d"); list != "" {
		t.Errorf("diff of the directory printed %q", list)
	}
	if _, notes := userOf(t, home, nil).printed(t, "apply", "m"); !strings.Contains(notes, "applied 1 of 1 changes") || !strings.Contains(notes, line) {
		t.Errorf("apply printed %q", notes)
	}
}
