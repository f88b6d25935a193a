package commits_test

import (
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/commits"
)

// References become what they were, whichever of the moves were carried out, and however
// often that is done. What somebody else made of them stays.
func TestTakeBack(t *testing.T) {
	p := newPair(t)
	p.copy()
	first := p.git(p.host, "rev-parse", "HEAD~")
	head := p.git(p.host, "rev-parse", "HEAD")
	p.commit(p.guest, map[string]string{"a": "4"}, "guest 1")
	refs, status := p.git(p.host, "for-each-ref"), p.git(p.host, "status", "--porcelain")
	var moves []commits.Moved
	r := p.open()
	r.Record = func(m []commits.Moved) error { moves = append(moves, m...); return nil }
	p.is(string(p.forward(r, p.take(r, "refs/heads/main"), "main", "")), "")
	if len(moves) != 3 || moves[0].Ref != "refs/heads/mayfly/m/main" || moves[1].Ref != "refs/heads/main" || moves[2].New != "" {
		t.Fatalf("moves = %+v", moves)
	}
	p.write(p.host, map[string]string{"a": "2"}) // as an undo of the files does it
	never := commits.Moved{Ref: "refs/heads/mayfly/m/never", New: head}
	for range 2 {
		back, left, err := p.open().TakeBack(t.Context(), append(moves, never))
		if err != nil || len(left) > 0 || len(back) != 3 {
			t.Fatalf("TakeBack = %q, %v, %v", back, left, err)
		}
		p.is(p.git(p.host, "for-each-ref"), refs)
		p.is(p.git(p.host, "status", "--porcelain"), status)
		p.sound()
	}
	p.git(p.host, "branch", "mayfly/m/never", first)
	_, left, err := p.open().TakeBack(t.Context(), []commits.Moved{never})
	if err != nil || left[never.Ref] == "" {
		t.Errorf("TakeBack of what is another's = %v, %v", left, err)
	}
	p.is(p.git(p.host, "rev-parse", "mayfly/m/never"), first)
	for _, m := range []commits.Moved{{Ref: "HEAD", New: head}, {Ref: "refs/heads/../x", New: head}, {Ref: "refs/tags/x", New: head}, {Ref: "refs/heads/x", New: "--all"}} {
		if _, _, err := p.open().TakeBack(t.Context(), []commits.Moved{m}); err == nil || !strings.Contains(err.Error(), "a record of ") {
			t.Errorf("TakeBack(%+v) = %v", m, err)
		}
	}
}
