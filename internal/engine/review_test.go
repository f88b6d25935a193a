package engine

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/host"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/review"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// packedChanges are the changes of a machine that has a copy of these files.
func packedChanges(t *testing.T, files map[string]string) *Changes {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	image, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := workspace.Pack(t.Context(), dir, image, workspace.PackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	base, err := m.OpenImage(image)
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{dirs: host.Dirs{Config: t.TempDir()}}
	c := &Changes{machine: Machine{e: e, p: plan.Plan{Name: "m"}}, manifest: m, base: base, copied: &copied{manifest: m, image: image, packed: base, unlock: func() {}}}
	t.Cleanup(func() { c.Close() })
	return c
}

// What a rename of a directory makes of the files in it counts, though none is in the list.
func TestReviewMoves(t *testing.T) {
	c := packedChanges(t, map[string]string{"scripts/pre-commit": "#!/bin/sh\n", "src/a.go": "package a\n"})
	hooks := workspace.Edit{Op: workspace.Rename, Path: ".git/hooks", From: "scripts", OldKind: workspace.Dir, NewKind: workspace.Dir}
	plain := workspace.Edit{Op: workspace.Rename, Path: "lib", From: "src", OldKind: workspace.Dir, NewKind: workspace.Dir}
	verdicts, err := c.classify(t.Context(), []workspace.Edit{hooks, plain})
	if err != nil {
		t.Fatal(err)
	}
	if v := verdicts[0]; v.Class != review.Runs || !v.Withheld || v.Findings[0].Detail != ".git/hooks/pre-commit" {
		t.Errorf("a directory that becomes .git/hooks: %+v", v)
	}
	if v := verdicts[1]; v.Class != review.Ordinary {
		t.Errorf("a directory with another name: %+v", v)
	}
}

// What was found of a new directory holds for all that comes with it.
func TestReviewInherits(t *testing.T) {
	edits := []workspace.Edit{
		{Op: workspace.Add, Path: "d", NewKind: workspace.Dir, Implied: true},
		{Op: workspace.Add, Path: "d/e", NewKind: workspace.Dir, Implied: true},
		{Op: workspace.Add, Path: "d/e/f", NewKind: workspace.File},
		{Op: workspace.Add, Path: "g", NewKind: workspace.File},
	}
	verdicts := make([]review.Verdict, len(edits))
	verdicts[0].Add(review.Finding{Rule: "odd-name", Class: review.Suspicious})
	inherit(edits, verdicts)
	if verdicts[2].Class != review.Suspicious || verdicts[3].Class != review.Ordinary {
		t.Errorf("verdicts are %+v", verdicts)
	}
}

// The old content of a file is what was packed, where it was then.
func TestReviewOld(t *testing.T) {
	c := packedChanges(t, map[string]string{"src/a.go": "package a\n"})
	change := c.change(&workspace.Edit{
		Op: workspace.Modify, Path: "lib/a.go", From: "src/a.go", OldKind: workspace.File, OldSize: 10, NewKind: workspace.File, NewSize: 9 << 20,
	})
	f, err := change.Old.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || string(got) != "package a\n" {
		t.Errorf("the old content is %q, %v", got, err)
	}
	if change.New.Open != nil {
		t.Error("a content that was not fetched can be opened")
	}
}

// A placeholder that the agent wrote into a file works nowhere else.
func TestReviewPlaceholders(t *testing.T) {
	p := plan.Plan{Keep: &plan.Keep{Dir: t.TempDir()}}
	if err := os.WriteFile(filepath.Join(p.Keep.Dir, definition.PlaceholdersFile), []byte(`{"TOKEN": ["tok_Zz81xQ", "tok_old"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := placeholders(p); len(got) != 2 || got[0] != "tok_Zz81xQ" || got[1] != "tok_old" {
		t.Errorf("placeholders = %q", got)
	}
}
