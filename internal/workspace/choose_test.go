package workspace

import (
	"slices"
	"strings"
	"testing"
)

var toChoose = []Edit{
	{Op: Modify, Path: "a", OldKind: Dir, NewKind: Dir, ModeOnly: true},
	{Op: Add, Path: "a/new", NewKind: Dir, Implied: true},
	{Op: Add, Path: "a/new/x", NewKind: File},
	{Op: Add, Path: "a/new/y", NewKind: File},
	{Op: Modify, Path: "a-b", OldKind: File, NewKind: File},
	{Op: Modify, Path: "d", OldKind: Dir, NewKind: File},
	{Op: Delete, Path: "d/in", OldKind: File},
	{Op: Modify, Path: "f", OldKind: File, NewKind: Dir},
	{Op: Add, Path: "f/in", NewKind: File},
	{Op: Delete, Path: "gone", OldKind: Dir, Implied: true},
	{Op: Delete, Path: "gone/z", OldKind: File},
	{Op: Rename, Path: "n", From: "o", OldKind: Dir, NewKind: Dir},
	{Op: Modify, Path: "n/x", From: "o/x", OldKind: File, NewKind: File},
	{Op: Add, Path: "s", NewKind: Other, Skipped: "a socket"},
}

func chosen(edits []Edit, wanted, allowed func(*Edit) bool) string {
	by := func(f func(*Edit) bool) func(int) bool { return func(i int) bool { return f(&edits[i]) } }
	var got []string
	for _, e := range Choose(Pointers(edits), by(wanted), by(allowed)) {
		got = append(got, e.Path)
	}
	return strings.Join(got, " ")
}

func all(*Edit) bool { return true }

// Of the changes at some paths come also the directories that they need.
func TestChoosePaths(t *testing.T) {
	for _, tt := range []struct {
		paths []string
		want  string
	}{
		{[]string{"a/new/x"}, "a/new a/new/x"},
		{[]string{"a"}, "a a/new a/new/x a/new/y"},
		{[]string{"f/in"}, "f f/in"},
		{[]string{"gone/z"}, "gone/z"},
		{[]string{"gone", "a-b"}, "a-b gone gone/z"},
		{[]string{"o"}, "n"},
		{[]string{"n/x"}, "n n/x"},
		{[]string{"d"}, "d d/in"},
		{[]string{"a/ne"}, ""},
	} {
		at := func(e *Edit) bool { return slices.ContainsFunc(tt.paths, e.At) }
		if got := chosen(toChoose, at, all); got != tt.want {
			t.Errorf("Choose of %q = %q; want %q", tt.paths, got, tt.want)
		}
	}
}

// What is held back holds back what cannot be applied without it, and nothing else.
func TestChooseWithout(t *testing.T) {
	everything := strings.Fields(chosen(toChoose, all, all))
	if len(everything) != len(toChoose)-1 {
		t.Fatalf("Choose of all = %q", everything)
	}
	for held, more := range map[string]string{
		"a-b": "", "a/new/x": "", "f": "f/in", "f/in": "", "gone/z": "gone", "n": "n/x", "n/x": "", "d/in": "d", "d": "",
	} {
		want := slices.DeleteFunc(slices.Clone(everything), func(p string) bool {
			return p == held || slices.Contains(strings.Fields(more), p)
		})
		got := chosen(toChoose, all, func(e *Edit) bool { return e.Path != held })
		if got != strings.Join(want, " ") {
			t.Errorf("without %s: %q; want %q", held, got, want)
		}
	}
	got := chosen(toChoose, all, func(e *Edit) bool { return !strings.HasPrefix(e.Path, "a/new/") })
	if strings.Contains(got, "a/new") {
		t.Errorf("without all in a new directory: %q", got)
	}
}

func TestMatches(t *testing.T) {
	for _, tt := range []struct {
		pattern, path string
		want          bool
	}{{"*.go", "a/b.go", true}, {"/a", "a/b/c", true}, {"b/", "a/b/c", true}, {"c", "a/b/c", true}, {"d", "a/b/c", false}, {"[", "a", false}} {
		e := Edit{Path: tt.path, NewKind: File}
		if got := e.Matches([]string{tt.pattern}); got != tt.want {
			t.Errorf("%s matches %q: %t; want %t", tt.path, tt.pattern, got, tt.want)
		}
	}
}

func TestCleanPath(t *testing.T) {
	for p, want := range map[string]string{"a/": "a", "./a/../b": "b", "/w/x": "x", "/w": ".", "/w/": ".", "/wx": "/wx", "..": ".."} {
		if got := CleanPath("/w", p); got != want {
			t.Errorf("CleanPath(%q) = %q; want %q", p, got, want)
		}
	}
}

// editsAt returns those of edits that are at some paths.
func editsAt(edits []Edit, paths ...string) []Edit {
	wanted := func(i int) bool { return slices.ContainsFunc(paths, edits[i].At) }
	return some(edits, wanted)
}

// some returns those of edits that are wanted.
func some(edits []Edit, wanted func(i int) bool) (out []Edit) {
	for _, e := range Choose(Pointers(edits), wanted, func(int) bool { return true }) {
		out = append(out, *e)
	}
	return out
}
