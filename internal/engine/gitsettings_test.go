package engine

import (
	"testing"

	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// Of what is below .git only a hook that git runs can come back, as a file, and only where
// the host has the repository.
func TestHook(t *testing.T) {
	c := &Changes{manifest: &workspace.Manifest{Entries: []workspace.Entry{
		{Path: ".git", Kind: workspace.Dir}, {Path: "file", Kind: workspace.Dir}, {Path: "file/.git", Kind: workspace.File}, {Path: "sub", Kind: workspace.Dir}, {Path: "sub/.git", Kind: workspace.Dir},
	}}}
	for _, tt := range []struct {
		path     string
		old, new workspace.Kind
		want     bool
	}{
		{".git/hooks/pre-commit", workspace.None, workspace.File, true},
		{".git/hooks/pre-commit", workspace.File, workspace.File, true},
		{"sub/.git/hooks/post-checkout", workspace.None, workspace.File, true},
		{".git/hooks/pre-commit", workspace.None, workspace.Symlink, false},
		{".git/hooks/pre-commit", workspace.None, workspace.Dir, false},
		{".git/hooks/pre-commit", workspace.Dir, workspace.File, false},
		{".git/hooks/pre-commit", workspace.Symlink, workspace.File, false},
		{".git/hooks/pre-commit.sample", workspace.None, workspace.File, false},
		{".git/hooks/PRE-COMMIT", workspace.None, workspace.File, false},
		{".git/hooks/dir/pre-commit", workspace.None, workspace.File, false},
		{".git/modules/x/hooks/pre-commit", workspace.None, workspace.File, false},
		{".GIT/hooks/pre-commit", workspace.None, workspace.File, false},
		{"file/.git/hooks/pre-commit", workspace.None, workspace.File, false},
		{"other/.git/hooks/pre-commit", workspace.None, workspace.File, false},
		{".git/config", workspace.File, workspace.File, false},
		{"hooks/pre-commit", workspace.None, workspace.File, false},
	} {
		if got := c.isHook(&workspace.Edit{Path: tt.path, OldKind: tt.old, NewKind: tt.new}); got != tt.want {
			t.Errorf("isHook(%s, %v -> %v) = %t", tt.path, tt.old, tt.new, got)
		}
	}
}

// git takes the first and the last part of a name in any case.
func TestFoldKey(t *testing.T) {
	for key, want := range map[string]string{
		"Core.HooksPath": "core.hookspath", "URL.Git@Host:A.b.InsteadOf": "url.Git@Host:A.b.insteadof", "plain": "plain", "": "", ".": ".",
	} {
		if got := foldKey(key); got != want {
			t.Errorf("foldKey(%q) = %q; want %q", key, got, want)
		}
	}
}
