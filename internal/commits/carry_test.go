package commits_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/commits"
)

// carried makes the copy of a workspace as a machine has it, at another place but in as
// many directories.
func (p *pair) carried(workspace, top string, limits commits.CarryLimits) commits.Carried {
	p.t.Helper()
	git := filepath.Join(p.dir, "carried")
	c, err := commits.Carry(p.t.Context(), workspace, git, filepath.Join(p.dir, "state"), limits)
	if err != nil {
		p.t.Fatal(err)
	}
	guest := filepath.Join(p.dir, "machine", filepath.Base(top))
	p.guest = filepath.Join(guest, strings.TrimPrefix(workspace, top))
	if err := os.MkdirAll(filepath.Dir(p.guest), 0o755); err != nil {
		p.t.Fatal(err)
	}
	for _, args := range [][]string{{"cp", "-a", workspace, p.guest}, {"rm", "-rf", filepath.Join(p.guest, ".git")}, {"mv", git, filepath.Join(p.guest, ".git")}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			p.t.Fatalf("%v\n%s", err, out)
		}
	}
	return c
}

// outside makes a repository whose parts are in several places.
func outside(t *testing.T) *pair {
	p := newPair(t)
	p.write(p.host, map[string]string{".gitignore": "*.log\n", "dir/deep/c": "1", "other/b": "1", "we[i]rd dir/x": "1"})
	p.git(p.host, "add", "-A")
	p.git(p.host, "commit", "-q", "-m", "host 3")
	p.git(p.host, "tag", "-a", "-m", "v1", "v1")
	p.git(p.host, "branch", "elsewhere", "HEAD~")
	p.git(p.host, "switch", "-q", "elsewhere")
	p.commit(p.host, map[string]string{"e": "e"}, "elsewhere")
	p.git(p.host, "switch", "-q", "main")
	p.git(p.host, "remote", "add", "origin", "https://user:secret@example.org/r.git")
	p.git(p.host, "config", "core.pager", "touch pwned")
	p.git(p.host, "worktree", "add", "-q", "-b", "linked", filepath.Join(p.dir, "linked"))
	p.git(p.dir, "clone", "-q", "--shared", p.host, "shared")
	p.git(p.dir, "init", "-q", "super")
	p.git(filepath.Join(p.dir, "super"), "submodule", "--quiet", "add", p.host, "lib/sub")
	p.git(p.dir, "init", "-q", "--separate-git-dir", "separate.git", "separate")
	p.git(filepath.Join(p.dir, "separate"), "pull", "-q", p.host, "main")
	p.git(p.dir, "clone", "-q", "--depth=1", "file://"+p.host, "shallow")
	return p
}

// Wherever the repository of a workspace lies, git works in a copy of the workspace, and
// the commits come to the repository.
func TestCarry(t *testing.T) { testCarry(t, "") }

// testCarry tests all places, or one.
func testCarry(t *testing.T, only string) {
	for dir, tt := range map[string]struct{ branch, prefix string }{
		"linked": {"linked", ""}, "shared": {"main", ""}, "super/lib/sub": {"main", ""}, "separate": {"main", ""},
		"host/dir": {"main", "dir/"}, "host/we[i]rd dir": {"main", "we[i]rd dir/"}, "host/dir/deep": {"main", "dir/deep/"}, "shallow/dir": {"main", "dir/"},
		"linked/dir": {"linked", "dir/"},
	} {
		if only != "" && dir != only {
			continue
		}
		t.Run(dir, func(t *testing.T) {
			p := outside(t)
			workspace := filepath.Join(p.dir, dir)
			top := strings.TrimSuffix(workspace, strings.TrimSuffix("/"+tt.prefix, "/"))
			p.write(workspace, map[string]string{"staged": "s", "x.log": "ignored", "mine": "m"})
			p.git(workspace, "add", "staged")
			status := p.git(workspace, "status", "--porcelain")
			p.host = top
			if c := p.carried(workspace, top, commits.DefaultCarryLimits()); c != (commits.Carried{Prefix: tt.prefix}) {
				t.Errorf("carried %+v; want the prefix %q", c, tt.prefix)
			}
			if err := os.Rename(filepath.Join(p.dir, "host"), filepath.Join(p.dir, "away")); err != nil { // the copy needs nothing of it
				t.Fatal(err)
			}
			p.is(p.git(p.guest, "status", "--porcelain"), status)
			p.is(p.git(p.guest, "rev-parse", "--abbrev-ref", "HEAD"), tt.branch)
			if log := p.git(p.guest, "log", "--oneline"); strings.Count(log, "\n") != map[bool]int{false: 2, true: 0}[dir == "shallow/dir"] {
				t.Errorf("log = %q", log)
			}
			if dir == "linked" || dir == "host/dir" {
				p.is(p.git(p.guest, "describe"), "v1")
				if out, err := p.try(p.guest, "cat-file", "-e", "elsewhere"); err == nil {
					t.Errorf("a branch that HEAD does not reach is there: %s", out)
				}
				p.is(p.git(p.guest, "config", "remote.origin.url"), "https://example.org/r.git")
			}
			config := p.git(p.guest, "config", "--local", "--list")
			if strings.Contains(config, "secret") || strings.Contains(config, "pager") {
				t.Errorf("config = %s", config)
			}
			if _, err := os.Lstat(filepath.Join(p.guest, ".git/hooks")); err == nil {
				t.Error("there are hooks")
			}
			p.git(p.guest, "fsck", "--strict")
			before := p.git(p.guest, "rev-parse", "HEAD")
			p.write(p.guest, map[string]string{"new/n": "n"})
			p.git(p.guest, "add", "-A")
			p.git(p.guest, "commit", "-q", "-m", "guest 1")
			p.write(p.guest, map[string]string{"mine": "2"})
			p.is(p.git(p.guest, "diff", "--name-only"), tt.prefix+"mine")
			p.git(p.guest, "commit", "-q", "-a", "-m", "guest 2")
			tip := p.git(p.guest, "rev-parse", "HEAD")
			p.is(p.git(p.guest, "status", "--porcelain"), "")
			p.is(p.git(p.guest, "diff", "--name-only", before, "HEAD"), tt.prefix+"mine\n"+tt.prefix+"new/n\n"+tt.prefix+"staged")
			p.git(p.guest, "switch", "-q", "-c", "side", "HEAD~")
			p.git(p.guest, "switch", "-q", tt.branch)
			p.is(p.git(p.guest, "status", "--porcelain"), "")

			if err := os.Rename(filepath.Join(p.dir, "away"), filepath.Join(p.dir, "host")); err != nil {
				t.Fatal(err)
			}
			p.git(workspace, "rm", "-q", "--cached", "staged") // else they stay aside
			r := p.open()
			im := p.take(r, "refs/heads/"+tt.branch)
			f, stay, err := im.Forward(t.Context(), tt.branch, tt.prefix)
			if err != nil || stay != "" {
				t.Fatalf("it stays for %q, %v", stay, err)
			}
			p.land(im, "m")
			for name, text := range map[string]string{"staged": "s", "mine": "2", "new/n": "n"} {
				p.write(workspace, map[string]string{name: text})
			}
			if stay, err := f.Move(t.Context(), "m"); err != nil || stay != "" {
				t.Fatalf("it stays for %q, %v", stay, err)
			}
			p.is(p.git(workspace, "rev-parse", tt.branch), tip)
			p.is(p.git(workspace, "status", "--porcelain"), "")
			p.git(workspace, "fsck", "--strict")
		})
	}
}

// Of a large repository the last commits are carried, and those that are made on them come
// back all the same.
func TestCarryCut(t *testing.T) {
	p := outside(t)
	p.git(p.host, "gc", "-q")
	linked := filepath.Join(p.dir, "linked")
	p.commit(linked, map[string]string{"l": "l"}, "linked 1")
	p.git(linked, "merge", "-q", "-m", "merged", "elsewhere")
	if c := p.carried(linked, linked, commits.CarryLimits{Packed: 10, Cut: 2}); c.Cut != 2 {
		t.Errorf("carried %+v; want the last 2", c)
	}
	p.is(p.git(p.guest, "status", "--porcelain"), "")
	p.is(p.git(p.guest, "rev-parse", "--is-shallow-repository"), "true")
	p.git(p.guest, "fsck", "--strict")
	tip := p.commit(p.guest, map[string]string{"g": "g"}, "guest")
	p.host = linked
	im := p.take(p.open(), "refs/heads/linked")
	p.land(im, "m")
	p.is(p.git(p.host, "rev-parse", "mayfly/m/linked"), tip)
	p.is(p.git(p.host, "rev-list", "--count", "mayfly/m/linked"), "7")
	p.git(p.host, "fsck", "--strict")
}

// What is odd is carried too: no commit yet, no branch, an index in two parts.
func TestCarryOdd(t *testing.T) {
	for name, odd := range map[string]func(p *pair, dir string){
		"unborn":    func(p *pair, dir string) { p.git(dir, "switch", "-q", "--orphan", "new") },
		"detached":  func(p *pair, dir string) { p.git(dir, "switch", "-q", "--detach") },
		"split":     func(p *pair, dir string) { p.git(dir, "update-index", "--split-index") },
		"sparse":    func(p *pair, dir string) { p.git(dir, "sparse-checkout", "set", "--cone", "--sparse-index", "dir") },
		"no index":  func(p *pair, dir string) { os.Remove(filepath.Join(p.host, ".git/worktrees/linked/index")) },
		"worktrees": func(p *pair, dir string) { p.git(dir, "config", "extensions.worktreeConfig", "true") },
		"a pipe": func(p *pair, dir string) {
			os.Mkdir(filepath.Join(p.host, ".git/worktrees/linked/info"), 0o755)
			exec.Command("mkfifo", filepath.Join(p.host, ".git/worktrees/linked/info/sparse-checkout")).Run()
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := outside(t)
			linked := filepath.Join(p.dir, "linked")
			odd(p, linked)
			p.carried(linked, linked, commits.DefaultCarryLimits())
			want := p.git(linked, "status", "--porcelain", "-b")
			if name == "no index" {
				want = "## linked"
			}
			p.is(p.git(p.guest, "status", "--porcelain", "-b"), want)
			p.commit(p.guest, map[string]string{"dir/g": "g"}, "guest")
			p.is(p.git(p.guest, "status", "--porcelain"), "")
		})
	}
}
