package review

import (
	"strings"
	"testing"
)

// program is an executable file with this content.
func program(content string) Node {
	n := file(content)
	n.Mode = 0o755
	return n
}

func link(target string) Node { return Node{Kind: Symlink, Target: target} }

var linkCases = []evalCase{
	{change: Change{Path: "a.txt", Old: file("x\n"), New: program("x\n")}, class: Suspicious, rules: []string{"becomes-executable"}},
	{change: Change{Path: "a.txt", New: program("x\n")}, class: Suspicious, rules: []string{"becomes-executable"}},
	{change: Change{Path: "a.txt", New: Node{Kind: Regular, Mode: 0o755, Size: 2}}, class: Suspicious, rules: []string{"becomes-executable"}},
	{change: Change{Path: "run", New: program("#!/bin/sh\n")}, class: Builds, rules: []string{"becomes-executable"}},
	{change: Change{Path: "run", Old: file("#!/bin/sh\n"), New: program("#!/bin/sh\n")}, class: Builds, rules: []string{"becomes-executable"}},
	{change: Change{Path: "a.txt", Old: program("y\n"), New: program("x\n")}},
	{change: Change{Path: "a.txt", Old: program("y\n"), New: file("y\n")}},
	{change: Change{Path: "a", New: Node{Kind: Regular, Mode: 0o4755, Size: 0, Open: file("").Open}}, class: Suspicious, rules: []string{"special-mode"}},
	{change: Change{Path: "d", New: Node{Kind: Dir, Mode: 0o2755}}},

	{change: Change{Path: "bin/x", New: program("\x7fELF\x02\x01\x01\x00")}, class: Suspicious, rules: []string{"binary"}},
	{change: Change{Path: "x", New: file("MZ\x90\x00\x03")}, class: Suspicious, rules: []string{"binary"}},
	{change: Change{Path: "lib/a.jar", New: file("PK\x03\x04\x00\x00")}, class: Suspicious, rules: []string{"binary"}},
	{change: Change{Path: "lib/a.so.1", New: file("\x7fELF\x00")}, class: Suspicious, rules: []string{"binary"}},
	{change: Change{Path: "a.zip", New: file("PK\x03\x04\x00\x00")}, class: Suspicious, rules: []string{"binary"}},
	{change: Change{Path: "a.txt", Old: file("text\n"), New: file("te\x00xt\n")}, class: Suspicious, rules: []string{"binary"}},
	{change: Change{Path: "a.png", New: file("\x89PNG\r\n\x1a\n\x00\x00")}},
	{change: Change{Path: "testdata/a.zip", New: file("PK\x03\x04\x00\x00")}},
	{change: Change{Path: "a.docx", New: file("PK\x03\x04\x00\x00")}},
	{change: Change{Path: "a.bin", Old: file("version https://git-lfs.github.com/spec/v1\n"), New: file("\x00\x01")}},
	{change: Change{Path: "MZ.txt", New: file("MZ is a magic number\n")}},

	{change: Change{Path: "a", New: link("/etc/passwd")}, class: Suspicious, rules: []string{"leaves-workspace"}},
	{change: Change{Path: "b", New: link("../../x")}, class: Suspicious, rules: []string{"leaves-workspace"}},
	{change: Change{Path: "d/b", New: link("../../x")}, class: Suspicious, rules: []string{"leaves-workspace"}},
	{change: Change{Path: "a", New: link("/proc/self/root")}, class: Suspicious, rules: []string{"leaves-workspace"}},
	{change: Change{Path: "a", New: link("~/.ssh")}, class: Suspicious, rules: []string{"leaves-workspace"}},
	{change: Change{Path: "a", New: link(`C:\Windows`)}, class: Suspicious, rules: []string{"leaves-workspace"}},
	{change: Change{Path: "a", New: link(`d\..\..\x`)}, class: Suspicious, rules: []string{"leaves-workspace"}},
	{
		change: Change{Path: "sub/e", New: link("../d/../x")}, more: []Change{{Path: "d", New: link(".")}},
		class: Suspicious, rules: []string{"leaves-workspace"},
	},
	{change: Change{Path: "a", New: link("b")}, more: []Change{{Path: "b", New: link("a")}}, class: Suspicious, rules: []string{"leaves-workspace"}},
	{change: Change{Path: "c", New: link(".git/config")}, class: Suspicious, rules: []string{"link-to-trusted"}},
	{change: Change{Path: "c", New: link(".GIT")}, class: Suspicious, rules: []string{"link-to-trusted"}},
	{change: Change{Path: "sub/c", New: link("../.git/hooks/pre-commit")}, class: Suspicious, rules: []string{"link-to-trusted"}},
	{change: Change{Path: ".vscode", New: link("src")}, class: Suspicious, rules: []string{"trusted-directory-link"}},
	{change: Change{Path: "c", New: link(".vscode/tasks.json")}, class: Suspicious, rules: []string{"link-to-trusted"}},
	{change: Change{Path: ".git", New: link("src")}, class: Suspicious, rules: []string{"trusted-directory-link"}},
	{change: Change{Path: "a", Old: file("x\n"), New: link("b")}, class: Suspicious, rules: []string{"link-replaces"}},
	{change: Change{Path: "a", Old: Node{Kind: Dir, Mode: 0o755}, New: link("b")}, class: Suspicious, rules: []string{"link-replaces"}},
	{change: Change{Path: "d", New: link("e")}},
	{change: Change{Path: "d/d", New: link("../e/./f")}},
	{change: Change{Path: ".venv/bin/python", New: link("/usr/bin/python3")}, class: Builds, rules: []string{"generated"}},

	{change: Change{Path: "conf", Old: file("x\n"), New: Node{Kind: Dir, Mode: 0o755}}, class: Suspicious, rules: []string{"kind-swap"}},
	{change: Change{Path: "conf", Old: Node{Kind: Dir, Mode: 0o755}, New: file("x\n")}, class: Suspicious, rules: []string{"kind-swap"}},
	{change: Change{Path: "web/node_modules/x/index.js", New: file("x\n")}, class: Builds, rules: []string{"generated"}},
	{change: Change{Path: "target/debug/x", Ignored: true, New: program("\x7fELF\x00")}, class: Builds, rules: []string{"generated"}},
	{change: Change{Path: "internal/build/x.go", New: file("package build\n")}},
	{change: Change{Path: "src/__pycache__/a.cpython-312.pyc", New: file("\x00")}, class: Builds, rules: []string{"generated"}},
	{change: Change{Path: "a.mp4", New: Node{Kind: Regular, Mode: 0o644, Size: 60 << 20}}, class: Suspicious, rules: []string{"large"}},
}

func TestLinks(t *testing.T) { evaluate(t, linkCases) }

// TestReasons checks what the table promises of its rows.
func TestReasons(t *testing.T) {
	for _, r := range table {
		if n := len(strings.Fields(r.reason)); n == 0 || n > 12 {
			t.Errorf("rule %s: reason of %d words; want 1 to 12", r.id, n)
		}
		for _, p := range r.paths {
			if p != fold(p) {
				t.Errorf("rule %s: pattern %q is not folded; want %q", r.id, p, fold(p))
			}
		}
	}
}
