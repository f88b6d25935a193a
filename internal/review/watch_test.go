package review

import (
	"errors"
	"strings"
	"testing"
)

func TestWatches(t *testing.T) {
	files := map[string]string{
		".git/config":      "[core]\n\thooksPath = tools/hooks\n[include]\n\tpath = ../shared.gitconfig\n",
		".git/hooks/check": "#!/bin/sh\nexec scripts/check.sh\n",
		".envrc":           "source_env env/common\n",
	}
	host := Host{
		Read: func(path string, max int) ([]byte, error) {
			if text, ok := files[path]; ok {
				return []byte(text), nil
			}
			return nil, errors.New("not there")
		},
		Names: func(dir string) (names []string) {
			seen := map[string]bool{}
			for path := range files {
				rest, ok := strings.CutPrefix(path, dir+"/")
				if dir == "." {
					rest, ok = path, true
				}
				name, _, _ := strings.Cut(rest, "/")
				if ok && !seen[name] {
					seen[name] = true
					names = append(names, name)
				}
			}
			return names
		},
	}
	w := NewWatcher(host, []Extra{{Pattern: "deploy/*.sh", Class: Runs}, {Pattern: "build/*.sh", Class: Builds}})
	for _, path := range []string{
		".git/config", ".git/hooks/pre-commit", "sub/.git/hooks/post-checkout", ".git/modules/lib/config", ".git/modules/lib/hooks/post-merge",
		".git/info/attributes", ".git/config.worktree", ".git/commondir", ".git/worktrees/w/gitdir", ".git",
		".envrc", "deep/er/.envrc", ".vscode/settings.json", ".vscode/tasks.json", ".claude/settings.json", "CLAUDE.md", "a/AGENTS.md", ".mcp.json",
		".husky/pre-commit", ".gitattributes", "tools/hooks/pre-push", "shared.gitconfig", "scripts/check.sh", "env/common", "deploy/now.sh",
		".GIT/Hooks/pre-commit", ".idea/workspace.xml",
	} {
		if !w.Watches(path) {
			t.Errorf("Watches(%q) = false", path)
		}
	}
	for _, path := range []string{
		"main.go", "README.md", "package.json", "Makefile", "src/lib.rs", "docs/x.json", "a.yml", ".git/index", ".git/HEAD", ".git/refs/heads/main",
		".git/logs/HEAD", ".git/objects/ab/cdef", ".git/COMMIT_EDITMSG", ".git/ORIG_HEAD", ".git/packed-refs", "build/x.sh", "scripts/other.sh", "config",
	} {
		if w.Watches(path) {
			t.Errorf("Watches(%q) = true", path)
		}
	}
}

func BenchmarkWatches(b *testing.B) {
	w := NewWatcher(Host{}, nil)
	for b.Loop() {
		w.Watches("internal/some/package/file_test.go")
	}
}
