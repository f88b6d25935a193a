package commits_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/commits"
)

// killedVariable holds the directory of a pair whose commits a process lands that is killed.
const killedVariable = "MAYFLY_COMMITS_KILLED"

// TestLandKilledChild is that process.
func TestLandKilledChild(t *testing.T) {
	dir := os.Getenv(killedVariable)
	if dir == "" {
		t.Skip("run by TestLandKilled only")
	}
	if err := os.WriteFile(filepath.Join(dir, "pid"), fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		t.Fatal(err)
	}
	landAll(t, dir)
}

// landAll takes the commits of a pair over, and has the branch that is checked out go on.
func landAll(t *testing.T, dir string) {
	t.Helper()
	r, err := commits.Open(t.Context(), filepath.Join(dir, "host"), filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	bundle, err := os.Open(filepath.Join(dir, "bundle"))
	if err != nil {
		t.Fatal(err)
	}
	defer bundle.Close()
	tips, err := r.Tips(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	im, err := r.Import(t.Context(), bundle, tips, commits.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if len(im.Branches) == 0 {
		return // all of them are there
	}
	f, stay, err := im.Forward(t.Context(), "main", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := im.Land(t.Context(), "m"); err != nil {
		t.Fatal(err)
	}
	if stay == "" {
		stay, err = f.Move(t.Context(), "m")
	}
	if err != nil || stay != "" {
		t.Fatalf("it stays for %q, %v", stay, err)
	}
}

// TestLandKilled kills a landing before and after each git that works for it. No commit and
// no branch is lost, git finds nothing wrong, and the next landing comes to the end.
func TestLandKilled(t *testing.T) {
	p := newPair(t)
	old := p.git(p.host, "rev-parse", "HEAD")
	p.copy()
	tip := p.commit(p.guest, map[string]string{"a": "3", "new": "1"}, "guest 1")
	p.bundle([]string{"refs/heads/main"}, []string{old})
	// The files are there already, as after an apply.
	p.write(p.host, map[string]string{"a": "3", "new": "1"})
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	attempt := func(n int, behind bool) (killed bool) {
		dir := t.TempDir()
		if out, err := exec.Command("cp", "-a", p.host, filepath.Join(p.dir, "bundle"), filepath.Join(p.dir, "state"), dir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		script := fmt.Sprintf(`#!/bin/sh
exec 8>>%[1]s/running && flock -s 8
n=1 # of this git, of which two may begin at once
until mkdir %[1]s/call$n 2>/dev/null; do n=$((n + 1)); done
[ $n = %[2]d ] || exec %[3]s "$@"
if %[4]t; then %[3]s "$@"; fi
touch %[1]s/killed
kill -9 $(cat %[1]s/pid)
`, dir, n, git, behind)
		if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "bin/git"), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		c := exec.Command(os.Args[0], "-test.run=^TestLandKilledChild$")
		c.Env = append(os.Environ(), killedVariable+"="+dir, "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
		out, err := c.CombinedOutput()
		if _, missing := os.Stat(filepath.Join(dir, "killed")); missing != nil {
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return false
		}
		// Another git of the landing may not have ended yet.
		running, err := os.Open(filepath.Join(dir, "running"))
		if err == nil {
			err = unix.Flock(int(running.Fd()), unix.LOCK_EX)
			running.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		what := fmt.Sprintf("killed at git %d, after it: %t", n, behind)
		host := filepath.Join(dir, "host")
		ref := func(name string) string {
			id, _ := p.try(host, "rev-parse", "--verify", "--quiet", "refs/heads/"+name)
			return id
		}
		sound := func(what string) {
			if out, err := p.try(host, "fsck", "--strict", "--no-dangling"); err != nil {
				t.Errorf("%s: git fsck: %v\n%s", what, err, out)
			}
		}
		branch, main := ref("mayfly/m/main"), ref("main")
		if main != old && main != tip || branch != "" && branch != tip {
			t.Errorf("%s: main is %q, the machine's branch %q; want %s or %s", what, main, branch, old, tip)
		}
		sound(what)
		landAll(t, dir)
		// Where the machine's branch was made, it has the commits, and an undo takes it back.
		after, main := ref("mayfly/m/main"), ref("main")
		if gone := main == tip && after == ""; !gone && (branch != tip || after != tip || main != old) {
			t.Errorf("%s, and landed once more: main is %q, the machine's branch %q; want %s alone", what, main, after, tip)
		}
		if out, err := p.try(host, "status", "--porcelain"); err != nil || main == tip && out != "" {
			t.Errorf("%s, and landed once more: git status: %v\n%s", what, err, out)
		}
		sound(what + ", and landed once more")
		if left, err := os.ReadDir(filepath.Join(dir, "state")); err != nil || len(left) > 0 {
			t.Errorf("%s: left in the state directory: %v, %v", what, left, err)
		}
		if left, _ := filepath.Glob(filepath.Join(host, ".git", "objects/pack/*.keep")); len(left) > 0 {
			t.Errorf("%s: left: %q", what, left)
		}
		return true
	}
	n := 1
	for attempt(n, false) && attempt(n, true) {
		n++
	}
	if n < 10 {
		t.Errorf("a landing had %d gits; want more", n-1)
	}
}
