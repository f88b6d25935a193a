package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/control"
)

// The user's commits come into the machine's repository beside what it has itself, and the
// files, which came, too, are not new to it where it takes them.
func TestSyncCommits(t *testing.T) {
	s := newCommitter(t)
	s.write(s.guest, "agent.txt", "agent\n")
	own := s.commit(s.guest, "the machine's own")
	s.write(s.guest, "a.txt", "agent\n")
	s.git(s.guest, "add", "a.txt")
	index := s.git(s.guest, "ls-files", "--stage")
	if out, err := s.mayfly("sync", "m"); err != nil || out != "mayfly: m has all that is in your directory\n" {
		t.Errorf("sync of nothing = %v, printed %q", err, out)
	}
	s.is("references", s.git(s.guest, "for-each-ref", "refs/mayfly"), "")

	s.write(s.dir, "mine.txt", "mine\n")
	s.commit(s.dir, "one")
	s.write(s.dir, "dir/b.txt", "2\n")
	tip := s.commit(s.dir, "two")
	s.git(s.dir, "update-ref", "refs/remotes/origin/main", tip)
	s.git(s.dir, "branch", "mayfly/other/main")
	if out, err := s.mayfly("sync", "m", "--dry-run"); err != nil || !strings.Contains(out, "2 commits of main would be sent to m\n") {
		t.Errorf("sync --dry-run = %v, printed %q", err, out)
	}
	out, err := s.mayfly("sync", "m")
	s.must(err)
	s.says(out, "A  mine.txt\n", "mayfly: 2 commits of main: mayfly/host/main in m, whose own branches stay\n")
	s.is("references", s.git(s.guest, "for-each-ref", "--format=%(refname) %(objectname)", "refs/mayfly"),
		"refs/mayfly/host/main "+tip+"\nrefs/mayfly/remotes/origin/main "+tip)
	s.is("the machine's branch", s.git(s.guest, "rev-parse", "HEAD", "main"), own+"\n"+own)
	s.is("the machine's index", s.git(s.guest, "ls-files", "--stage"), index)
	s.git(s.guest, "fsck", "--strict")
	if out, err = s.mayfly("sync", "m"); err != nil || out != "mayfly: m has all that is in your directory\n" {
		t.Errorf("sync once more = %v, printed %q", err, out)
	}
	// As the guide says, with commits of its own.
	s.git(s.guest, "add", "--all")
	s.git(s.guest, "rebase", "-q", "--autostash", "mayfly/host/main")
	s.is("git status", s.git(s.guest, "status", "--porcelain"), " M a.txt")
	s.is("the commit before", s.git(s.guest, "rev-parse", "HEAD~"), tip)
	s.is("its file", s.read(s.guest, "agent.txt"), "agent\n")
	out, err = s.mayfly("diff", "m")
	s.must(err)
	s.says(out, "1 commit on main, 1 file\n")

	// A branch that is switched to, and one that is gone.
	s.git(s.dir, "switch", "-q", "-c", "feature/x")
	s.write(s.dir, "mine.txt", "3\n")
	s.commit(s.dir, "three")
	s.git(s.dir, "update-ref", "-d", "refs/remotes/origin/main")
	out, err = s.mayfly("sync", "m", "--json")
	var res mayfly.SyncResult
	if s.must(err, json.Unmarshal([]byte(out), &res)); len(res.Commits) != 1 || res.Commits[0] != (mayfly.SyncedCommits{Branch: "feature/x", Count: 1, Ref: "mayfly/host/feature/x"}) {
		t.Errorf("sync --json printed %s", out)
	}
	s.is("references", s.git(s.guest, "for-each-ref", "--format=%(refname)", "refs/mayfly"), "refs/mayfly/host/feature/x\nrefs/mayfly/host/main")
	s.git(s.guest, "fsck", "--strict")
}

// Without commits of its own, the machine goes on from the user's by one command.
func TestSyncCommitsReset(t *testing.T) {
	s := newCommitter(t)
	s.write(s.guest, "agent.txt", "agent\n")
	s.write(s.dir, "mine.txt", "mine\n")
	s.git(s.dir, "rm", "-q", "a.txt")
	tip := s.commit(s.dir, "one")
	_, err := s.mayfly("sync", "m")
	s.must(err)
	s.git(s.guest, "reset", "-q", "mayfly/host/main")
	s.is("git status", s.git(s.guest, "status", "--porcelain"), "?? agent.txt")
	s.is("HEAD", s.git(s.guest, "rev-parse", "main"), tip)
	out, err := s.mayfly("diff", "m", "--name-only")
	s.must(err)
	s.is("diff", out, "agent.txt\n")
}

// What cannot be sent is said, and the files are there all the same. What the machine says of
// its references decides only what it gets.
func TestSyncCommitsRefused(t *testing.T) {
	for name, tt := range map[string]struct{ git, says string }{
		"no answer":   {"exit 3", "commits were not sent to m: git in the machine: "},
		"lies":        {"for-each-ref) echo " + strings.Repeat("1", 40) + " refs/heads/main; echo x refs/heads/y; echo $(" + "GIT rev-parse HEAD) 'refs/mayfly/host/../../heads/main';; *) exec GIT \"$@\"", "commits were not sent to m: git in the machine: "},
		"takes none":  {"index-pack) echo no >&2; exit 1;; *) exec GIT \"$@\"", "commits were not sent to m: git in the machine: no"},
		"says much":   {"for-each-ref) yes;; *) exec GIT \"$@\"", "commits were not sent to m: "},
		"reads twice": {"index-pack) exec sleep 0;; *) exec GIT \"$@\"", "commits were not sent to m: git in the machine: "},
	} {
		t.Run(name, func(t *testing.T) {
			s := newCommitter(t)
			s.write(s.dir, "mine.txt", "mine\n")
			s.commit(s.dir, "one")
			before := tree(t, filepath.Join(s.dir, ".git"))
			bin, host := filepath.Join(s.home, "bin"), gitPath(t)
			script := strings.ReplaceAll(tt.git, "GIT", host)
			if strings.Contains(script, ")") {
				script = `case "$1" in ` + script + ";; esac"
			}
			s.write(bin, "git", "#!/bin/sh\n[ \"$GIT_CONFIG_COUNT\" = 3 ] || exec "+host+" \"$@\"\n"+script+"\n") // the host's has another environment
			s.must(os.Chmod(filepath.Join(bin, "git"), 0o755))
			t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			out, err := s.mayfly("sync", "m")
			if err != nil {
				t.Errorf("sync = %v", err)
			}
			s.says(out, "A  mine.txt\n", tt.says)
			s.is("mine.txt", s.read(s.guest, "mine.txt"), "mine\n")
			for name, text := range tree(t, filepath.Join(s.dir, ".git")) {
				if before[name] != text {
					t.Errorf("%s changed", name)
				}
			}
		})
	}
}

// A watch tells of nothing where a branch was only set back, and sends what the machine does not
// take once, and not again for each edit.
func TestSyncWatchCommits(t *testing.T) {
	s := newCommitter(t)
	s.write(s.dir, "mine.txt", "mine\n")
	s.commit(s.dir, "one")
	_, err := s.mayfly("sync", "m")
	s.must(err)
	s.git(s.dir, "reset", "-q", "--soft", "HEAD~")
	bin, host, log := filepath.Join(s.home, "bin"), gitPath(t), filepath.Join(s.home, "packs")
	s.write(bin, "git", "#!/bin/sh\n[ \"$GIT_CONFIG_COUNT\" = 3 ] && [ \"$1\" = index-pack ] || exec "+host+" \"$@\"\necho >>"+log+"\necho no >&2\nexit 1\n")
	s.must(os.Chmod(filepath.Join(bin, "git"), 0o755))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	a := userOf(t, s.home, nil)
	r, w, err := os.Pipe()
	s.must(err)
	defer r.Close()
	a.Out, a.Err = w, w
	done := make(chan error, 1)
	go func() {
		done <- a.command("sync", "m", "--watch", "--json")
		w.Close()
	}()
	results := json.NewDecoder(r)
	edit := func(name string) (res mayfly.SyncResult) {
		t.Helper()
		s.write(s.dir, name, "1\n")
		s.must(results.Decode(&res))
		if len(res.Sent) != 1 || res.Sent[0].Path != name {
			t.Fatalf("the watch tells of %+v after an edit of %s", res, name)
		}
		return res
	}
	head := s.git(s.dir, "rev-parse", "HEAD")
	for deadline := time.Now().Add(time.Minute); s.git(s.guest, "rev-parse", "mayfly/host/main") != head; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the watch does not send the commits that are there when it begins")
		}
	}
	edit("b.txt")
	s.git(s.dir, "commit", "-q", "--allow-empty", "-m", "two")
	if res := edit("c.txt"); len(res.Notes) != 1 || !strings.Contains(res.Notes[0], "commits were not sent to m: ") {
		t.Errorf("notes %q", res.Notes)
	}
	edit("d.txt")
	edit("e.txt") // by now, what came after d.txt is done
	s.must(control.Stop(s.Machine))
	if err := <-done; err != nil {
		t.Errorf("sync --watch = %v", err)
	}
	s.is("packs that were sent", s.read(s.home, "packs"), "\n")
}

// After commits were put on top of the user's, the machine goes on from these. If it does not,
// the same commits are not brought twice, also where the user has changed the same lines since.
func TestRebaseAgain(t *testing.T) {
	for _, goesOn := range []bool{true, false} {
		s := newCommitter(t)
		s.write(s.guest, "a.txt", "2\n")
		s.commit(s.guest, "one")
		s.write(s.guest, "untracked.txt", "u\n")
		s.write(s.dir, "mine.txt", "mine\n")
		s.commit(s.dir, "mine")
		out, err := s.mayfly("apply", "m", "--rebase")
		s.must(err)
		s.says(out, "main: fast-forwarded to ", "mayfly: m has other commits with these changes; mayfly sync m, then there: git reset mayfly/host/main\n")
		rebased := s.git(s.dir, "rev-parse", "main")
		if goesOn {
			out, err = s.mayfly("sync", "m")
			s.must(err)
			s.says(out, "2 commits of main: mayfly/host/main in m")
			s.git(s.guest, "reset", "-q", "mayfly/host/main")
			s.is("git status", s.git(s.guest, "status", "--porcelain"), "?? untracked.txt")
			s.write(s.guest, "b.txt", "b\n")
			tip := s.commit(s.guest, "two")
			out, err = s.mayfly("apply", "m")
			s.must(err)
			s.says(out, "main: fast-forwarded to ", ", 1 commit")
			s.is("main", s.git(s.dir, "rev-parse", "main"), tip)
			continue
		}
		out, err = s.mayfly("diff", "m")
		s.must(err)
		if strings.Contains(out, "commit") {
			t.Errorf("diff after an apply printed %q", out)
		}
		s.write(s.dir, "a.txt", "3\n")
		head := s.commit(s.dir, "the same line")
		s.write(s.guest, "b.txt", "b\n")
		s.commit(s.guest, "two")
		out, err = s.mayfly("diff", "m")
		s.must(err)
		s.says(out, "1 commit on main")
		out, _ = s.mayfly("apply", "m", "--rebase")
		s.is("commits", s.git(s.dir, "log", "--format=%s", "main"), "two\nthe same line\none\nmine\nfirst")
		s.is("the commit before", s.git(s.dir, "rev-parse", "main~", "main~2"), head+"\n"+rebased)
		s.says(out, "main: fast-forwarded to ", ", 1 commit")
	}
}
