package login

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
)

const plain = "sk-ant-api03-PLAIN0123456789abcdefghij"

func keep(t *testing.T, s Store, agent, key string) Login {
	t.Helper()
	l, err := s.Keep(t.Context(), agent, secret.NewValue(key), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// What is kept comes back, from a file and a directory that only their user can read, and
// goes to the hosts of the table.
func TestKeep(t *testing.T) {
	s := Store{filepath.Join(t.TempDir(), "logins")}
	if list, err := s.List(); len(list) > 0 || err != nil {
		t.Errorf("List() of no directory = %v, %v; want nothing", list, err)
	}
	for _, a := range codingagent.Agents() {
		l := keep(t, s, a.Name, plain)
		if v, err := s.Value(a.Name); v.Reveal() != plain || err != nil {
			t.Errorf("Value(%s) = %v, %v; want what was kept", a.Name, v, err)
		}
		if len(l.Key.Hosts) == 0 || !a.TakesKey(l.Key.Variable) {
			t.Errorf("the key of %s goes to %q as %q", a.Name, l.Key.Hosts, l.Key.Variable)
		}
		if text := fmt.Sprintf("%v %+v %#v", l, l, l); strings.Contains(text, "PLAIN") {
			t.Errorf("a log-in prints as %s", text)
		}
	}
	if l := keep(t, s, "claude", "sk-ant-oat01-abcdefghijklmnopqrstuv"); l.Key.Variable != "CLAUDE_CODE_OAUTH_TOKEN" {
		t.Errorf("the token of a subscription is in %s; want CLAUDE_CODE_OAUTH_TOKEN", l.Key.Variable)
	}
	list, err := s.List()
	if len(list) != len(codingagent.Agents()) || err != nil {
		t.Errorf("List() = %v, %v; want all agents", list, err)
	}
	for name, want := range map[string]fs.FileMode{s.Dir: 0o700, s.file("claude"): 0o600} {
		if fi, err := os.Stat(name); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v; want %v", name, fi.Mode(), err, want)
		}
	}
	if err := s.Remove(t.Context(), "claude"); err != nil {
		t.Error(err)
	}
	if _, err := s.Value("claude"); !errors.Is(err, fs.ErrNotExist) || fault.CodeOf(err) != fault.LoginMissing {
		t.Errorf("Value() of what was removed: %v; want LoginMissing", err)
	}
}

// A name is one of the table, and so never leads out of the directory.
func TestNames(t *testing.T) {
	s := Store{t.TempDir()}
	for _, name := range []string{"", "../x", "nobody", "claude/../x"} {
		if _, err := s.Keep(t.Context(), name, secret.NewValue(plain), time.Now()); err == nil {
			t.Errorf("Keep(%q) works", name)
		}
		if _, err := s.Value(name); err == nil {
			t.Errorf("Value(%q) works", name)
		}
		if s.Remove(t.Context(), name) == nil {
			t.Errorf("Remove(%q) works", name)
		}
	}
}

// A file that others can read, or that is damaged, is an error without a word of it, and
// the other log-ins are there all the same.
func TestUnreadable(t *testing.T) {
	s := Store{t.TempDir()}
	keep(t, s, "claude", plain)
	keep(t, s, "codex", plain)
	check := func(what string, code fault.Code) {
		t.Helper()
		list, err := s.List()
		if len(list) != 1 || list[0].Agent != "codex" || fault.CodeOf(err) != code || strings.Contains(err.Error(), "PLAIN") {
			t.Errorf("%s: List() = %v, %v; want codex, and %s", what, list, err, code)
		}
		if _, err := s.Value("claude"); fault.CodeOf(err) != code {
			t.Errorf("%s: Value() gives %v; want %s", what, err, code)
		}
	}
	for _, mode := range []fs.FileMode{0o640, 0o604} {
		os.Chmod(s.file("claude"), mode)
		check(mode.String(), fault.LoginExposed)
	}
	for _, text := range []string{"", "PLAIN", `{"version":2,"kind":"key","key":"PLAIN"}`, `{"version":1,"kind":"other","key":"PLAIN"}`, `{"version":1,"kind":"key"}`} {
		os.Remove(s.file("claude"))
		if err := os.WriteFile(s.file("claude"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		check(text, fault.LoginInvalid)
	}
}

// What a killed process left is removed: there may be a key in it.
func TestLeftovers(t *testing.T) {
	s := Store{t.TempDir()}
	left := filepath.Join(s.Dir, ".mayfly-new-123")
	if err := os.WriteFile(left, []byte(plain), 0o600); err != nil {
		t.Fatal(err)
	}
	keep(t, s, "claude", plain)
	if _, err := os.Lstat(left); err == nil {
		t.Error("a temporary file is left")
	}
}

// The file of a log-in is known by whatever name.
func TestHolds(t *testing.T) {
	dir := t.TempDir()
	s := Store{filepath.Join(dir, "logins")}
	keep(t, s, "claude", plain)
	link, hard, other := filepath.Join(dir, "link"), filepath.Join(dir, "hard"), filepath.Join(dir, "other")
	if err := errors.Join(os.Symlink(s.file("claude"), link), os.Link(s.file("claude"), hard), os.WriteFile(other, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{s.file("claude"): true, link: true, hard: true, other: false, filepath.Join(dir, "none"): false} {
		if s.Holds(path) != want {
			t.Errorf("Holds(%s) = %v; want %v", path, !want, want)
		}
	}
}
