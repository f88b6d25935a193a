package nix

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDigest(t *testing.T) {
	notes := []Note{
		{"a", "f", Dropped, "x"},
		{"a", "f", Unknown, "y"},
		{"b", "f", Unknown, "y"},
		{"", "f", Warning, "z"},
		{"b", "f", Warning, "z"},
		{"c", "f", Unknown, "y"},
	}
	want := []Note{{"", "f", Warning, "z"}, {"a, b", "f", Unknown, "y"}, {"a", "f", Dropped, "x"}}
	if d := cmp.Diff(want, Digest(Concerning(notes, []string{"a", "b"}))); d != "" {
		t.Errorf("Digest() differs (-want +got):\n%s", d)
	}
	if got := Concerning(notes, nil); len(got) != len(notes) {
		t.Errorf("without names %d notes are left; want all %d", len(got), len(notes))
	}
}
