package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// killedVariable holds the home of a user whose mayfly apply is killed.
const killedVariable = "MAYFLY_CLI_KILLED"

// TestApplyKilledChild is that apply.
func TestApplyKilledChild(t *testing.T) {
	home := os.Getenv(killedVariable)
	if home == "" {
		t.Skip("run by TestApplyCommitsKilled only")
	}
	if err := os.WriteFile(filepath.Join(home, "pid"), fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := userOf(t, home, nil).command("apply", "m"); err != nil {
		t.Fatal(err)
	}
}

// killedApply runs mayfly apply in a process that is killed before or after the nth git of
// a kind.
func (s *committer) killedApply(kind string, n int, behind bool) {
	s.t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		s.t.Fatal(err)
	}
	script := fmt.Sprintf(`#!/bin/sh
case " $* " in *" %[2]s "*) echo >>%[1]s/calls;; *) exec %[4]s "$@";; esac
[ $(wc -l <%[1]s/calls) = %[3]d ] || exec %[4]s "$@"
if %[5]t; then %[4]s "$@"; fi
touch %[1]s/killed
kill -9 $(cat %[1]s/pid)
`, s.home, kind, n, git, behind)
	bin := filepath.Join(s.home, "bin")
	if err := errors.Join(os.Mkdir(bin, 0o700), os.WriteFile(filepath.Join(bin, "git"), []byte(script), 0o700)); err != nil {
		s.t.Fatal(err)
	}
	c := exec.Command(os.Args[0], "-test.run=^TestApplyKilledChild$")
	c.Env = append(os.Environ(), killedVariable+"="+s.home, "PATH="+bin+":"+os.Getenv("PATH"))
	out, _ := c.CombinedOutput()
	if _, err := os.Stat(filepath.Join(s.home, "killed")); err != nil {
		s.t.Fatalf("it was not killed:\n%s", out)
	}
}

// An apply of commits that was killed goes on with the next one, whatever it was about to do:
// no commit is lost, the checked-out branch goes on, and an undo takes both back.
func TestApplyCommitsKilled(t *testing.T) {
	for _, at := range []struct {
		kind string
		n    int
	}{
		{"pack-objects", 1}, // the objects
		{"update-ref", 1},   // the machine's branch
		{"read-tree", 2},    // the index, after a try
		{"update-ref", 2},   // the branch that is checked out
		{"update-index", 1},
	} {
		for _, behind := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s %d, after it: %t", at.kind, at.n, behind), func(t *testing.T) {
				s := newCommitter(t)
				s.write(s.guest, "a.txt", "2\n")
				s.commit(s.guest, "one")
				s.write(s.guest, "new/c.txt", "c\n")
				s.git(s.guest, "rm", "-q", "dir/gone.txt")
				tip := s.commit(s.guest, "two")
				s.write(s.guest, "untracked.txt", "u\n")
				old := s.git(s.dir, "rev-parse", "main")
				s.killedApply(at.kind, at.n, behind)
				there := s.git(s.dir, "rev-parse", "main") == tip
				list, err := s.mayfly("diff", "m")
				if listed := strings.Contains(list, "2 commits on main, 3 files\n"); err != nil || listed == there {
					t.Errorf("the commits are there: %t; diff = %v:\n%s", there, err, list)
				}
				messages, err := s.mayfly("apply", "m")
				if err != nil {
					t.Errorf("apply = %v:\n%s", err, messages)
				}
				if !there {
					s.says(messages, "main: fast-forwarded to "+tip[:10]+", 2 commits")
				}
				s.is("branches", s.git(s.dir, "for-each-ref", "--format=%(refname) %(objectname)"), "refs/heads/main "+tip)
				s.is("git status", s.git(s.dir, "status", "--porcelain"), "?? untracked.txt")
				s.git(s.dir, "fsck", "--strict")
				if messages, err := s.mayfly("apply", "m"); err != nil || strings.Contains(messages, "commit") {
					t.Errorf("apply again = %v:\n%s", err, messages)
				}
				if messages, err := s.mayfly("undo", "m"); err != nil {
					t.Errorf("undo = %v:\n%s", err, messages)
				}
				s.is("branches", s.git(s.dir, "for-each-ref", "--format=%(refname) %(objectname)"), "refs/heads/main "+old)
				s.is("git status", s.git(s.dir, "status", "--porcelain"), "")
			})
		}
	}
}

// What the user has made of commits that a killed apply left on the machine's branch is not
// brought once more.
func TestApplyCommitsKilledMerged(t *testing.T) {
	s := newCommitter(t)
	s.write(s.guest, "new/c.txt", "c\n")
	tip := s.commit(s.guest, "one")
	s.killedApply("update-ref", 1, true)
	s.is("machine's branch", s.git(s.dir, "rev-parse", "mayfly/m/main"), tip)
	s.git(s.dir, "merge", "-q", "mayfly/m/main")
	s.git(s.dir, "branch", "-q", "-d", "mayfly/m/main")
	messages, err := s.mayfly("apply", "m")
	if err != nil || strings.Contains(messages, "commit") {
		t.Errorf("apply = %v:\n%s", err, messages)
	}
	s.is("branches", s.git(s.dir, "for-each-ref", "--format=%(refname) %(objectname)"), "refs/heads/main "+tip)
	s.is("git status", s.git(s.dir, "status", "--porcelain"), "")
}
