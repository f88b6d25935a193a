package commits_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/commits"
)

// Commits go on top of what the user committed meanwhile; who made them, and when, stays.
func TestRebase(t *testing.T) {
	for name, tt := range map[string]struct {
		host    map[string]string // what the user committed
		overlap bool
		count   int
	}{
		"other files": {map[string]string{"other": "o"}, false, 2},
		"same file":   {map[string]string{"many": "0\n2\n3\n4\n5\n6\n7\n8\n9\n"}, true, 2},
		"same change": {map[string]string{"a": "4"}, false, 1},
		"all of it":   {map[string]string{"a": "4", "many": "1\n2\n3\n4\n5\n6\n7\n8\nten\n"}, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			p.commit(p.host, map[string]string{"many": "1\n2\n3\n4\n5\n6\n7\n8\n9\n"}, "host 3")
			p.copy()
			t.Setenv("GIT_AUTHOR_DATE", "1700000000 +0130")
			t.Setenv("GIT_COMMITTER_NAME", "The Machine")
			p.commit(p.guest, map[string]string{"a": "4"}, "guest 1\n\nbody\n\nmore")
			p.commit(p.guest, map[string]string{"many": "1\n2\n3\n4\n5\n6\n7\n8\nten\n"}, "guest 2")
			os.Unsetenv("GIT_AUTHOR_DATE")
			os.Unsetenv("GIT_COMMITTER_NAME")
			head := p.commit(p.host, tt.host, "host 4")
			r := p.open()
			im := p.take(r, "refs/heads/main")
			overlap, err := im.Rebase(t.Context(), "main")
			if err != nil {
				t.Fatal(err)
			}
			if tt.count == 0 {
				if len(im.Branches) != 0 {
					t.Errorf("branches = %+v; want none", im.Branches)
				}
				return
			}
			b := im.Branches[0]
			if overlap != tt.overlap && name != "same change" || b.Count != tt.count || b.Base != head || len(b.Paths) != tt.count {
				t.Errorf("overlap %t, branch %+v", overlap, b)
			}
			p.land(im, "m")
			p.is(p.git(p.host, "rev-parse", "mayfly/m/main~"+map[int]string{1: "1", 2: "2"}[tt.count]), head)
			p.is(p.git(p.host, "rev-parse", "HEAD"), head)
			p.is(p.git(p.host, "status", "--porcelain"), "")
			p.is(p.git(p.host, "show", "mayfly/m/main:a"), "4")
			if many := p.git(p.host, "show", "mayfly/m/main:many"); !strings.HasSuffix(many, "ten") || overlap && !strings.HasPrefix(many, "0") {
				t.Errorf("many = %q", many)
			}
			if tt.count == 2 {
				p.is(p.git(p.host, "log", "-1", "--format=%an %ad %cn %B", "--date=raw", "mayfly/m/main~"), "Ada 1700000000 +0130 The Machine guest 1\n\nbody\n\nmore")
			}
			p.git(p.host, "merge", "-q", "--ff-only", "mayfly/m/main")
			p.sound()
		})
	}
}

// A commit is left out only if the user has the very change by another one, and only with all
// before it: what comes again after a revert stays, and so does what differs in blanks or in its place.
func TestRebaseTaken(t *testing.T) {
	blocks := strings.Repeat("name\n\tx\n\ty\n\tz\n\tend\n", 6)
	block := func(n int, mark string) string { // with a mark in the n-th one
		parts := strings.SplitAfter(blocks, "\tx\n")
		parts[n] = mark + parts[n]
		return strings.Join(parts, "")
	}
	py, a := "if x:\n\tf()\n", "2"
	for name, tt := range map[string]struct {
		file        string
		host, guest []string // its texts, by commits
		count       int
		want        string // the text at last, "both" for two marks, "" for a conflict
	}{
		"taken":                        {"a", []string{"4"}, []string{"4"}, 0, "4"},
		"taken, and went on":           {"a", []string{"4", "5"}, []string{"4"}, 0, "5"},
		"two of three":                 {"a", []string{"4", "5"}, []string{"4", "5", "6"}, 1, "6"},
		"made again":                   {"a", []string{"4"}, []string{"4", a, "4"}, 2, "4"},
		"made again, the user's not":   {"a", []string{"4", a}, []string{"4", a, "4"}, 1, "4"},
		"made again by both":           {"a", []string{"4", a, "4"}, []string{"4", a, "4"}, 0, "4"},
		"the user's only after others": {"a", []string{"5", "6"}, []string{"4", "5", "6"}, 3, ""},
		"other blanks":                 {"py", []string{py + "\tg()\n"}, []string{py + "g()\n"}, 1, ""},
		"another place":                {"blocks", []string{block(5, "\tm\n")}, []string{block(2, "\tm\n")}, 1, "both"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			p.commit(p.host, map[string]string{"py": py, "blocks": blocks}, "host 3")
			p.copy()
			for i, text := range tt.host {
				p.commit(p.host, map[string]string{tt.file: text}, fmt.Sprint("host ", i))
			}
			for i, text := range tt.guest {
				p.commit(p.guest, map[string]string{tt.file: text}, fmt.Sprint("guest ", i))
			}
			p.commit(p.host, map[string]string{"other": "o"}, "host too")
			im := p.take(p.open(), "refs/heads/main")
			if tt.count == 0 {
				if len(im.Branches) != 0 {
					t.Errorf("listed: %+v", im.Branches)
				}
				return
			}
			if len(im.Branches) != 1 || im.Branches[0].Count != tt.count {
				t.Fatalf("listed: %+v; want %d commits", im.Branches, tt.count)
			}
			_, err := im.Rebase(t.Context(), "main")
			if _, conflict := errors.AsType[*commits.ConflictError](err); conflict != (tt.want == "") || !conflict && err != nil {
				t.Fatalf("Rebase = %v", err)
			}
			if tt.want == "" {
				return
			}
			p.land(im, "m")
			got := p.git(p.host, "show", "mayfly/m/main:"+tt.file)
			if tt.want == "both" {
				p.is(fmt.Sprint(strings.Count(got, "\tm\n")), "2")
				return
			}
			p.is(got, tt.want)
			p.sound()
		})
	}
}

// A comparison with the user's commits that takes too long is given up, and all are listed.
func TestTakenTooLong(t *testing.T) {
	p := newPair(t)
	p.copy()
	p.commit(p.guest, map[string]string{"a": "4"}, "guest")
	p.commit(p.host, map[string]string{"a": "4"}, "host 3")
	r := p.open()
	tips, err := r.Tips(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	bundle := p.bundle([]string{"refs/heads/main"}, tips)
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	p.write(p.dir, map[string]string{"bin/git": "#!/bin/sh\ncase \"$*\" in *--cherry-mark*) exec sleep 1000; esac\nexec " + git + " \"$@\"\n"})
	if err := os.Chmod(filepath.Join(p.dir, "bin/git"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Join(p.dir, "bin")+":"+os.Getenv("PATH"))
	limits := commits.DefaultLimits()
	limits.Compare = 100 * time.Millisecond
	im, err := r.Import(t.Context(), bundle, tips, limits)
	if err != nil {
		t.Fatal(err)
	}
	if len(im.Branches) != 1 || im.Branches[0].Count != 1 {
		t.Errorf("listed: %+v", im.Branches)
	}
}

// A conflict, a merge and another history stay where they are, and nothing is changed.
func TestRebaseConflict(t *testing.T) {
	for name, tt := range map[string]struct {
		guest func(p *pair)
		paths string
	}{
		"content": {func(p *pair) { p.commit(p.guest, map[string]string{"a": "4", "dir/b": "4"}, "guest 1") }, "a"},
		"deleted": {func(p *pair) { p.git(p.guest, "rm", "-q", "a"); p.git(p.guest, "commit", "-q", "-m", "guest 1") }, "a"},
		"merge": {func(p *pair) {
			p.git(p.guest, "switch", "-q", "-c", "side")
			p.commit(p.guest, map[string]string{"s": "s"}, "side")
			p.git(p.guest, "switch", "-q", "main")
			p.git(p.guest, "merge", "-q", "--no-ff", "-m", "guest 1", "side")
		}, ""},
		"orphan": {func(p *pair) {
			p.git(p.guest, "checkout", "-q", "--orphan", "new")
			p.git(p.guest, "commit", "-q", "-m", "guest 1")
			p.git(p.guest, "branch", "-q", "-M", "main")
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			p.copy()
			tt.guest(p)
			p.commit(p.host, map[string]string{"a": "5"}, "host 3")
			before := snapshot(t, p.host)
			im := p.take(p.open(), "refs/heads/main")
			_, err := im.Rebase(t.Context(), "main")
			conflict, ok := errors.AsType[*commits.ConflictError](err)
			if !ok || strings.Join(conflict.Paths, " ") != tt.paths || conflict.Subject != "guest 1" && name != "merge" {
				t.Errorf("Rebase = %v; want a conflict of %q", err, tt.paths)
			}
			p.is(snapshot(t, p.host), before)
			// As they were, they can still be taken.
			p.land(im, "m")
			p.is(p.git(p.host, "rev-parse", "mayfly/m/main"), p.git(p.guest, "rev-parse", "main"))
		})
	}
}

// Commits are signed by the user's program, and by nothing else of the user's.
func TestSign(t *testing.T) {
	p := newPair(t)
	p.copy()
	p.git(p.guest, "switch", "-q", "-c", "side")
	p.commit(p.guest, map[string]string{"s": "s"}, "side")
	p.git(p.guest, "switch", "-q", "main")
	p.commit(p.guest, map[string]string{"a": "4"}, "guest 1")
	p.git(p.guest, "merge", "-q", "--no-ff", "-m", "guest 2\n\nbody", "side")
	tip := p.git(p.guest, "rev-parse", "HEAD")

	p.write(p.dir, map[string]string{"sign": "#!/bin/sh\ncat >/dev/null\necho '[GNUPG:] SIG_CREATED ' >&2\nprintf -- '-----BEGIN PGP SIGNATURE-----\\nmine\\n-----END PGP SIGNATURE-----\\n'\n", "canary": "#!/bin/sh\ntouch " + filepath.Join(p.dir, "sang") + "\nexit 1\n"})
	canary := filepath.Join(p.dir, "canary")
	if out, err := exec.Command("chmod", "-R", "755", filepath.Join(p.dir, "sign"), canary).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	p.git(p.host, "config", "user.signingKey", "KEY")
	p.git(p.host, "config", "gpg.program", filepath.Join(p.dir, "sign"))
	for _, key := range []string{"core.fsmonitor", "core.pager", "core.editor", "filter.x.clean", "filter.x.smudge", "diff.external", "core.sshCommand", "credential.helper", "sequence.editor", "merge.x.driver", "hook.x.command"} {
		p.git(p.host, "config", key, canary)
	}
	p.git(p.host, "config", "hook.x.event", "reference-transaction")
	for _, hook := range []string{"pre-commit", "commit-msg", "prepare-commit-msg", "post-commit", "post-rewrite", "reference-transaction", "post-checkout", "post-merge", "pre-auto-gc"} {
		if out, err := exec.Command("cp", canary, filepath.Join(p.host, ".git/hooks", hook)).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	p.write(p.host, map[string]string{".git/info/attributes": "* filter=x merge=x diff=x\n"})

	r := p.open()
	im := p.take(r, "refs/heads/main", "refs/heads/side")
	im.Sign = true
	p.is(string(p.forward(r, im, "main", "")), "")
	if _, err := os.Lstat(filepath.Join(p.dir, "sang")); err == nil {
		t.Error("a canary sang")
	}
	os.RemoveAll(filepath.Join(p.host, ".git/hooks"))
	for _, key := range []string{"core.fsmonitor", "hook.x.command", "hook.x.event", "diff.external", "core.pager"} {
		p.git(p.host, "config", "--unset", key)
	}
	os.Remove(filepath.Join(p.host, ".git/info/attributes"))
	for _, commit := range []string{"main", "main~", "main^2", "mayfly/m/side"} {
		if text := p.git(p.host, "cat-file", "commit", commit); !strings.Contains(text, "gpgsig -----BEGIN PGP SIGNATURE-----\n mine") {
			t.Errorf("%s is not signed:\n%s", commit, text)
		}
	}
	p.is(p.git(p.host, "rev-parse", "main^2"), p.git(p.host, "rev-parse", "mayfly/m/side"))
	format := "--format=%T %an %ae %ad %cn %cd %B"
	p.is(p.git(p.host, "log", "--topo-order", "--date=raw", format, "main"), p.git(p.guest, "log", "--topo-order", "--date=raw", format, tip))
	p.is(p.git(p.host, "status", "--porcelain"), "")
	p.sound()

	// Who cannot sign gets nothing.
	q := newPair(t)
	q.copy()
	q.commit(q.guest, map[string]string{"a": "4"}, "guest 1")
	q.git(q.host, "config", "gpg.program", "/bin/false")
	refs := q.git(q.host, "for-each-ref")
	im = q.take(q.open(), "refs/heads/main")
	im.Sign = true
	if err := im.Land(t.Context(), "m"); !errors.Is(err, commits.ErrRepository) || !strings.Contains(err.Error(), "sign commit ") {
		t.Errorf("Land = %v", err)
	}
	q.is(q.git(q.host, "for-each-ref"), refs)
	q.sound()
}
