package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/commits"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// startCarried makes a machine with a copy of project, whose repository lies elsewhere.
func (s *committer) startCarried() {
	s.t.Helper()
	git := filepath.Join(s.home, "carried")
	carried, err := commits.Carry(s.t.Context(), filepath.Join(s.home, "project"), git, s.t.TempDir(), commits.DefaultCarryLimits())
	if err != nil {
		s.t.Fatal(err)
	}
	s.fakeMachine = runFakeMachinePacked(s.t, s.home, make(map[string]string), workspace.PackOptions{
		Git: &workspace.CarriedGit{Dir: git, Prefix: carried.Prefix},
	})
	s.guest = filepath.Join(s.home, "machine", "project")
	if err := os.Mkdir(filepath.Dir(s.guest), 0o755); err != nil {
		s.t.Fatal(err)
	}
	for _, args := range [][]string{{"cp", "-a", s.dir, s.guest}, {"rm", "-rf", filepath.Join(s.guest, ".git")}, {"mv", git, filepath.Join(s.guest, ".git")}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			s.t.Fatalf("%v\n%s", err, out)
		}
	}
	s.packed, s.list = s.dir, s.changes
}

// Of a workspace whose repository lies elsewhere, commits come to that repository, files to
// the workspace, and nothing of the copy's .git to either.
func TestApplyCommitsOutside(t *testing.T) {
	for name, tt := range map[string]struct {
		dirs func(s *committer) string // makes project, and returns where its repository is

	}{
		"worktree": {func(s *committer) string {
			dir := filepath.Join(s.home, "real")
			s.git(s.home, "init", "-q", dir)
			s.write(dir, "a.txt", "1\n")
			s.write(dir, "other/b.txt", "1\n")
			s.commit(dir, "first")
			s.git(dir, "worktree", "add", "-q", "-b", "feature", filepath.Join(s.home, "project"))
			return dir
		}},
		"sub-directory": {func(s *committer) string {
			s.git(s.home, "init", "-q", "-b", "feature")
			s.write(s.home, ".gitignore", "*\n!/project\n!/project/**\n!/other\n!/other/**\n")
			s.write(s.home, "project/a.txt", "1\n")
			s.write(s.home, "other/b.txt", "1\n")
			s.commit(s.home, "first")
			return s.home
		}},
	} {
		for _, branch := range []bool{false, true} {
			t.Run(name+map[bool]string{true: " --branch"}[branch], func(t *testing.T) {
				s, old := newRepository(t)
				if err := os.RemoveAll(old); err != nil {
					t.Fatal(err)
				}
				repo := tt.dirs(s)
				s.startCarried()
				s.is("git status in the machine", s.git(s.guest, "status", "--porcelain"), "")
				s.write(s.guest, "a.txt", "2\n")
				s.write(s.guest, "other/b.txt", "mine\n")
				tip := s.commit(s.guest, "one")
				s.write(s.guest, "a.txt", "3, not committed\n")
				s.write(s.guest, ".git/hooks/post-checkout", "#!/bin/sh\ntouch /tmp/never\n")
				s.write(s.guest, ".git/info/attributes", "* filter=x\n")
				s.git(s.guest, "config", "core.fsmonitor", "/bin/never")
				config := s.git(repo, "config", "--list", "--local")

				args := []string{"apply", "m", "--all"}
				if branch {
					args = append(args, "--branch")
				}
				messages, err := s.mayfly(args...)
				if err != nil {
					t.Errorf("apply = %v\n%s", err, messages)
				}
				if branch {
					s.says(messages, "1 commit of feature: branch mayfly/m/feature; git merge mayfly/m/feature\n")
					s.is("branch", s.git(repo, "rev-parse", "mayfly/m/feature"), tip)
				} else {
					s.says(messages, "feature: fast-forwarded to "+tip[:10]+", 1 commit", "differs from the tip of feature in 1 file\n")
					s.is("branch", s.git(repo, "rev-parse", "feature"), tip)
					s.is("git diff", s.git(s.dir, "diff", "--stat", "--relative"), " a.txt | 2 +-\n 1 file changed, 1 insertion(+), 1 deletion(-)")
				}
				s.is("commit", s.git(repo, "diff", "--name-only", tip+"~", tip), map[string]string{
					"worktree": "a.txt\nother/b.txt", "sub-directory": "project/a.txt\nproject/other/b.txt"}[name])
				s.is("configuration", s.git(repo, "config", "--list", "--local"), config)
				if fi, err := os.Lstat(filepath.Join(s.dir, ".git")); name == "worktree" && (err != nil || !fi.Mode().IsRegular()) || name != "worktree" && err == nil {
					t.Errorf(".git = %v, %v", fi, err)
				}
				s.git(repo, "fsck", "--strict")
			})
		}
	}
}

// A machine with a copy of a directory whose repository lies elsewhere gets new commits of the
// branches that it was copied with, and of no other one, whatever it calls its own.
func TestSyncCommitsOutside(t *testing.T) {
	s, old := newRepository(t)
	s.must(os.RemoveAll(old))
	repo := filepath.Join(s.home, "real")
	s.git(s.home, "init", "-q", repo)
	s.write(repo, "a.txt", "1\n")
	s.commit(repo, "first")
	s.git(repo, "worktree", "add", "-q", "-b", "feature", filepath.Join(s.home, "project"))
	s.git(repo, "branch", "known")
	s.git(repo, "switch", "-q", "-c", "develop")
	s.write(repo, "secret.txt", "1\n")
	s.commit(repo, "private")
	s.startCarried()
	for _, ref := range []string{"refs/heads/develop", "refs/mayfly/host/develop", "refs/remotes/origin/x", "refs/mayfly/remotes/origin/x", "refs/remotes/feature"} {
		s.git(s.guest, "update-ref", ref, "HEAD")
		s.write(s.guest, ".git/packed-refs", s.read(s.guest, ".git/packed-refs")+s.git(s.guest, "rev-parse", "HEAD")+" "+ref+"\n")
	}
	s.git(repo, "update-ref", "refs/remotes/origin/x", "HEAD")
	s.git(repo, "update-ref", "refs/remotes/feature", "HEAD") // of the name of what is checked out
	s.write(s.dir, "a.txt", "2\n")
	s.commit(s.dir, "two")
	s.git(repo, "update-ref", "refs/heads/known", "feature")
	out, err := s.mayfly("sync", "m")
	s.must(err)
	s.says(out, "1 commit of feature: mayfly/host/feature in m", "1 commit of known: mayfly/host/known in m")
	if _, err := exec.Command("git", "-C", s.guest, "cat-file", "-e", s.git(repo, "rev-parse", "develop")).CombinedOutput(); err == nil {
		t.Errorf("the machine has the commit of another branch\n%s", out)
	}
	s.git(s.guest, "fsck", "--strict")
}
