package supervisor

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// A copy gets a .git of its own where the repository of the workspace lies elsewhere, and
// only there.
func TestPackCarriesGit(t *testing.T) {
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	for _, args := range [][]string{
		{"init", "-q", home + "/main"}, {"-C", home + "/main", "-c", "user.name=n", "-c", "user.email=e@x", "commit", "-q", "--allow-empty", "-m", "first"},
		{"-C", home + "/main", "worktree", "add", "-q", home + "/linked"}, {"init", "-q", home},
	} {
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
	for _, dir := range []string{"main/part", "none"} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		dir     string
		exclude []string
		carried bool
		prefix  string
	}{
		{dir: "main"}, {dir: "linked", carried: true}, {dir: "main/part", carried: true, prefix: "part/"},
		{dir: "none"}, // its repository is the home directory
		{dir: "linked", exclude: []string{".git"}},
	} {
		dir := t.TempDir()
		s := &supervisor{
			machine: state.Machine{Name: "m", Dir: dir}, events: newEvents(os.Stderr), measure: roomy, held: make(held),
			plan: plan.Plan{Name: "m", Workspace: plan.Workspace{Path: filepath.Join(home, tt.dir), Mode: plan.ModeCopy, Exclude: tt.exclude}},
		}
		s.plan.Guest.User.Home = home
		packed, list := s.machine.WorkspaceFiles(s.plan)
		if err := os.WriteFile(packed, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.packWorkspace(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(list)
		if err != nil {
			t.Fatal(err)
		}
		m, err := workspace.ReadManifest(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if m.GitCarried != tt.carried || m.GitPrefix != tt.prefix {
			t.Errorf("%s, without %q: carried %t, prefix %q; want %t, %q", tt.dir, tt.exclude, m.GitCarried, m.GitPrefix, tt.carried, tt.prefix)
		}
		left, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if i := slices.IndexFunc(left, func(e os.DirEntry) bool {
			return strings.HasPrefix(e.Name(), "git-") || strings.HasPrefix(e.Name(), "commits-")
		}); i >= 0 {
			t.Errorf("%s is left", left[i].Name())
		}
	}
}
