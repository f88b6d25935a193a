package engine

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/sparse"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// paired returns the pairs that are found between deleted and new files.
func paired(t testing.TB, gone, come map[string]string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	ws := filepath.Join(dir, "ws")
	for name, text := range gone {
		name = filepath.Join(ws, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	image, err := os.Create(filepath.Join(dir, "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	c := &Changes{}
	if c.manifest, err = workspace.Pack(t.Context(), ws, image, workspace.PackOptions{}); err != nil {
		t.Fatal(err)
	}
	if c.base, err = c.manifest.OpenImage(image); err != nil {
		t.Fatal(err)
	}
	if c.staging, err = workspace.Stage(t.Context(), filepath.Join(dir, "staging"), nil, nil, workspace.StageOptions{}); err != nil {
		t.Fatal(err)
	}
	defer c.staging.Remove()
	for _, e := range c.manifest.Entries {
		if e.Kind == workspace.File {
			c.Edits = append(c.Edits, workspace.Edit{Op: workspace.Delete, Path: e.Path, OldKind: e.Kind, OldSize: e.Size})
		}
	}
	for name, text := range come {
		e := workspace.Edit{Op: workspace.Add, Path: name, NewKind: workspace.File, NewSize: int64(len(text))}
		if e.Sum, err = sparse.SumOf(t.Context(), bytes.NewReader([]byte(text)), e.NewSize); err != nil {
			t.Fatal(err)
		}
		if err := c.staging.Put(&e, bytes.NewReader([]byte(text))); err != nil {
			t.Fatal(err)
		}
		c.Edits = append(c.Edits, e)
	}
	if err := c.pair(t.Context()); err != nil {
		t.Fatal(err)
	}
	pairs := make(map[string]string)
	for _, e := range c.Edits {
		if e.Op == workspace.Add && e.Other != "" {
			pairs[e.Other] = fmt.Sprintf("%s %d", e.Path, e.Likeness)
		}
	}
	return pairs
}

// The most alike are one rename, those with the same name first, and each file is in one.
func TestPair(t *testing.T) {
	const ten, nine, half = "1\n2\n3\n4\n5\n6\n7\n8\n9\nx\n", "1\n2\n3\n4\n5\n6\n7\n8\n9\ny\n", "1\n2\n3\n4\n5\na\nb\nc\nd\ne\n"
	for name, tt := range map[string]struct {
		gone, come, want map[string]string
	}{
		"same":                {map[string]string{"a": ten}, map[string]string{"b": ten}, map[string]string{"a": "b 100"}},
		"edited":              {map[string]string{"a": ten}, map[string]string{"b": nine}, map[string]string{"a": "b 90"}},
		"half":                {map[string]string{"a": ten}, map[string]string{"b": half}, map[string]string{"a": "b 50"}},
		"less":                {map[string]string{"a": ten}, map[string]string{"b": half + "f\n"}, nil},
		"the same name first": {map[string]string{"a/x": ten, "b/y": ten}, map[string]string{"c/y": ten, "d/x": ten}, map[string]string{"a/x": "d/x 100", "b/y": "c/y 100"}},
		"the best first":      {map[string]string{"a": ten, "b": nine}, map[string]string{"c": nine}, map[string]string{"b": "c 100"}},
		"one of two":          {map[string]string{"a": ten}, map[string]string{"b": nine, "c/a": nine}, map[string]string{"a": "c/a 90"}},
		"empty":               {map[string]string{"a": ""}, map[string]string{"b": ""}, nil},
		"git's own":           {map[string]string{".git/hooks/a": ten, "b": nine}, map[string]string{"c": ten, ".git/hooks/b": nine}, map[string]string{"b": "c 90"}},
	} {
		got := paired(t, tt.gone, tt.come)
		if len(got) != len(tt.want) {
			t.Errorf("%s: pairs %v; want %v", name, got, tt.want)
		}
		for from, to := range tt.want {
			if got[from] != to {
				t.Errorf("%s: %s became %q; want %q", name, from, got[from], to)
			}
		}
	}
}

// Many files that are hardly alike end the search, not the review.
func TestPairBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	gone, come := make(map[string]string), make(map[string]string)
	for i := range 1200 {
		text := fmt.Sprintf("%d\n%d\n%d\n", r.Int64(), r.Int64(), r.Int64())
		gone[fmt.Sprintf("a/%d", i)], come[fmt.Sprintf("b/%d", i)] = text+"x\n", text
	}
	if got := paired(t, gone, come); len(got) > 0 {
		t.Errorf("%d pairs of too many files", len(got))
	}
	for i := range 1200 {
		come[fmt.Sprintf("b/%d", i)] = gone[fmt.Sprintf("a/%d", i)]
	}
	if got := paired(t, gone, come); len(got) != 1200 {
		t.Errorf("%d pairs of the same files", len(got))
	}
}
