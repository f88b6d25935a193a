package ignored

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// Rules that take back what they say, one set in each directory: what git itself does not
// ignore is in no directory that is whole, and is not marked.
func TestRulesAsGit(t *testing.T) {
	home(t, "")
	sets := []string{
		"*\n!*/\n!*.py\n", "**\n!**/\n!*.py\n", "***\n!*/\n!*.py\n", "*\n!.gitignore\n!/new/\n!x.py\n", "/**\n!/**/\n!*.py\n", "/new**\n!/new/\n",
		"*/\n!new/\n", "*\n", "new\n!x.py\n", "new/\n!new/x.py\n", "new/*\n!new/sub/\n!x.py\n", "new\n!new/\n*\n!*/\n",
	}
	random := rand.New(rand.NewPCG(1, 2))
	parts := []string{"*", "**", "***", "new", "sub", "*.py", "n*", "?ew", "[n]ew", "new**", "**w", `\*`, "?", "[!a]*", "*[!a]", `s\ub`, "s*b", "x.py"}
	for range 200 {
		var rules strings.Builder
		for range 1 + random.IntN(4) {
			if random.IntN(2) == 0 {
				rules.WriteString("!")
			}
			if random.IntN(4) == 0 {
				rules.WriteString("/")
			}
			rules.WriteString(parts[random.IntN(len(parts))])
			for random.IntN(3) == 0 {
				rules.WriteString("/" + parts[random.IntN(len(parts))])
			}
			rules.WriteString([]string{"\n", "/\n"}[random.IntN(2)])
		}
		sets = append(sets, rules.String())
	}

	host, guest := make(map[string]string), make(map[string]string)
	var dirs []string
	for i, rules := range sets {
		top := fmt.Sprintf("c%d/", i)
		host[top+".gitignore"], guest[top+".gitignore"] = rules, rules
		for _, dir := range []string{"new", "new/sub", "new/sub/new", "sub", "other", "other/new", "s*b"} {
			dirs = append(dirs, top+dir)
			for _, name := range []string{"x.py", "y.o", "n", "*"} {
				guest[path.Join(top, dir, name)] = ""
			}
		}
	}
	r, all := newRepo(t, t.TempDir(), host), newRepo(t, t.TempDir(), guest)
	cmd := exec.Command("git", "ls-files", "-z", "--others", "--exclude-standard")
	cmd.Dir = all.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	whole, err := Dirs(t.Context(), r.dir, dirs)
	if err != nil {
		t.Fatal(err)
	}
	if len(whole) < len(sets)/4 {
		t.Errorf("only %d directories are whole: %q", len(whole), slices.Sorted(maps.Keys(whole)))
	}
	var edits []workspace.Edit
	for p := range guest {
		if filepath.Base(p) != ".gitignore" {
			edits = append(edits, workspace.Edit{Op: workspace.Add, Path: p, NewKind: workspace.File})
		}
	}
	marked := make(map[string]bool)
	for _, p := range r.mark(edits) {
		marked[p] = true
	}
	rulesOf := func(p string) string { top, _, _ := strings.Cut(p, "/"); return host[top+"/.gitignore"] }
	ordinary := make(map[string]bool)
	for p := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		ordinary[p] = true
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			if whole[dir] {
				delete(whole, dir) // once is enough
				t.Errorf("with the rules %q %s is whole, and git shows %s", rulesOf(p), dir, p)
			}
		}
	}
	for _, e := range edits {
		if marked[e.Path] == ordinary[e.Path] {
			t.Errorf("with the rules %q %s is marked: %v; git shows it: %v", rulesOf(e.Path), e.Path, marked[e.Path], ordinary[e.Path])
		}
	}
}
