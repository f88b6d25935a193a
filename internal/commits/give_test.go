package commits_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/commits"
)

// has returns the references of the machine.
func (p *pair) has() (refs []commits.Ref) {
	for line := range strings.Lines(p.git(p.guest, "for-each-ref", "--format=%(objectname) %(refname)")) {
		id, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		refs = append(refs, commits.Ref{Name: name, ID: id})
	}
	return refs
}

func (p *pair) give(carried map[string]bool, has []commits.Ref) *commits.Gift {
	p.t.Helper()
	g, err := p.open().Give(p.t.Context(), has, carried)
	if err != nil {
		p.t.Fatal(err)
	}
	return g
}

func given(g *commits.Gift) string {
	var all []string
	for _, b := range g.Branches {
		all = append(all, fmt.Sprintf("%s %d", b.Ref, b.Count))
	}
	return strings.Join(append(all, g.Gone...), "\n")
}

// A machine gets what is new since its copy, of a repository that was not copied as a whole only of
// what is checked out and of branches that it was copied with, whatever it calls its own, and nothing
// twice.
func TestGive(t *testing.T) {
	p := newPair(t)
	p.git(p.host, "branch", "known")
	p.copy()
	carried := map[string]bool{"refs/heads/main": true, "refs/heads/known": true}
	p.is(given(p.give(nil, p.has())), "")
	p.commit(p.host, map[string]string{"a": "3"}, "host 3")
	p.git(p.host, "update-ref", "refs/heads/known", "HEAD")
	p.git(p.host, "branch", "private")
	p.git(p.host, "branch", "mayfly/m/main")
	p.git(p.host, "update-ref", "refs/remotes/origin/x", "HEAD")
	p.git(p.host, "switch", "-q", "-c", "here")
	tip := p.commit(p.host, map[string]string{"a": "4"}, "host 4")
	p.is(given(p.give(carried, p.has())), "refs/mayfly/host/here 2\nrefs/mayfly/host/known 1\nrefs/mayfly/host/main 1")
	first := p.git(p.guest, "rev-parse", "HEAD~")
	wants := append(p.has(), commits.Ref{Name: "refs/heads/private", ID: first}, commits.Ref{Name: "refs/mayfly/host/private", ID: first},
		commits.Ref{Name: "refs/remotes/origin/x", ID: first}, commits.Ref{Name: "refs/mayfly/remotes/origin/x", ID: first})
	p.is(given(p.give(carried, wants)), "refs/mayfly/host/here 2\nrefs/mayfly/host/known 1\nrefs/mayfly/host/main 1")
	p.is(given(p.give(nil, p.has())), "refs/mayfly/host/here 2\nrefs/mayfly/host/known 1\nrefs/mayfly/host/main 1\nrefs/mayfly/host/private 1\nrefs/mayfly/remotes/origin/x 1")
	// What it sends is what the machine lacks.
	r := p.open()
	g, err := r.Give(t.Context(), p.has(), carried)
	if err != nil {
		t.Fatal(err)
	}
	var pack bytes.Buffer
	if err := r.Pack(t.Context(), g, &pack, commits.DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	index := exec.Command("git", "index-pack", "--stdin", "--fix-thin")
	index.Dir, index.Stdin = p.guest, &pack
	if out, err := index.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, b := range g.Branches {
		p.git(p.guest, "update-ref", b.Ref, b.Tip)
	}
	p.is(p.git(p.guest, "rev-parse", "mayfly/host/here"), tip)
	p.git(p.guest, "fsck", "--strict")
	p.is(given(p.give(carried, p.has())), "")
	// A branch of the user's that is gone, and one that was set back.
	p.git(p.host, "branch", "-q", "-D", "known")
	p.git(p.host, "reset", "-q", "--hard", "HEAD~2")
	p.is(given(p.give(carried, p.has())), "refs/mayfly/host/here 0\nrefs/mayfly/host/known")
	// What a machine makes up is of no account.
	hostile := []commits.Ref{{Name: "refs/heads/x", ID: "--all"}, {Name: "refs/heads/y", ID: strings.Repeat("1", 40)}, {Name: "refs/mayfly/host/../x", ID: "x"}}
	p.is(given(p.give(carried, hostile)), "refs/mayfly/host/here 2\nrefs/mayfly/host/main 3")
	limits := commits.DefaultLimits()
	limits.Bundle = 10
	if err := p.open().Pack(t.Context(), p.give(nil, nil), &pack, limits); err == nil {
		t.Error("more than the limit was packed")
	}
}

// Of very many branches, which are asked for by a few runs of git, the latest come first and the
// others the next time.
func TestGiveMany(t *testing.T) {
	p := newPair(t)
	p.copy()
	const count = 450
	base := p.git(p.host, "rev-parse", "HEAD")
	var in strings.Builder
	for i := range count {
		fmt.Fprintf(&in, "commit refs/remotes/origin/b%03d\ncommitter A <a@example.org> %d +0000\ndata 1\nx\nfrom %s\n", i, 1_700_000_000+i, base)
	}
	load := exec.Command("git", "fast-import", "--quiet")
	load.Dir, load.Stdin = p.host, strings.NewReader(in.String())
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(p.dir, "log")
	p.write(p.dir, map[string]string{"bin/git": "#!/bin/sh\necho \"$@\" >>" + log + "\nexec " + git + " \"$@\"\n"})
	if err := os.Chmod(filepath.Join(p.dir, "bin/git"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Join(p.dir, "bin")+":"+os.Getenv("PATH"))
	has := p.has()
	for i, want := range []int{200, 200, 50, 0} {
		g := p.give(nil, has)
		if len(g.Branches) != want || g.More != (i < 2) || want == 200 && g.Branches[0].Name != fmt.Sprintf("origin/b%03d", count-1-200*i) {
			t.Errorf("time %d: %d branches, more %t", i, len(g.Branches), g.More)
		}
		for _, b := range g.Branches {
			if b.Count != 1 {
				t.Errorf("%+v", b)
			}
			has = append(has, commits.Ref{Name: b.Ref, ID: b.Tip})
		}
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if runs := strings.Count(string(text), "\n"); runs > 50 {
		t.Errorf("git ran %d times", runs)
	}
}
