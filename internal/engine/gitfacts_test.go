package engine

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/review"
)

// How the host's git is set up comes from all of its configuration, and nothing of it runs.
func TestGitFacts(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git here")
	}
	home, dir := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", home)
	write := func(path, text string, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := gitFacts(t.Context(), dir); cmp.Diff(review.GitFacts{}, got) != "" || err != nil {
		t.Errorf("without a repository: %+v, %v", got, err)
	}
	if out, err := exec.Command("git", "init", "-q", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	canary := filepath.Join(home, "ran")
	write(filepath.Join(home, ".gitconfig"), "[user]\n\tname = A B\n\temail = a@example.org\n[filter \"lfs\"]\n\tclean = git-lfs clean\n\tprocess = git-lfs filter-process\n", 0o644)
	write(filepath.Join(dir, "settings"), "[diff \"d\"]\n\ttextconv = sh d\n", 0o644)
	write(filepath.Join(dir, ".git/config"), `[core]
	fsmonitor = "touch `+canary+`"
	hooksPath = .husky/_
	pager = touch `+canary+`
[include]
	path = ../settings
[remote "origin"]
	url = https://example.org/r
[alias]
	config = !touch `+canary+`
`, 0o644)
	write(filepath.Join(dir, ".husky/_/pre-commit"), "", 0o755)
	write(filepath.Join(dir, ".husky/_/pre-push.sample"), "", 0o755)
	write(filepath.Join(dir, ".husky/_/README"), "", 0o644)
	want := review.GitFacts{
		Hooks: []string{"pre-commit"}, HooksPath: ".husky/_",
		Drivers:  map[string]string{"filter.lfs": "git-lfs filter-process", "diff.d": "sh d"},
		Includes: []string{"settings"}, Remotes: map[string]string{"origin": "https://example.org/r"}, Identity: "A B <a@example.org>",
	}
	got, err := gitFacts(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("facts (-want +got):\n%s", d)
	}
	if _, err := os.Lstat(canary); err == nil {
		t.Error("a program of the configuration ran")
	}

	// Where git says nothing of a repository, that is no "nothing is set up".
	write(filepath.Join(dir, ".git/config"), "[core\n", 0o644)
	if got, err := gitFacts(t.Context(), dir); err == nil {
		t.Errorf("of a configuration that is none: %+v", got)
	}
	t.Setenv("PATH", home)
	if got, err := gitFacts(t.Context(), dir); err != nil {
		t.Errorf("without git: %+v, %v", got, err)
	}
}
