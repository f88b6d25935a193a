package review

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/review/settings"
)

// referenceRules are about ordinary files that something on the host runs: a hook or a
// setting that nobody touched makes a program of any file that it names.
var referenceRules = []rule{
	{
		id: "referenced", class: Runs,
		reason: "what already runs by itself on your computer names this file",
		when: func(s *subject) []Finding {
			if kind := s.change.New.Kind; kind != Regular && kind != Symlink {
				return nil
			}
			r, ok := s.set.references()[s.folded]
			if !ok || s.folded == fold(r.caller) {
				return nil
			}
			if r.class == Builds {
				return []Finding{{Class: Builds, Reason: "your build or task names this file and may run it", Detail: bounded(r.caller)}}
			}
			return []Finding{{Detail: bounded(r.caller)}}
		},
	},
}

// reference is who names a file.
type reference struct {
	caller string
	class  Class
}

// caller is a kind of file on the host that names others.
type caller struct {
	path  string // or "DIR/" for all files of a directory
	class Class
	text  func(data []byte) []byte // what of it counts; nil for all
}

var callers = []caller{
	{".git/hooks/", Runs, nil},
	{".husky/", Runs, nil},
	{".envrc", Runs, nil},
	{".claude/settings.json", Runs, values("permissions")},
	{".claude/settings.local.json", Runs, values("permissions")},
	{".mcp.json", Runs, values()},
	{".cursor/mcp.json", Runs, values()},
	{".cursor/hooks.json", Runs, values()},
	{".vscode/mcp.json", Runs, values()},
	{".gemini/settings.json", Runs, values()},
	{"opencode.json", Runs, values()},
	{".pre-commit-config.yaml", Runs, nil},
	{"lefthook.yml", Runs, nil},
	{".vscode/tasks.json", Builds, values()},
	{"package.json", Builds, scriptsOf},
	{"Makefile", Builds, recipes},
	{"makefile", Builds, recipes},
	{"GNUmakefile", Builds, recipes},
	{"justfile", Builds, recipes},
	{"Justfile", Builds, recipes},
	{"Taskfile.yml", Builds, nil},
	{".github/workflows/", Builds, nil},
	{".gitlab-ci.yml", Builds, nil},
}

// Bounds of what is read of the host's files.
const (
	mostCallers    = 100
	mostCallerSize = 256 << 10
	mostReferences = 20_000
)

// references returns which files the host's own files name, by folded path. Where two
// name one, the gravest counts.
func (t *set) references() map[string]reference {
	if t.named != nil {
		return t.named
	}
	t.named = map[string]reference{}
	if t.in.Host.Read == nil || t.in.Host.Names == nil {
		return t.named
	}
	all := callers
	if dir := t.git().HooksPath; dir != "" {
		all = append([]caller{{dir + "/", Runs, nil}}, callers...)
	}
	left := mostCallers
	for _, c := range all {
		paths := []string{c.path}
		if dir, ok := strings.CutSuffix(c.path, "/"); ok {
			paths = nil
			for _, name := range t.dir(dir).host {
				if !strings.HasSuffix(name, ".sample") {
					paths = append(paths, path.Join(dir, name))
				}
			}
		} else if !slices.Contains(t.dir(path.Dir(c.path)).host, path.Base(c.path)) {
			continue
		}
		for _, p := range paths {
			if left--; left < 0 {
				return t.named
			}
			data, err := t.in.Host.Read(p, mostCallerSize)
			if err != nil {
				continue
			}
			class := c.class
			if c.path == ".vscode/tasks.json" && bytes.Contains(bytes.ToLower(data), []byte("folderopen")) {
				class = Runs
			}
			if c.text != nil {
				data = c.text(data)
			}
			t.refer(p, class, data)
		}
	}
	return t.named
}

// refer notes the words of a text that can be paths.
func (t *set) refer(caller string, class Class, text []byte) {
	for word := range bytes.FieldsFuncSeq(text, betweenPaths) {
		if len(t.named) >= mostReferences {
			return
		}
		w := string(word)
		for _, variable := range []string{"CLAUDE_PROJECT_DIR/", "workspaceFolder/", "PWD/", "GITHUB_WORKSPACE/", "INIT_CWD/", "workspaceRoot/", "CURSOR_PROJECT_DIR/"} {
			w = strings.TrimPrefix(w, variable)
		}
		w = path.Clean(strings.TrimLeft(w, "/"))
		if !inTree(w) || !strings.ContainsAny(w, "/.") && t.find(w) == nil || strings.HasPrefix(w, ".git/") {
			continue
		}
		switch strings.ToLower(path.Ext(w)) {
		case ".md", ".txt", ".rst", ".adoc":
			continue
		}
		key := fold(w)
		if t.named[key].class < class {
			t.named[key] = reference{caller, class}
		}
	}
}

// betweenPaths reports whether a letter ends a path in a script or a setting.
func betweenPaths(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r >= 0x80:
		return false
	}
	return !strings.ContainsRune("_./-@+~", r)
}

// values returns the values of a file of JSON without those of some keys; all of it where
// it cannot be read.
func values(without ...string) func([]byte) []byte {
	return func(data []byte) []byte {
		return taken(data, func(e settings.Entry) bool { return !slices.Contains(without, e.Path[0]) })
	}
}

func scriptsOf(data []byte) []byte {
	return taken(data, func(e settings.Entry) bool { return e.Path[0] == "scripts" })
}

func taken(data []byte, counts func(settings.Entry) bool) []byte {
	file, err := settings.Parse(settings.JSON, data)
	if err != nil {
		return data
	}
	var b bytes.Buffer
	for _, e := range file.Entries() {
		if len(e.Path) > 0 && counts(e) {
			b.WriteString(e.Value)
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// recipes returns the indented lines of a file of make's or just's.
func recipes(data []byte) []byte {
	var b bytes.Buffer
	for line := range bytes.Lines(data) {
		if line[0] == '\t' || line[0] == ' ' {
			b.Write(line)
		}
	}
	return b.Bytes()
}
