package supervisor

import (
	"fmt"
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

// Of a submodule whose repository is not in the copy, one line says so, and what helps.
func TestPackLostGit(t *testing.T) {
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	t.Setenv("GIT_CONFIG_COUNT", "3")
	for i, setting := range [][2]string{{"user.name", "n"}, {"user.email", "e@x"}, {"protocol.file.allow", "always"}} {
		t.Setenv(fmt.Sprintf("GIT_CONFIG_KEY_%d", i), setting[0])
		t.Setenv(fmt.Sprintf("GIT_CONFIG_VALUE_%d", i), setting[1])
	}
	for _, args := range [][]string{
		{"init", "-q", home + "/lib"}, {"-C", home + "/lib", "commit", "-q", "--allow-empty", "-m", "first"},
		{"init", "-q", home + "/main"}, {"-C", home + "/main", "submodule", "--quiet", "add", home + "/lib", "part/a"},
		{"-C", home + "/main", "submodule", "--quiet", "add", home + "/lib", "part/b"}, {"-C", home + "/main", "commit", "-q", "-m", "first"},
		{"-C", home + "/main", "worktree", "add", "-q", home + "/main/own"}, {"-C", home + "/lib", "worktree", "add", "-q", home + "/main/other"},
		{"-C", home + "/main", "worktree", "add", "-q", home + "/linked"}, {"-C", home + "/linked", "submodule", "--quiet", "update", "--init", "part/a"},
	} {
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
	const its, their = "its repository is not in the copy; a machine that is started in that directory has it", "their repositories are not in the copy; a machine that is started in such a directory has it"
	for _, tt := range []struct{ dir, want string }{
		{"main", "in the machine, git will not work in other: " + its},
		{"main/part", "in the machine, git will not work in a and 1 more: " + their},
		{"main/part/a", ""}, {"linked", "in the machine, git will not work in part/a: " + its}, {"lib", ""},
	} {
		dir := t.TempDir()
		events, err := os.Create(filepath.Join(dir, "events"))
		if err != nil {
			t.Fatal(err)
		}
		s := &supervisor{
			machine: state.Machine{Name: "m", Dir: dir}, events: newEvents(events), measure: roomy, held: make(held),
			plan: plan.Plan{Name: "m", Workspace: plan.Workspace{Path: filepath.Join(home, tt.dir), Mode: plan.ModeCopy}},
		}
		packed, _ := s.machine.WorkspaceFiles(s.plan)
		if err := os.WriteFile(packed, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.packWorkspace(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(events.Name())
		if err != nil {
			t.Fatal(err)
		}
		if said := strings.Contains(string(text), "git will not work"); said != (tt.want != "") || !strings.Contains(string(text), tt.want) {
			t.Errorf("of %s it says %s; want %q", tt.dir, text, tt.want)
		}
	}
}
