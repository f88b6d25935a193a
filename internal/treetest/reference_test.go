package treetest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/treetest/reference"
)

// The pages of docs/reference say what the program does now.
func TestReference(t *testing.T) {
	pages := reference.Pages()
	for name, want := range pages {
		path := filepath.Join(root, name)
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got, err := os.ReadFile(path); err != nil {
			t.Errorf("%v; run make docs", err)
		} else if d := cmp.Diff(string(got), want); d != "" {
			t.Errorf("%s is stale; run make docs (-file +want):\n%s", name, d)
		}
	}
}
