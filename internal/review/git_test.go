package review

import (
	"strings"
	"testing"
)

// facts is a host whose git has this set up.
func facts(g GitFacts) Host { return Host{Git: g} }

// hostTree is a host whose workspace has these files.
func hostTree(files map[string]string) Host {
	return Host{
		Read: func(path string, most int) ([]byte, error) {
			data, ok := files[path]
			if !ok || len(data) > most {
				return nil, errTooLarge
			}
			return []byte(data), nil
		},
		Names: func(dir string) []string {
			seen := map[string]bool{}
			var names []string
			for p := range files {
				below, ok := strings.CutPrefix(p, dir+"/")
				if dir == "." {
					below, ok = p, true
				}
				if name, _, _ := strings.Cut(below, "/"); ok && !seen[name] {
					seen[name] = true
					names = append(names, name)
				}
			}
			return names
		},
	}
}

const plainConfig = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n[remote \"origin\"]\n\turl = https://host/r\n"

var gitCases = []evalCase{
	{change: Change{Path: ".git/hooks/post-checkout", New: file("#!/bin/sh\n")}, class: Runs, rules: []string{"git-hook"}},
	{change: Change{Path: "a/.GIT/hooks/post-checkout", New: file("#!/bin/sh\n")}, class: Suspicious, rules: []string{"git-name", "git-nested"}},
	{change: Change{Path: ".git/hooks/pre-commit", Old: file("#!/bin/sh\n"), New: executable("#!/bin/sh\n")}, class: Runs, rules: []string{"git-hook"}},
	{change: Change{Path: ".git/modules/lib/hooks/pre-commit", New: file("x")}, class: Runs, rules: []string{"git-hook"}},
	{change: Change{Path: ".git/hooks/pre-commit", From: ".git/hooks/pre-commit.sample", Old: file("x"), New: file("x")}, class: Runs, rules: []string{"git-hook"}},
	{change: Change{Path: ".git/hooks/pre-commit.sample", Old: file("a"), New: file("b")}, class: Suspicious, rules: []string{"git-hook"}},
	{change: gitConfig(plainConfig + "[core] fsmonitor = \"sh x\"\n"), class: Runs, rules: []string{"git-config"}},
	{change: gitConfig(plainConfig + "[core]hooksPath=x\n"), class: Runs, rules: []string{"git-config"}},
	{change: gitConfig(plainConfig + "[hook \"a\"]\n\tcommand = x\n\tevent = post-index-change\n"), class: Runs, rules: []string{"git-config"}},
	{change: gitConfig(plainConfig + "[what"), class: Runs, rules: []string{"git-config"}},
	{change: Change{Path: ".git/config.worktree", New: file("[core] pager = x")}, class: Runs, rules: []string{"git-config"}},
	{change: Change{Path: ".git/modules/a/b/config", New: file("[alias] st = !x")}, class: Runs, rules: []string{"git-config"}},
	{
		change: gitConfig(plainConfig + "[include] path = ../notes.txt\n"), more: []Change{{Path: "notes.txt", New: file("[alias]st=!sh")}},
		class: Runs, rules: []string{"git-config"},
	},
	{
		change: Change{Path: "notes.txt", New: file("[alias]st=!sh")}, more: []Change{gitConfig("[include] path = ../notes.txt\n")},
		class: Runs, rules: []string{"git-include"},
	},
	{
		change: Change{Path: ".gitconfig", Old: file("a"), New: file("b")}, host: hostTree(map[string]string{".git/config": "[include]\npath = ../.gitconfig\n"}),
		class: Runs, rules: []string{"git-include"},
	},
	{
		change: gitConfig(plainConfig + "[branch \"f\"]\n\tremote = origin\n\tmerge = refs/heads/f\n"),
		host:   facts(GitFacts{Remotes: map[string]string{"origin": "https://host/r"}}), class: Ordinary, rules: []string{"git-config", "git-data"},
	},
	{change: gitConfig(plainConfig + "[branch \"f\"]\n\tremote = https://evil/\n"), class: Runs, rules: []string{"git-config"}},
	{change: gitConfig(plainConfig + "[status]\n\tshowUntrackedFiles = no\n"), class: Suspicious, rules: []string{"git-config"}},
	{change: gitConfig(plainConfig + "; why\n"), class: Ordinary, rules: []string{"git-data"}},
	{change: Change{Path: ".git", Old: Node{Kind: Dir}, New: file("gitdir: ../.store\n")}, class: Suspicious, rules: []string{"git-place"}},
	{change: Change{Path: ".git", Old: Node{Kind: Dir}, New: Node{Kind: Symlink, Target: "x"}}, class: Suspicious, rules: []string{"git-place"}},
	{change: Change{Path: ".git/worktrees/w/gitdir", Old: file("a"), New: file("b")}, class: Suspicious, rules: []string{"git-place"}},
	{change: Change{Path: ".git/info/attributes", New: file("* filter=x")}, class: Runs, rules: []string{"git-info"}},
	{change: Change{Path: ".git/info/exclude", Old: file(""), New: file("*")}, class: Suspicious, rules: []string{"git-exclude"}},
	{change: Change{Path: ".git/objects/info/alternates", New: file("/home/u/other")}, class: Suspicious, rules: []string{"git-history"}},
	{change: Change{Path: ".git/refs/replace/0123", New: file("0")}, class: Suspicious, rules: []string{"git-history"}},
	{change: Change{Path: ".git/refs/heads/shallow", New: file("0")}, class: Ordinary, rules: []string{"git-data"}},
	{change: Change{Path: ".git/refs/heads/config", New: file("0123\n")}, class: Ordinary, rules: []string{"git-data"}},
	{change: Change{Path: ".git/index", Old: file("a"), New: file("b")}, class: Ordinary, rules: []string{"git-data"}},
	{change: Change{Path: ".git/rebase-merge/git-rebase-todo", New: file("exec sh x\n")}, class: Runs, rules: []string{"git-sequence"}},
	{change: Change{Path: ".git/BISECT_RUN", New: file("x")}, class: Runs, rules: []string{"git-sequence"}},
	{change: Change{Path: "vendor/x/.git/hooks/pre-commit", New: file("x")}, class: Suspicious, rules: []string{"git-nested"}},
	{
		change: Change{Path: "vendor/x/.git/hooks/pre-commit", New: file("x")}, host: hostTree(map[string]string{"vendor/x/.git/HEAD": ""}),
		class: Runs, rules: []string{"git-hook"},
	},
	{
		change: Change{Path: "docs/x/HEAD", New: file("ref: refs/heads/main\n")},
		more:   []Change{{Path: "docs/x/objects", New: Node{Kind: Dir}}, {Path: "docs/x/refs/heads/main", New: file("0")}},
		class:  Suspicious, rules: []string{"git-nested"},
	},
	{
		change: Change{Path: "docs/x/config", New: file("[core] fsmonitor = x\n")},
		more:   []Change{{Path: "docs/x/HEAD", New: file("")}, {Path: "docs/x/objects", New: Node{Kind: Dir}}, {Path: "docs/x/refs", New: Node{Kind: Dir}}},
		class:  Suspicious, rules: []string{"git-nested"},
	},
	{change: Change{Path: "docs/config", New: file("[core] fsmonitor = x\n")}},
	{change: Change{Path: ".GIT/config", New: file("")}, class: Suspicious, rules: []string{"git-name"}},
	{change: Change{Path: "git~1/hooks/x", New: file("")}, class: Suspicious, rules: []string{"git-name"}},
	{change: Change{Path: "GIT~1", New: file("")}, class: Suspicious, rules: []string{"git-name"}},
	{change: Change{Path: ".git./config", New: file("")}, class: Suspicious, rules: []string{"git-name"}},
	{change: Change{Path: ".git /config", New: file("")}, class: Suspicious, rules: []string{"git-name"}},
	{change: Change{Path: ".git::$INDEX_ALLOCATION/config", New: file("")}, class: Suspicious, rules: []string{"git-name"}},
	{change: Change{Path: ".g\u200cit/config", New: file("")}, class: Suspicious, rules: []string{"git-name"}},
	{change: Change{Path: `.git\hooks\x`, New: file("")}, class: Suspicious, rules: []string{"git-name"}},
	{change: Change{Path: ".gitattributes", New: file("*.png binary\n")}},
	{
		change: Change{Path: "a/.gitattributes", New: file("*.c diff=d\n")}, host: hostTree(map[string]string{".git/config": "[diff \"d\"]\ntextconv = x"}),
		class: Runs, rules: []string{"git-attributes"},
	},
	{
		change: Change{Path: ".gitattributes", New: file("* filter=lfs diff=lfs merge=lfs -text\n")}, host: facts(GitFacts{Drivers: map[string]string{"filter.lfs": "git-lfs clean -- %f"}}),
		class: Builds, rules: []string{"git-attributes"},
	},
	{change: Change{Path: ".gitattributes", New: file("*.c filter=zz\n")}, class: Builds, rules: []string{"git-attributes"}},
	{change: Change{Path: ".gitattributes", New: file("*.go diff=golang\n* text=auto\n")}},
	{change: Change{Path: ".gitattributes", New: file("*.go -diff\n")}, class: Suspicious, rules: []string{"git-attributes"}},
	{change: Change{Path: ".gitattributes", Old: file("*.go -diff\n")}, class: Builds, rules: []string{"git-attributes"}},
	{change: submodule("\tpath = \"x\r\"\n"), class: Suspicious, rules: []string{"git-modules"}},
	{change: submodule("\tpath = x\r\n"), class: Suspicious, rules: []string{"git-modules"}},
	{change: submodule("\turl = -u./x\n"), class: Suspicious, rules: []string{"git-modules"}},
	{change: submodule("\turl = ext::sh\n"), class: Suspicious, rules: []string{"git-modules"}},
	{change: submodule("\tupdate = !sh\n"), class: Suspicious, rules: []string{"git-modules"}},
	{change: submodule("\tpath = a/../../b\n"), class: Suspicious, rules: []string{"git-modules"}},
	{change: submodule("\turl = https://new.host/x\n"), class: Builds, rules: []string{"git-modules"}},
	{change: Change{Path: ".gitmodules", New: Node{Kind: Symlink, Target: "x"}}, class: Suspicious, rules: []string{"git-modules"}},
	{change: Change{Path: "lib", Old: Node{Kind: Gitlink, Target: "1"}, New: Node{Kind: Gitlink, Target: "2"}}, class: Builds, rules: []string{"git-submodule"}},
	{
		change: Change{Path: ".husky/pre-commit", New: file("x")}, host: hostTree(map[string]string{".git/config": "[core]\nhooksPath = .husky/_\n"}),
		class: Runs, rules: []string{"git-hook-manager"},
	},
	{
		change: Change{Path: "tools/git/pre-commit", New: file("x")}, host: hostTree(map[string]string{".git/config": "[core]\nhooksPath = ./tools/git/\n"}),
		class: Runs, rules: []string{"git-hook-path"},
	},
	{change: Change{Path: ".husky/pre-commit", New: file("x")}, class: Builds, rules: []string{"git-hook-manager"}},
	{
		change: Change{Path: ".pre-commit-config.yaml", Old: file("repos: []"), New: file("repos: [{repo: x}]")}, host: hostTree(map[string]string{".git/hooks/pre-commit": "#!python"}),
		class: Runs, rules: []string{"git-hook-manager"},
	},
	{
		change: Change{Path: ".pre-commit-config.yaml", New: file("repos: []")}, host: hostTree(map[string]string{".git/hooks/pre-commit.sample": ""}),
		class: Builds, rules: []string{"git-hook-manager"},
	},
	{change: Change{Path: ".lfsconfig", New: file("[lfs] url = x")}, class: Builds, rules: []string{"git-lfs"}},
	{change: Change{Path: ".hg/hgrc", New: file("[hooks]")}, class: Suspicious, rules: []string{"second-vcs"}},
	{change: Change{Path: ".hg/hgrc", New: file("[hooks]")}, host: hostTree(map[string]string{".hg/store": ""}), class: Runs, rules: []string{"other-vcs"}},
	{
		change: Change{Path: ".gitignore", Old: file("a\n"), New: file("a\n/.claude/\n")}, more: []Change{{Path: ".claude/settings.json", New: file(`{"hooks":{}}`)}},
		class: Suspicious, rules: []string{"git-ignore"},
	},
	{
		change: Change{Path: "b/.gitignore", New: file("*.json\n")}, more: []Change{{Path: "b/.claude/settings.json", New: file(`{"hooks":{}}`)}},
		class: Suspicious, rules: []string{"git-ignore"},
	},
	{change: Change{Path: ".gitignore", New: file("node_modules/\n*.log\n")}, more: []Change{{Path: "src/a.go", New: file("package a\n")}}},
}

func executable(content string) Node {
	n := file(content)
	n.Mode = 0o755
	return n
}

func gitConfig(text string) Change {
	return Change{Path: ".git/config", Old: file(plainConfig), New: file(text)}
}

func submodule(text string) Change {
	return Change{Path: ".gitmodules", New: file("[submodule \"x\"]\n" + text)}
}

func TestGit(t *testing.T) { evaluate(t, gitCases) }

// Nothing of a repository's own directory comes back as a file.
func TestGitWithholds(t *testing.T) {
	for _, p := range []string{
		".git/hooks/pre-commit", ".git/config", ".git/index", ".git/refs/heads/main", "a/b/.git/objects/ab/cd", ".GIT/x", ".git", "git~1/x", ".git./config",
	} {
		for _, c := range []Change{{Path: p, New: file("")}, {Path: p, Old: file("")}, {Path: p, New: Node{Kind: Symlink, Target: "x"}}} {
			if strings.Contains(p, "~") && c.New.Kind == None {
				continue
			}
			r, err := Classify(t.Context(), Input{Changes: []Change{c}})
			if err != nil {
				t.Fatal(err)
			}
			if v := r.Verdicts[0]; !v.Withheld {
				t.Errorf("%q is not withheld", p)
			}
		}
	}
}
