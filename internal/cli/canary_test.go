package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/test/canary"
)

// No command by which changes and commits come and go runs anything of the user's
// configuration, of the repository's, or of what the machine made of that.
func TestReviewRunsNothing(t *testing.T) {
	s, dir := newRepository(t)
	s.write(dir, ".gitattributes", canary.Attributes)
	s.write(dir, "c.crlf", "one\n")
	s.git(dir, "add", ".")
	s.git(dir, "commit", "-q", "-m", "attributes")
	s.start()
	s.write(s.guest, "a.txt", "2\n")
	s.write(s.guest, "c.crlf", "two\n")
	s.git(s.guest, "commit", "-q", "-a", "-m", "guest")
	s.git(s.guest, "branch", "other")
	s.write(s.guest, "new.txt", "not committed\n")
	tip := s.git(s.guest, "rev-parse", "HEAD")
	set := canary.New(t)
	set.Arm(t, dir)
	set.Arm(t, s.guest)
	set.ArmUser(t, filepath.Join(s.home, ".gitconfig"))
	for _, name := range []string{"GIT_PAGER", "GIT_EDITOR", "GIT_EXTERNAL_DIFF", "GIT_SSH_COMMAND", "GIT_ASKPASS"} {
		t.Setenv(name, set.Program(t, name))
	}

	run := func(args ...string) string {
		t.Helper()
		out, err := s.mayfly(args...)
		if err != nil {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
		for _, name := range set.Ran(t) {
			// git 2.39 needs its filters to compare files, in the machine.
			if !strings.Contains(name, "_guest filter.x.") {
				t.Fatalf("%q ran %q", args, name)
			}
		}
		return out
	}
	head := func() string {
		t.Helper()
		// With git itself, a canary would run.
		return s.gitFile(dir, "refs/heads/main")
	}
	if out := run("diff", "m"); !strings.Contains(out, "new.txt") {
		t.Errorf("diff printed %q", out)
	}
	run("diff", "m", "--patch")
	run("diff", "m", "--stat")
	run("diff", "m", "--json")
	run("apply", "m", "--all", "--except", ".git/**")
	if got := head(); got != tip {
		t.Errorf("after an apply main is %s; want %s", got, tip)
	}
	run("undo", "m")
	if got := head(); got == tip {
		t.Error("after an undo main is as before it")
	}
	for _, how := range []string{"--branch", "--checkout", "--rebase"} {
		run("apply", "m", "--all", how, "--except", ".git/**")
		run("undo", "m")
	}
	s.write(dir, "mine.txt", "1\n")
	s.write(dir, ".git/refs/heads/mine", s.git(dir, "commit-tree", "-p", "HEAD", "-m", "mine", "HEAD^{tree}")+"\n")
	if out := run("sync", "m"); !strings.Contains(out, "1 commit of mine: ") {
		t.Errorf("sync printed %q", out)
	}
	run("inspect", "m")
	// The canaries are alive.
	exec.Command("git", "-C", dir, "status").Run()
	if ran := set.Ran(t); !slices.ContainsFunc(ran, func(name string) bool { return strings.Contains(name, "_project ") }) {
		t.Error("no canary runs with git status either")
	}
}

// gitFile returns the text of a file of a repository's.
func (s *committer) gitFile(dir, name string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, ".git", name))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}
