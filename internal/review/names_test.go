package review

import "testing"

// beside is a host with these names in the workspace's root.
func beside(names ...string) Host {
	return Host{Names: func(dir string) []string {
		if dir == "." {
			return names
		}
		return nil
	}}
}

var nameCases = []evalCase{
	{change: Change{Path: "a\nb", New: file("x\n")}, class: Suspicious, rules: []string{"name-control"}},
	{change: Change{Path: "a\x1b[2K", New: file("x\n")}, class: Suspicious, rules: []string{"name-control"}},
	{change: Change{Path: "a\xff", New: file("x\n")}, class: Suspicious, rules: []string{"name-control"}},
	{change: Change{Path: "a\u009bb", New: file("x\n")}, class: Suspicious, rules: []string{"name-control"}},
	{change: Change{Path: "d\x7f/a", New: file("x\n")}, class: Suspicious, rules: []string{"name-control"}},
	{change: Change{Path: "a\x7f", Old: file("y\n"), New: file("x\n")}}, // was there
	{change: Change{Path: "a\x7f", Old: file("y\n")}},

	{change: Change{Path: "fdp.\u202egpj", New: file("x\n")}, class: Suspicious, rules: []string{"name-invisible"}},
	{change: Change{Path: "a\u200bb.go", New: file("x\n")}, class: Suspicious, rules: []string{"name-invisible"}},
	{change: Change{Path: "a\U000e0041.go", New: file("x\n")}, class: Suspicious, rules: []string{"name-invisible"}},
	{change: Change{Path: "a\ufe00.go", New: file("x\n")}, class: Suspicious, rules: []string{"name-invisible"}},
	{change: Change{Path: "\u3164.js", New: file("x\n")}, class: Suspicious, rules: []string{"name-invisible"}},
	{change: Change{Path: "\u2800", New: file("x\n")}, class: Suspicious, rules: []string{"name-invisible"}},
	{change: Change{Path: "👩\u200d💻.md", New: file("x\n")}},
	{change: Change{Path: "❤\ufe0f.md", New: file("x\n")}},
	{change: Change{Path: "می\u200cخواهم.txt", New: file("x\n")}},
	{change: Change{Path: "مرحبا.txt", New: file("x\n")}},
	{change: Change{Path: "説明.md", New: file("x\n")}},

	{change: Change{Path: "readme.md", New: file("x\n")}, host: beside("README.md"), class: Suspicious, rules: []string{"name-look-alike"}},
	{change: Change{Path: "mаin.go", New: file("x\n")}, host: beside("main.go"), class: Suspicious, rules: []string{"name-look-alike"}},
	{change: Change{Path: "main.go.", New: file("x\n")}, host: beside("main.go"), class: Suspicious, rules: []string{"name-look-alike"}},
	{change: Change{Path: "main.go ", New: file("x\n")}, host: beside("main.go"), class: Suspicious, rules: []string{"name-look-alike"}},
	{change: Change{Path: "cafe\u0301.md", New: file("x\n")}, host: beside("caf\u00e9.md"), class: Suspicious, rules: []string{"name-look-alike"}},
	{change: Change{Path: "Src/a.go", New: file("x\n")}, host: beside("src"), class: Suspicious, rules: []string{"name-look-alike"}},
	{
		change: Change{Path: "d/mаin.go", New: file("x\n")}, more: []Change{{Path: "d/main.go", New: file("x\n")}},
		class: Suspicious, rules: []string{"name-look-alike"},
	},
	{change: Change{Path: "client.go", New: file("x\n")}, host: beside("cIient.go"), class: Suspicious, rules: []string{"name-look-alike"}},
	{change: Change{Path: "modem.c", New: file("x\n")}, host: beside("modern.c"), class: Suspicious, rules: []string{"name-look-alike"}},
	{change: Change{Path: "ｍain.go", New: file("x\n")}, host: beside("main.go"), class: Suspicious, rules: []string{"name-look-alike"}},
	{change: Change{Path: "readme.md", New: file("x\n")}, more: []Change{{Path: "README.md", Old: file("x\n")}}, host: beside("README.md")},
	{change: Change{Path: "readme.md", From: "README.md", New: file("x\n")}, host: beside("README.md")},
	{change: Change{Path: "resume.md", New: file("x\n")}, host: beside("résumé.md")},
	{change: Change{Path: "l.json", New: file("{}\n")}, host: beside("1.json")},
	{change: Change{Path: "b.go", New: file("x\n")}, host: beside("a.go", "c.go")},

	{change: Change{Path: "-rf", From: "a", Old: file("x\n"), New: file("x\n")}, class: Suspicious, rules: []string{"name-command"}},
	{change: Change{Path: "-rf", New: file("x\n")}, class: Suspicious, rules: []string{"name-command"}},
	{change: Change{Path: "--checkpoint-action=exec=sh x", New: file("x\n")}, class: Suspicious, rules: []string{"name-command"}},
	{change: Change{Path: "d/-n/x", New: file("x\n")}, class: Suspicious, rules: []string{"name-command"}},
	{change: Change{Path: "a$(id).go", New: file("x\n")}, class: Suspicious, rules: []string{"name-command"}},
	{change: Change{Path: "a`id`", New: file("x\n")}, class: Suspicious, rules: []string{"name-command"}},
	{change: Change{Path: "a;id", New: file("x\n")}, class: Suspicious, rules: []string{"name-command"}},
	{change: Change{Path: " a", New: file("x\n")}, class: Suspicious, rules: []string{"name-command"}},
	{change: Change{Path: "a ", New: file("x\n")}, class: Suspicious, rules: []string{"name-command"}},
	{change: Change{Path: "CON", New: file("x\n")}, class: Suspicious, rules: []string{"name-command"}},
	{change: Change{Path: "nul.txt", New: file("x\n")}, class: Suspicious, rules: []string{"name-command"}},
	{change: Change{Path: "a:b", New: file("x\n")}, class: Suspicious, rules: []string{"name-command"}},
	{change: Change{Path: "~/x", New: file("x\n")}, class: Suspicious, rules: []string{"name-command"}},
	{change: Change{Path: "[slug].tsx", New: file("x\n")}},
	{change: Change{Path: "app/(group)/$id.tsx", New: file("x\n")}},
	{change: Change{Path: "a*?'\".txt", New: file("x\n")}},
	{change: Change{Path: "R&D/a.go", New: file("x\n")}, host: beside("R&D")},
	{change: Change{Path: "a b.txt", New: file("x\n")}},

	{change: Change{Path: "git", New: program("#!/bin/sh\n")}, class: Suspicious, rules: []string{"name-program"}},
	{change: Change{Path: "python3.12", New: program("#!/bin/sh\n")}, class: Suspicious, rules: []string{"name-program"}},
	{change: Change{Path: "node", New: Node{Kind: Symlink, Target: "src/n"}}, class: Suspicious, rules: []string{"name-program"}},
	{change: Change{Path: "git.bat", New: file("x\n")}, class: Suspicious, rules: []string{"name-program"}},
	{change: Change{Path: "sub/setup.exe", New: file("x\n")}, class: Suspicious, rules: []string{"name-program"}},
	{change: Change{Path: "sites/host.example.com", New: file("x\n")}},
	{change: Change{Path: "git.com", New: file("x\n")}, class: Suspicious, rules: []string{"name-program"}},
	{change: Change{Path: "node", New: Node{Kind: Dir, Mode: 0o755}}},
	{change: Change{Path: "make", New: file("notes\n")}},
	{change: Change{Path: "random.py", New: file("x=1\n")}, class: Suspicious, rules: []string{"name-module"}},
	{
		change: Change{Path: "tool/json.py", New: file("x=1\n")}, more: []Change{{Path: "tool/main.py", New: file("x=1\n")}},
		class: Suspicious, rules: []string{"name-module"},
	},
	{change: Change{Path: "pkg/types.py", New: file("x=1\n")}, more: []Change{{Path: "pkg/__init__.py", New: file("")}}},
}

func TestNames(t *testing.T) { evaluate(t, nameCases) }
