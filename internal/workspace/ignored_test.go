package workspace

import (
	"slices"
	"strings"
	"testing"
)

func TestSetIgnored(t *testing.T) {
	add := func(path string, kind Kind) Edit { return Edit{Op: Add, Path: path, NewKind: kind} }
	modify := func(path string, old, now Kind) Edit {
		return Edit{Op: Modify, Path: path, OldKind: old, NewKind: now}
	}
	remove := func(path string, kind Kind) Edit { return Edit{Op: Delete, Path: path, OldKind: kind} }
	rename := func(from, to string) Edit {
		return Edit{Op: Rename, From: from, Path: to, OldKind: Dir, NewKind: Dir}
	}
	tests := []struct {
		name    string
		edits   []Edit
		ignored string // paths
		want    string // what is left, a directory that others make obvious in brackets
	}{
		{"a file", []Edit{add("a.o", File), modify("b.c", File, File)}, "a.o", "b.c"},
		{"a changed tree", []Edit{modify("venv", Dir, Dir), modify("venv/bin", Dir, Dir), remove("venv/bin/p", Symlink), add("venv/bin/q", File), modify("z", File, File)},
			"venv venv/bin venv/bin/p venv/bin/q", "z"},
		{"what is tracked in an ignored directory", []Edit{modify("out/a", File, File), modify("out/keep", File, File)}, "out out/a", "out/keep"},
		{"a directory for what is tracked", []Edit{add("out", Dir), add("out/a", File), add("out/keep", File)}, "out out/a", "(out) out/keep"},
		{"a directory with nothing else", []Edit{add("p", Dir), add("p/cache", Dir), add("p/cache/x", File)}, "p/cache p/cache/x", ""},
		{"a directory with something else", []Edit{add("p", Dir), add("p/cache", Dir), add("p/cache/x", File), add("p/x", File)}, "p/cache p/cache/x", "(p) p/x"},
		{"an empty directory", []Edit{add("p", Dir)}, "", "p"},
		{"a deleted directory", []Edit{remove("p", Dir), remove("p/cache", Dir), remove("p/cache/x", File), remove("p/x", File)}, "p/cache p/cache/x", "p/x"},
		{"a deleted directory without", []Edit{remove("p", Dir), remove("p/q", Dir), remove("p/q/x", File), remove("r", Dir), remove("r/o", File)}, "r/o", "(p) (p/q) p/q/x"},
		{"a name that begins as another", []Edit{add("p", Dir), add("p-q", File)}, "p-q", "p"},
		{"a file that becomes a directory", []Edit{modify("x", File, Dir), add("x/y", File)}, "x", "x x/y"},
		{"a rename within", []Edit{rename("out/a", "out/b"), {Op: Modify, From: "out/a/f", Path: "out/b/f", OldKind: File, NewKind: File}}, "out/a out/b out/a/f out/b/f", ""},
		{"a rename into", []Edit{add("out", Dir), rename("src", "out/src"), {Op: Modify, From: "src/f", Path: "out/src/f", OldKind: File, NewKind: File}, add("out/src/new", File)},
			"out out/src out/src/f out/src/new", "(out) out/src out/src/f"},
		{"a rename out of", []Edit{rename("out/a", "src")}, "out/a", "src"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			names := strings.Fields(tt.ignored)
			SetIgnored(tt.edits, func(p string) bool { return slices.Contains(names, p) })
			var got []string
			for _, e := range WithoutIgnored(Pointers(tt.edits)) {
				name := e.Path
				if e.Implied {
					name = "(" + name + ")"
				}
				got = append(got, name)
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("left: %q; want %q", s, tt.want)
			}
		})
	}
}
