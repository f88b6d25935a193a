package workspace

import (
	"strings"
	"testing"
)

func TestSelect(t *testing.T) {
	edits := []Edit{
		{Op: Modify, Path: "a", OldKind: Dir, NewKind: Dir, ModeOnly: true},
		{Op: Add, Path: "a/new", NewKind: Dir, Implied: true},
		{Op: Add, Path: "a/new/x", NewKind: File},
		{Op: Add, Path: "a/new/y", NewKind: File},
		{Op: Modify, Path: "a-b", OldKind: File, NewKind: File},
		{Op: Modify, Path: "f", OldKind: File, NewKind: Dir},
		{Op: Add, Path: "f/in", NewKind: File},
		{Op: Delete, Path: "gone", OldKind: Dir, Implied: true},
		{Op: Delete, Path: "gone/z", OldKind: File},
	}
	tests := []struct {
		paths []string
		want  string
	}{
		{[]string{"a/new/x"}, "a/new a/new/x"},
		{[]string{"a"}, "a a/new a/new/x a/new/y"},
		{[]string{"f/in"}, "f f/in"},
		{[]string{"gone/z"}, "gone/z"},
		{[]string{"gone", "a-b"}, "a-b gone gone/z"},
		{[]string{"a/ne"}, ""},
	}
	for _, tt := range tests {
		var got []string
		for _, e := range Select(edits, tt.paths) {
			got = append(got, e.Path)
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("Select(%q) = %q; want %q", tt.paths, s, tt.want)
		}
	}
}
