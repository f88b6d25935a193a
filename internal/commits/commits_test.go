package commits_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/commits"
)

func TestBranch(t *testing.T) {
	for _, format := range []string{"sha1", "sha256"} {
		t.Run(format, func(t *testing.T) {
			p := newPair(t, "--object-format="+format)
			p.copy()
			p.git(p.guest, "switch", "-q", "-c", "feat/x")
			p.commit(p.guest, map[string]string{"a": "4", "new": "n"}, "guest 1\n\nbody")
			tip := p.commit(p.guest, map[string]string{"dir/b": "5"}, "guest 2")
			head, index := p.git(p.host, "rev-parse", "HEAD"), p.git(p.host, "ls-files", "--stage")

			im := p.take(p.open(), "refs/heads/feat/x")
			if len(im.Branches) != 1 {
				t.Fatalf("branches = %+v", im.Branches)
			}
			b := im.Branches[0]
			if b.Name != "feat/x" || b.Tip != tip || b.Count != 2 || b.Base != head || b.Commits[0].Subject != "guest 2" || b.Commits[1].Subject != "guest 1" {
				t.Errorf("branch = %+v", b)
			}
			if c := b.Commits[0]; c.Author.Name != "Ada" || c.Committer.Email != "ada@example.org" || time.Since(c.Author.Time) > time.Hour || c.Signed || len(c.Parents) != 1 {
				t.Errorf("commit = %+v", c)
			}
			want := []commits.Path{
				{"a", 0o100644, 0o100644, p.git(p.guest, "rev-parse", tip+":a")},
				{"dir/b", 0o100644, 0o100644, p.git(p.guest, "rev-parse", tip+":dir/b")},
				{"new", 0, 0o100644, p.git(p.guest, "rev-parse", tip+":new")},
			}
			if !slices.Equal(b.Paths, want) {
				t.Errorf("paths = %v; want %v", b.Paths, want)
			}
			p.land(im, "web-1")
			p.is(im.Branches[0].Land, "mayfly/web-1/feat/x")
			p.is(p.git(p.host, "rev-parse", "refs/heads/mayfly/web-1/feat/x"), tip)
			p.is(p.git(p.host, "rev-parse", "HEAD"), head)
			p.is(p.git(p.host, "ls-files", "--stage"), index)
			p.is(p.git(p.host, "status", "--porcelain"), "")
			if log := p.git(p.host, "reflog", "show", "mayfly/web-1/feat/x"); !strings.Contains(log, "from machine web-1") {
				t.Errorf("reflog = %q", log)
			}
			p.sound()
			p.git(p.host, "merge", "-q", "--ff-only", "mayfly/web-1/feat/x")
			p.is(p.git(p.host, "show", "HEAD:dir/b"), "5")
		})
	}
}

// Whatever the user did meanwhile, the commits have a name and nothing else changes.
func TestHostWentOn(t *testing.T) {
	for name, meanwhile := range map[string]func(p *pair){
		"status":  func(p *pair) { p.git(p.host, "status") },
		"commit":  func(p *pair) { p.commit(p.host, map[string]string{"other": "x"}, "host 4") },
		"amend":   func(p *pair) { p.git(p.host, "commit", "-q", "--amend", "-m", "host 3b") },
		"gc":      func(p *pair) { p.git(p.host, "gc", "-q", "--prune=now") },
		"switch":  func(p *pair) { p.git(p.host, "switch", "-q", "-c", "mine") },
		"detach":  func(p *pair) { p.git(p.host, "switch", "-q", "--detach", "HEAD~") },
		"stash":   func(p *pair) { p.write(p.host, map[string]string{"a": "dirty"}); p.git(p.host, "stash", "-q") },
		"dirty":   func(p *pair) { p.write(p.host, map[string]string{"a": "dirty", "untracked": "u"}) },
		"pack":    func(p *pair) { p.git(p.host, "pack-refs", "--all") },
		"nothing": func(p *pair) {},
		"fetch": func(p *pair) {
			p.git(p.dir, "clone", "-q", p.host, "third")
			p.commit(filepath.Join(p.dir, "third"), map[string]string{"t": "t"}, "third")
			p.git(p.host, "fetch", "-q", filepath.Join(p.dir, "third"), "main:refs/remotes/third/main")
		},
		"same name": func(p *pair) {
			p.git(p.host, "branch", "mayfly/m/main", "HEAD~") // goes on
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			p.copy()
			tip := p.commit(p.guest, map[string]string{"a": "4"}, "guest 1")
			meanwhile(p)
			refs := p.others()
			status, stash := p.git(p.host, "status", "--porcelain", "-b"), p.git(p.host, "stash", "list")
			im := p.take(p.open(), "refs/heads/main")
			p.land(im, "m")
			p.is(p.git(p.host, "rev-parse", "refs/heads/mayfly/m/main"), tip)
			p.is(p.others(), refs)
			p.is(p.git(p.host, "status", "--porcelain", "-b"), status)
			p.is(p.git(p.host, "stash", "list"), stash)
			p.sound()
		})
	}
}

// others returns the references that are not for machines.
func (p *pair) others() string {
	lines := strings.Split(p.git(p.host, "for-each-ref"), "\n")
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, "refs/heads/mayfly/") }), "\n")
}

// What cannot go on under its name gets another one; nothing is forced.
func TestNames(t *testing.T) {
	p := newPair(t)
	p.copy()
	p.git(p.guest, "branch", "Feature")
	p.git(p.guest, "branch", "x-$(touch${IFS}pwned)")
	p.commit(p.guest, map[string]string{"a": "4"}, "guest 1")
	refs := []string{"refs/heads/main", "refs/heads/Feature", "refs/heads/feature/x", "refs/heads/x-$(touch${IFS}pwned)", "HEAD"}
	p.git(p.guest, "pack-refs", "--all")
	p.git(p.guest, "branch", "-f", "Feature", "main")
	p.git(p.guest, "branch", "feature/x", "main")
	p.git(p.guest, "branch", "-f", "x-$(touch${IFS}pwned)", "main")
	p.git(p.guest, "switch", "-q", "--detach")
	detached := p.commit(p.guest, map[string]string{"d": "d"}, "detached")
	p.git(p.host, "branch", "mayfly/other")

	im := p.take(p.open(), refs...)
	p.land(im, "m")
	got := make(map[string]string)
	for _, b := range im.Branches {
		got[b.Name] = b.Land
	}
	if len(got) != 5 || got["main"] != "mayfly/m/main" || got["HEAD"] != "mayfly/m/detached" || got["x-$(touch${IFS}pwned)"] != "mayfly/m/x---touch--IFS-pwned" ||
		strings.EqualFold(got["Feature"], strings.Split(got["feature/x"], "/x")[0]) {
		t.Errorf("branches = %v", got)
	}
	p.is(p.git(p.host, "rev-parse", "mayfly/m/detached"), detached)

	// The same again is nothing new.
	if lacks, err := p.open().Lacks(t.Context(), []commits.Ref{{"refs/heads/main", got["main"]}}, nil, nil); err == nil {
		t.Errorf("Lacks(no id) = %v; want an error", lacks)
	}
	refs = nil
	for _, b := range im.Branches {
		refs = append(refs, b.Tip)
	}
	for _, id := range refs {
		if lacks, err := p.open().Lacks(t.Context(), []commits.Ref{{"refs/heads/main", id}}, nil, nil); err != nil || len(lacks) > 0 {
			t.Errorf("Lacks() = %v, %v; want none", lacks, err)
		}
	}

	// Rewritten commits are others.
	p.git(p.guest, "switch", "-q", "main")
	p.git(p.guest, "commit", "-q", "--amend", "-m", "guest 1, better")
	im = p.take(p.open(), "refs/heads/main")
	p.land(im, "m")
	p.is(im.Branches[0].Land, "mayfly/m-2/main")

	// What somebody works on stays as it is.
	p.git(p.host, "worktree", "add", "-q", filepath.Join(p.dir, "wt"), "mayfly/m-2/main")
	p.commit(p.guest, map[string]string{"a": "5"}, "guest 2")
	im = p.take(p.open(), "refs/heads/main")
	p.land(im, "m")
	p.is(im.Branches[0].Land, "mayfly/m-3/main")
	p.is(p.git(filepath.Join(p.dir, "wt"), "status", "--porcelain"), "")

	// A branch of the name of the directory.
	q := newPair(t)
	q.copy()
	q.commit(q.guest, map[string]string{"a": "4"}, "guest 1")
	q.git(q.host, "branch", "mayfly")
	im = q.take(q.open(), "refs/heads/main")
	q.land(im, "m")
	q.is(im.Branches[0].Land, "mayfly-machines/m/main")
	p.sound()
	q.sound()
}

// forward does what an apply does: it brings the files of the machine, too.
func (p *pair) forward(r *commits.Repository, im *commits.Import, head, prefix string) commits.Stay {
	p.t.Helper()
	f, stay, err := im.Forward(p.t.Context(), head, prefix)
	if err != nil {
		p.t.Fatal(err)
	}
	p.land(im, "m")
	if stay != "" {
		return stay
	}
	for _, path := range f.Branch.Paths {
		to := filepath.Join(p.host, path.Path)
		if path.NewMode == 0 {
			os.Remove(to)
			continue
		}
		text, err := os.ReadFile(filepath.Join(p.guest, path.Path))
		if err != nil {
			p.t.Fatal(err)
		}
		os.MkdirAll(filepath.Dir(to), 0o755)
		if err := os.WriteFile(to, text, 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
	stay, err = f.Move(p.t.Context(), "m")
	if err != nil {
		p.t.Fatal(err)
	}
	return stay
}

func TestForward(t *testing.T) {
	p := newPair(t)
	p.write(p.host, map[string]string{"staged": "s"})
	p.git(p.host, "add", "staged") // stays so
	p.copy()
	p.git(p.guest, "rm", "-q", "--cached", "staged")
	p.git(p.guest, "mv", "dir/b", "dir/c")
	p.commit(p.guest, map[string]string{"a": "4", "staged": "s"}, "guest 1")
	p.git(p.guest, "rm", "-q", "--cached", "staged")
	tip := p.git(p.guest, "rev-parse", "HEAD")
	p.git(p.host, "rm", "-q", "--cached", "staged")
	p.write(p.host, map[string]string{"other": "o"})
	p.git(p.host, "add", "other")
	p.write(p.guest, map[string]string{"a": "5, not committed"})
	r := p.open()
	p.is(string(p.forward(r, p.take(r, "refs/heads/main"), "main", "")), "")
	p.is(p.git(p.host, "rev-parse", "main"), tip)
	p.is(p.git(p.host, "symbolic-ref", "HEAD"), "refs/heads/main")
	p.is(p.git(p.host, "status", "--porcelain"), "M a\nA  other")
	p.is(p.git(p.host, "for-each-ref", "refs/heads/mayfly"), "")
	for _, ref := range []string{"HEAD", "main"} {
		if log := p.git(p.host, "reflog", "show", ref); !strings.HasPrefix(strings.SplitN(log, ": ", 2)[1], "mayfly: fast-forward to machine m") {
			t.Errorf("reflog of %s:\n%s", ref, log)
		}
	}
	// A script that asks plumbing sees what is so, too.
	p.is(p.git(p.host, "diff-files", "--name-only"), "a")
	p.sound()
}

// The first commits of a repository go where all others go.
func TestForwardUnborn(t *testing.T) {
	for name, tt := range map[string]struct {
		before func(p *pair)
		want   commits.Stay
		status string
	}{
		"nothing staged": {func(p *pair) {}, "", "?? mine"},
		"staged":         {func(p *pair) { p.write(p.host, map[string]string{"s": "s"}); p.git(p.host, "add", "s") }, "", "A  s\n?? mine"},
		"staged the same": {func(p *pair) {
			p.write(p.host, map[string]string{"new": "n"})
			p.git(p.host, "add", "new")
		}, "", "?? mine"},
		"staged another": {func(p *pair) {
			p.write(p.host, map[string]string{"new": "mine"})
			p.git(p.host, "add", "new")
			p.write(p.host, map[string]string{"new": "n"})
		}, commits.StayIndex, "AM new\n?? dir/\n?? mine"},
		"committed here": {func(p *pair) { p.commit(p.host, map[string]string{"o": "o"}, "host 1") }, commits.StayMoved, "?? dir/\n?? mine\n?? new"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			p.git(p.dir, "init", "-q", p.host+"2")
			p.host += "2"
			p.git(p.dir, "init", "-q", p.guest)
			tip := p.commit(p.guest, map[string]string{"new": "n", "dir/n": "n"}, "guest 1")
			tt.before(p)
			staged := p.git(p.host, "status", "--porcelain")
			r := p.open()
			var moves []commits.Moved
			r.Record = func(m []commits.Moved) error { moves = append(moves, m...); return nil }
			im := p.take(r, "refs/heads/main")
			if b := im.Branches[0]; b.Commits[0].First == (name == "committed here") {
				t.Errorf("the commit = %+v", b.Commits[0])
			}
			p.write(p.host, map[string]string{"mine": "m"})
			p.write(p.host, map[string]string{"new": "n", "dir/n": "n"})
			p.is(string(p.forward(r, im, "main", "")), string(tt.want))
			p.is(p.git(p.host, "status", "--porcelain"), tt.status)
			branch := "main"
			if tt.want != "" {
				branch = "mayfly/m/main"
			}
			p.is(p.git(p.host, "rev-parse", branch), tip)
			p.sound()

			for _, file := range []string{"new", "dir", "mine"} {
				if err := os.RemoveAll(filepath.Join(p.host, file)); err != nil {
					t.Fatal(err)
				}
			}
			if strings.HasPrefix(name, "staged ") {
				p.write(p.host, map[string]string{"new": "mine"})
			}
			if _, left, err := p.open().TakeBack(t.Context(), moves); err != nil || len(left) > 0 {
				t.Errorf("TakeBack leaves %v, %v", left, err)
			}
			if name != "staged the same" { // the index is as if it never was: nothing is staged
				if name == "staged another" {
					staged = "A  new"
				}
				p.is(p.git(p.host, "status", "--porcelain"), staged)
			}
			p.sound()
		})
	}
}

func TestForwardStays(t *testing.T) {
	for name, tt := range map[string]struct {
		meanwhile func(p *pair)
		want      commits.Stay
	}{
		"committed": {func(p *pair) { p.commit(p.host, map[string]string{"o": "o"}, "host 4") }, commits.StayMoved},
		"reset":     {func(p *pair) { p.git(p.host, "reset", "-q", "--hard", "HEAD~") }, ""},
		"switched":  {func(p *pair) { p.git(p.host, "switch", "-q", "-c", "mine") }, commits.StayOther},
		"detached":  {func(p *pair) { p.git(p.host, "switch", "-q", "--detach") }, commits.StayOther},
		"staged":    {func(p *pair) { p.write(p.host, map[string]string{"a": "s"}); p.git(p.host, "add", "a") }, commits.StayIndex},
		"merging": {func(p *pair) {
			p.git(p.host, "branch", "side", "HEAD~")
			p.git(p.host, "switch", "-q", "side")
			p.commit(p.host, map[string]string{"a": "conflict"}, "side")
			p.git(p.host, "switch", "-q", "main")
			p.try(p.host, "merge", "side")
		}, commits.StayBusy},
		"locked": {func(p *pair) { p.write(p.host, map[string]string{".git/index.lock": ""}) }, commits.StayBusy},
		"sparse": {func(p *pair) { p.git(p.host, "sparse-checkout", "set", "dir") }, commits.StaySparse},
		"split":  {func(p *pair) { p.git(p.host, "update-index", "--split-index") }, commits.StaySparse},
		"gc":     {func(p *pair) { p.git(p.host, "gc", "-q"); p.git(p.host, "status") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			p.copy()
			p.commit(p.guest, map[string]string{"a": "4"}, "guest 1")
			tt.meanwhile(p)
			head := p.git(p.host, "rev-parse", "HEAD")
			status := p.git(p.host, "status", "--porcelain")
			r := p.open()
			if got := p.forward(r, p.take(r, "refs/heads/main"), "main", ""); got != tt.want {
				t.Fatalf("it stays for %q; want %q", got, tt.want)
			}
			p.git(p.host, "status")
			if os.Remove(filepath.Join(p.host, ".git/index.lock")); tt.want == "" {
				p.is(p.git(p.host, "rev-parse", "HEAD"), p.git(p.guest, "rev-parse", "HEAD"))
				p.is(p.git(p.host, "status", "--porcelain", "-uno"), "")
			} else {
				p.is(p.git(p.host, "rev-parse", "HEAD"), head)
				p.is(p.git(p.host, "status", "--porcelain"), status)
				p.is(p.git(p.host, "rev-parse", "mayfly/m/main"), p.git(p.guest, "rev-parse", "HEAD"))
			}
			p.sound()
		})
	}
	p := newPair(t)
	p.copy()
	p.commit(p.guest, map[string]string{"a": "4", "dir/b": "4"}, "guest 1")
	r := p.open()
	if got := p.forward(r, p.take(r, "refs/heads/main"), "main", "dir/"); got != commits.StayOutside {
		t.Errorf("files outside of the workspace: it stays for %q", got)
	}
}

// A linked working tree, a submodule, a clone with borrowed objects: the commits come
// where its branches are.
func TestPlaces(t *testing.T) {
	p := newPair(t)
	p.git(p.host, "worktree", "add", "-q", "-b", "linked", filepath.Join(p.dir, "linked"))
	p.git(p.dir, "clone", "-q", "--shared", p.host, "shared")
	p.git(p.dir, "init", "-q", "super")
	p.git(filepath.Join(p.dir, "super"), "submodule", "--quiet", "add", p.host, "lib/sub")
	p.git(p.dir, "clone", "-q", "--depth=1", "file://"+p.host, "shallow")
	p.git(p.dir, "init", "-q", "--separate-git-dir", "separate.git", "separate")
	p.git(filepath.Join(p.dir, "separate"), "pull", "-q", p.host, "main")
	for dir, branch := range map[string]string{"linked": "linked", "shared": "main", "super/lib/sub": "main", "shallow": "main", "separate": "main", "host/dir": "main"} {
		t.Run(dir, func(t *testing.T) {
			q := *p
			q.t = t
			q.host, q.guest = filepath.Join(p.dir, dir), filepath.Join(p.dir, "guest-"+branch+strings.ReplaceAll(dir, "/", "-"))
			args := []string{"clone", "-q", "file://" + q.git(q.host, "rev-parse", "--show-toplevel"), q.guest}
			if dir == "shallow" {
				args = slices.Insert(args, 2, "--depth=1")
			}
			q.git(p.dir, args...)
			q.git(q.guest, "switch", "-q", branch)
			tip := q.commit(q.guest, map[string]string{"a": dir}, "in "+dir)
			r := q.open()
			prefix := ""
			if dir == "host/dir" {
				q.host = p.host
			}
			if got := q.forward(r, q.take(r, "refs/heads/"+branch), branch, prefix); got != "" {
				t.Fatalf("it stays for %q", got)
			}
			q.is(q.git(q.host, "rev-parse", branch), tip)
			q.is(q.git(q.host, "status", "--porcelain"), "")
			q.git(q.host, "fsck", "--strict")
		})
	}
}

func TestUnfit(t *testing.T) {
	p := newPair(t)
	p.git(p.dir, "clone", "-q", "--filter=blob:none", "file://"+p.host, "partial")
	p.git(p.dir, "init", "-q", "later")
	p.git(filepath.Join(p.dir, "later"), "config", "core.repositoryformatversion", "1")
	p.git(filepath.Join(p.dir, "later"), "config", "extensions.objectStorage", "x")
	p.git(p.dir, "clone", "-q", "--bare", p.host, "bare")
	for _, dir := range []string{"partial", "later", "bare", "home"} {
		r, err := commits.Open(t.Context(), filepath.Join(p.dir, dir), filepath.Join(p.dir, "state"))
		if !errors.Is(err, commits.ErrRepository) {
			t.Errorf("Open(%s) = %v, %v; want ErrRepository", dir, r, err)
		}
	}
}

func TestFlags(t *testing.T) {
	ada, bob := commits.Person{Name: "Ada", Email: "ada@example.org"}, commits.Person{Name: "Bob", Email: "bob@example.org"}
	who := commits.Identity{Author: ada, Committer: ada}
	late := ada
	late.Time = time.Now().Add(48 * time.Hour)
	for _, tt := range []struct {
		c    commits.Commit
		want []commits.Flag
	}{
		{commits.Commit{Author: ada, Committer: ada, Parents: []string{"x"}}, nil},
		{commits.Commit{Author: bob, Committer: ada, Parents: []string{"x"}}, []commits.Flag{commits.FlagIdentity}},
		{commits.Commit{Author: ada, Committer: bob, Parents: []string{"x"}, Signed: true}, []commits.Flag{commits.FlagIdentity, commits.FlagSigned}},
		{commits.Commit{Author: ada, Committer: ada, Parents: []string{"x", "y"}}, []commits.Flag{commits.FlagMerge}},
		{commits.Commit{Author: late, Committer: ada}, []commits.Flag{commits.FlagUnrelated, commits.FlagFuture}},
		{commits.Commit{Author: ada, Committer: ada, First: true}, nil},
	} {
		if got := tt.c.Flags(who, time.Now()); !slices.Equal(got, tt.want) {
			t.Errorf("Flags(%+v) = %v; want %v", tt.c, got, tt.want)
		}
	}
	// A machine without an identity does not commit as the user.
	for author, want := range map[commits.Person][]commits.Flag{ada: {commits.FlagIdentity}, bob: nil} {
		c := commits.Commit{Author: author, Committer: bob, Parents: []string{"x"}}
		if got := c.Flags(commits.Identity{User: ada}, time.Now()); !slices.Equal(got, want) {
			t.Errorf("without an identity Flags(%+v) = %v; want %v", c, got, want)
		}
	}
}
