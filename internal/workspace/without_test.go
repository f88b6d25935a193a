package workspace

import (
	"slices"
	"strings"
	"testing"
)

func TestWithout(t *testing.T) {
	add := func(p string, k Kind) Edit { return Edit{Op: Add, Path: p, NewKind: k} }
	del := func(p string, k Kind) Edit { return Edit{Op: Delete, Path: p, OldKind: k} }
	edits := []Edit{
		add("a", Dir), add("a/.git", Dir), add("a/.git/config", File), // nothing else
		add("b", Dir), add("b/.git", Dir), add("b/x", File),
		del("c", Dir), del("c/.git", Dir), del("c/.git/config", File), del("c/d", Dir), del("c/d/x", File),
		del("e", Dir), del("e/x", File),
		{Op: Modify, Path: "f", OldKind: File, NewKind: File},
	}
	got := Without(edits, func(e *Edit) bool { return strings.Contains(e.Path+"/", "/.git/") })
	var paths []string
	for _, e := range got {
		paths = append(paths, e.Op.String()+e.Path)
	}
	want := []string{"Ab", "Ab/x", "Dc/d", "Dc/d/x", "De", "De/x", "Mf"}
	if !slices.Equal(paths, want) {
		t.Errorf("Without() = %q; want %q", paths, want)
	}
	if got := Without(edits, func(*Edit) bool { return false }); len(got) != len(edits) {
		t.Errorf("Without(nothing) has %d of %d", len(got), len(edits))
	}
}
