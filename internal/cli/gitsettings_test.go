package cli

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly"
)

const hook = "#!/bin/sh\nexit 0\n"

// config returns what git reads of a setting.
func (s *committer) config(key string) string {
	s.t.Helper()
	return strings.TrimSuffix(s.git(s.dir, "config", "--file", ".git/config", "--default", "-", "--get", key), "\n")
}

// A hook comes back if it is named, as a file of its own with the mode of one, and undo
// takes it away. Nothing else below .git can be named.
func TestApplyHook(t *testing.T) {
	s := newCommitter(t)
	s.write(s.guest, ".git/hooks/pre-commit", hook)
	s.write(s.guest, ".git/hooks/pre-push", hook)
	s.write(s.guest, ".git/hooks/helper", hook)
	s.write(s.guest, ".git/info/exclude", "*\n")
	for _, err := range []error{
		os.Chmod(filepath.Join(s.guest, ".git/hooks/pre-commit"), 0o700), os.Chmod(filepath.Join(s.guest, ".git/hooks/pre-push"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	before := tree(t, s.dir)
	for _, args := range [][]string{
		{"--all"}, {"--only", "runs"}, {".git"}, {".git/hooks"}, {".git/hooks/helper"}, {".git/info/exclude"},
	} {
		messages, err := s.mayfly(append([]string{"apply", "m"}, args...)...)
		if code, _ := errors.AsType[exitCode](err); code != exitHeld {
			t.Errorf("apply %q = %v:\n%s", args, err, messages)
		}
		if after := tree(t, s.dir); len(after) != len(before) {
			t.Errorf("apply %q brought more:\n%s", args, messages)
		}
	}
	if messages, err := s.mayfly("apply", "m", ".git/hooks/pre-commit", ".git/hooks/pre-push"); err != nil {
		t.Errorf("apply of hooks = %v:\n%s", err, messages)
	}
	for name, mode := range map[string]os.FileMode{"pre-commit": 0o755, "pre-push": 0o644} {
		name = filepath.Join(s.dir, ".git/hooks", name)
		fi, err := os.Lstat(name)
		if err != nil || fi.Mode() != mode {
			t.Errorf("%s: %v, %v", name, fi.Mode(), err)
		}
		if text, _ := os.ReadFile(name); string(text) != hook {
			t.Errorf("%s holds %q", name, text)
		}
	}
	if messages, err := s.mayfly("undo", "m"); err != nil {
		t.Errorf("undo = %v:\n%s", err, messages)
	}
	if after := tree(t, s.dir); len(after) != len(before) {
		t.Error("undo has left something")
	}
}

// A single setting comes back, as git reads it, into the file as the host has it now; and no
// other. undo takes it back.
func TestApplyGitSetting(t *testing.T) {
	s := newCommitter(t)
	odd := []string{` leading, "quoted" # and; more\ `, "tab\\t = [x]", "-dash", "", "ümlaut"}
	s.git(s.guest, "config", "core.hooksPath", odd[0])
	for _, v := range odd {
		s.git(s.guest, "config", "--add", `url.git@Host:"a]b.insteadOf`, v)
	}
	s.git(s.guest, "config", "user.email", "other@example.org")
	s.git(s.guest, "config", "include.path", "../setup")
	s.git(s.guest, "config", "core.worktree", "/tmp")
	s.git(s.guest, "config", "alias.x", "a\nb")
	s.git(s.dir, "config", "user.name", "Here") // the host goes on, too
	before := tree(t, s.dir)[".git/config"]
	list, notes := userOf(t, s.home, nil).printed(t, "diff", "m", ".git/config")
	for _, want := range []string{
		"[stays in the machine, but for single settings]\n", "mayfly: .git/config: mayfly apply m --git-config KEY applies one of these\n",
		"mayfly:   user.email = other@example.org (here not set): git setting sends data elsewhere", "here not set): git setting runs a program on ordinary git commands [stays in the machine: it includes a file",
	} {
		if !strings.Contains(list+notes, want) {
			t.Errorf("diff printed no %q:\n%s%s", want, list, notes)
		}
	}
	list, _ = userOf(t, s.home, nil).printed(t, "diff", "m", "--json", ".git/config")
	var changes []mayfly.Change
	if err := json.Unmarshal([]byte(list), &changes); err != nil || len(changes) != 1 || len(changes[0].Settings) != 6 || changes[0].Settings[0].New[0] != odd[0] {
		t.Errorf("diff --json printed %s", list)
	}
	for _, tt := range []struct{ key, want string }{
		{"core.pager", "core.pager: the machine changed no such setting of git"},
		{"include.path", "include.path cannot be taken from a machine: it includes a file, whose later content would count unseen"},
		{"core.worktree", "core.worktree cannot be taken from a machine: it says what the repository is"},
		{"alias.x", "alias.x cannot be taken from a machine: it has characters that cannot be shown"},
	} {
		if _, err := s.mayfly("apply", "m", "--git-config", tt.key); err == nil || err.Error() != tt.want {
			t.Errorf("apply --git-config %s = %v; want %q", tt.key, err, tt.want)
		}
	}
	s.write(s.guest, "other.txt", "not asked for")
	if messages, err := s.mayfly("apply", "m", "--git-config", "Core.HooksPath", "--git-config", `url.git@Host:"a]b.insteadof`); err != nil {
		t.Fatalf("apply --git-config = %v:\n%s", err, messages)
	}
	if got := s.config("core.hooksPath"); got != odd[0] {
		t.Errorf("core.hooksPath is %q; want %q", got, odd[0])
	}
	if got := s.git(s.dir, "config", "--file", ".git/config", "--get-all", `url.git@Host:"a]b.insteadOf`); got != strings.Join(odd, "\n") {
		t.Errorf("the url is %q", got)
	}
	if s.config("user.email") != "-" || s.config("include.path") != "-" || s.config("user.name") != "Here" {
		t.Errorf("the file is\n%s", tree(t, s.dir)[".git/config"])
	}
	if _, err := os.Lstat(filepath.Join(s.dir, "other.txt")); err == nil {
		t.Error("another file came")
	}
	if messages, err := s.mayfly("undo", "m"); err != nil || tree(t, s.dir)[".git/config"] != before {
		t.Errorf("undo = %v:\n%s\n%s", err, messages, tree(t, s.dir)[".git/config"])
	}
}

// On a terminal hooks and settings are questions of their own, and an empty line is no.
func TestAskAboutGit(t *testing.T) {
	const first, second, third = "apply .git/hooks/pre-commit? [yes/no/diff]", "apply core.hookspath to .git/config? [yes/no]", "apply user.email to .git/config? [yes/no]"
	for name, tt := range map[string]struct {
		answers    []string
		hook       bool
		path, mail string
		code       int
	}{
		"no":   {[]string{"", "", ""}, false, "-", "-", exitHeld},
		"yes":  {[]string{"y", "y", "y"}, true, "hooks", "x@example.org", exitOK},
		"some": {[]string{"n", "n", "y"}, false, "-", "x@example.org", exitHeld},
	} {
		t.Run(name, func(t *testing.T) {
			s := newCommitter(t)
			s.write(s.guest, ".git/hooks/pre-commit", hook)
			s.git(s.guest, "config", "core.hooksPath", "hooks")
			s.git(s.guest, "config", "user.email", "x@example.org")
			err := dialogue(t, s.home, tt.answers, []string{first, second, third}, "apply", "m")
			code, _ := errors.AsType[exitCode](err)
			if int(code) != tt.code {
				t.Errorf("apply = %v; want %d", err, tt.code)
			}
			_, err = os.Lstat(filepath.Join(s.dir, ".git/hooks/pre-commit"))
			if (err == nil) != tt.hook || s.config("core.hooksPath") != tt.path || s.config("user.email") != tt.mail {
				t.Errorf("hook %v, core.hooksPath %s, user.email %s", err, s.config("core.hooksPath"), s.config("user.email"))
			}
		})
	}
	t.Run("picked", func(t *testing.T) {
		s := newCommitter(t)
		s.git(s.guest, "config", "core.hooksPath", "hooks")
		s.git(s.guest, "config", "user.email", "x@example.org")
		asked := []string{"apply core.hookspath to .git/config? [y/n/q/?]", "apply user.email to .git/config? [y/n/q/?]"}
		if err := dialogue(t, s.home, []string{"n", "y"}, asked, "apply", "m", "-p"); err != nil {
			t.Error(err)
		}
		if s.config("core.hooksPath") != "-" || s.config("user.email") != "x@example.org" {
			t.Errorf("core.hooksPath %s, user.email %s", s.config("core.hooksPath"), s.config("user.email"))
		}
		if err := dialogue(t, s.home, []string{"q"}, asked[:1], "apply", "m", "-p"); err != nil {
			t.Error(err)
		}
	})
}
