package engine

import (
	"testing"
)

// The password of a URL is for the clone, and not for the machine's file.
func TestParseClone(t *testing.T) {
	for _, test := range []struct {
		in   string
		want Clone
	}{
		{"https://alice:hunter2@host.example/a.git@v1", Clone{URL: "https://host.example/a.git", Typed: "https://alice:hunter2@host.example/a.git", Ref: "v1"}},
		{"https://token@host.example/a.git", Clone{URL: "https://host.example/a.git", Typed: "https://token@host.example/a.git"}},
		{"git@host.example:a.git@main", Clone{URL: "git@host.example:a.git", Typed: "git@host.example:a.git", Ref: "main"}},
	} {
		got, err := ParseClone(test.in)
		if got != test.want || err != nil {
			t.Errorf("ParseClone(%q) = %v, %v; want %v", test.in, got, err, test.want)
		}
	}
}
