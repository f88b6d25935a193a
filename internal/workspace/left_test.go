package workspace

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// leave lists changes of a session in which the content of some directories is not wanted.
func (s *session) leave(t *testing.T, cs []Change, synced *Synced, dirs ...string) ([]Edit, *Left) {
	t.Helper()
	edits, left, err := DiffSynced(t.Context(), s.app.Manifest, s.app.Base, synced, sequence(cs), DiffOptions{
		Memory: 1 << 30,
		Leave: func(_ context.Context, asked []string) (map[string]bool, error) {
			unwanted := make(map[string]bool)
			for _, dir := range dirs {
				unwanted[dir] = slices.Contains(asked, dir)
			}
			return unwanted, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return edits, left
}

// What is in new directories that are not wanted is counted, if there is much of it. All
// else is listed.
func TestLeft(t *testing.T) {
	s := newSession(t, tree{"old": {Dir, 0o755, ""}, "old/a": {File, 0o644, "1"}, "old/gone": {File, 0o644, "1"}})
	cs := []Change{
		{Path: "old", Kind: Dir, Mode: 0o755},
		{Path: "old/a", Kind: File, Mode: 0o644, Size: 1, Sum: sumOf("2")},
		{Path: "old/new", Kind: Dir, Mode: 0o755},
		{Path: "old/new/x", Kind: File, Mode: 0o644, Size: 10},
		{Path: "packages", Kind: Dir, Mode: 0o755},
		{Path: "packages/first", Kind: File, Mode: 0o644, Size: 1, Sum: sumOf("3")},
		{Path: "packages/link", Kind: Symlink, Target: "first"},
		{Path: "packages2", Kind: File, Mode: 0o644, Size: 1, Sum: sumOf("3"), Link: "packages/first"},
		{Path: "packages3", Kind: File, Mode: 0o644, Link: "packages/first"},
	}
	few, left := s.leave(t, cs, nil, "packages")
	if left.Files != 0 || left.Has("packages") || len(few) != len(cs)-1 {
		t.Errorf("of few changes %+v is left, and %v listed", left, few)
	}
	for i := range leaveFrom {
		cs = append(cs, Change{Path: fmt.Sprintf("packages/%d", i), Kind: File, Mode: 0o644, Size: 2})
	}
	edits, left := s.leave(t, cs, nil, "packages", "old", "old/new")
	var got []string
	for _, e := range edits {
		got = append(got, e.Op.String()+" "+e.Path+" "+e.Link)
	}
	if want := []string{"M old/a ", "A packages2 ", "A packages3 packages2"}; !slices.Equal(got, want) {
		t.Errorf("listed is %q; want %q", got, want)
	}
	if left.Files != leaveFrom+3 || left.Bytes != 2*leaveFrom+11 {
		t.Errorf("left are %d files with %d bytes", left.Files, left.Bytes)
	}
	for path, want := range map[string]bool{"packages": true, "packages/x/y": true, "old/new": true, "old": false, "old/a": false, "packages2": false} {
		if left.Has(path) != want {
			t.Errorf("Has(%s) = %t", path, !want)
		}
	}
	// What was sent is no more the guest's own, and a directory that was renamed has other things.
	sent := (&Synced{}).With(s.app.Manifest, []Sent{{Entry: Entry{Path: "packages", Kind: Dir, Mode: 0o755}}})
	if edits, left := s.leave(t, cs, sent, "packages"); left.Has("packages") || len(edits) < leaveFrom {
		t.Errorf("a directory that was sent is left, and %d listed", len(edits))
	}
	cs = append(cs, Change{Path: "moved", Kind: Dir, Mode: 0o755, Redirect: "/old"})
	if _, left := s.leave(t, cs, nil, "packages"); left.Has("packages") {
		t.Error("with a renamed directory something is left")
	}
}

// What a guest says it has counted, once its list has begun, makes no place for more: it
// has the full cost, since the list grows by copies.
func TestLeftCount(t *testing.T) {
	const many = 1000
	for _, tt := range []struct {
		first, later int64
		refused      bool
	}{{many, many, false}, {1, many, true}, {0, many, true}, {many, 1, false}} {
		counted := tt.first
		list := func(yield func(Change, error) bool) {
			for i := range many {
				if !yield(Change{Path: fmt.Sprintf("%06d", i), Kind: File, Mode: 0o644}, nil) {
					return
				}
				counted = tt.later
			}
		}
		_, err := collect(list, DiffOptions{
			Memory: many * (listedMemory + changeMemory) / 2,
			Count:  func() int64 { return counted },
			Leave:  func(context.Context, []string) (map[string]bool, error) { return nil, nil },
		})
		if refused := fault.CodeOf(err) == fault.ChangesMemory; refused != tt.refused || err != nil && !refused {
			t.Errorf("counted %d first and %d later: %v", tt.first, tt.later, err)
		}
	}
}
