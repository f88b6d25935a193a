package cli

import (
	"testing"

	"github.com/mayfly-vm/mayfly/internal/config"
)

// The password of a URL is for the clone, and not for the machine's file.
func TestParseClone(t *testing.T) {
	for _, test := range []struct {
		in, typed string
		want      config.Clone
	}{
		{"https://alice:hunter2@host.example/a.git@v1", "https://alice:hunter2@host.example/a.git", config.Clone{URL: "https://host.example/a.git", Ref: "v1"}},
		{"https://token@host.example/a.git", "https://token@host.example/a.git", config.Clone{URL: "https://host.example/a.git"}},
		{"git@host.example:a.git@main", "git@host.example:a.git", config.Clone{URL: "git@host.example:a.git", Ref: "main"}},
	} {
		got, typed, err := parseClone(test.in)
		if got != test.want || typed != test.typed || err != nil {
			t.Errorf("parseClone(%q) = %v, %q, %v; want %v, %q", test.in, got, typed, err, test.want, test.typed)
		}
	}
}
