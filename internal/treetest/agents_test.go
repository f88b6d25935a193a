package treetest

import (
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
)

// The table of package codingagent is the only place that knows coding agents: no
// other Go file has a word of theirs in a string, but for examples in the help. Tests
// say what they expect of the table.
func TestAgentsAreOneTable(t *testing.T) {
	const table = "internal/codingagent"
	known := agentWords(t)
	fset := token.NewFileSet()
	found := 0
	for _, f := range tree(t) {
		if !f.isGo() || f.isTest() || strings.Contains(f.path, "testdata/") || strings.HasPrefix(f.path, "internal/test/") {
			continue
		}
		ast.Inspect(f.parse(t, fset), func(n ast.Node) bool {
			if kv, ok := n.(*ast.KeyValueExpr); ok {
				if key, ok := kv.Key.(*ast.Ident); ok && key.Name == "Example" {
					return false
				}
			}
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			for word := range strings.FieldsFuncSeq(text, betweenAgentWords) {
				agent := known[word]
				switch {
				case agent == "":
				case f.dir() == "internal/skill" && word == "claude": // the format of skills reserves it
				case f.dir() == "internal/review": // what agents obey, also those that mayfly does not start
				case f.dir() == table:
					found++
				default:
					t.Errorf("%s: %q knows %s; it belongs to the table in %s", fset.Position(lit.Pos()), word, agent, table)
				}
			}
			return true
		})
	}
	if found < len(known) {
		t.Errorf("only %d of %d words found in %s itself", found, len(known), table)
	}
}

// betweenAgentWords reports whether a rune parts the words of a text. A path, a flag and
// a package of npm are one word each.
func betweenAgentWords(r rune) bool { return strings.ContainsRune(" \t\n,;:'\"`()|={}@", r) }

// agentWords returns the words by which agents are known, each with its agent: names,
// packages, flags, variables and directories.
func agentWords(t *testing.T) map[string]string {
	t.Helper()
	known := make(map[string]string)
	for _, a := range codingagent.Agents() {
		spec, err := codingagent.Launch(a.Name, codingagent.Place{Dir: "/work", Home: "/home/dev"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		npm, _, _ := strings.Cut(strings.TrimPrefix(a.Package, "@"), "@")
		words := slices.Concat([]string{a.Name, npm, a.Skills.Project}, a.Nix, spec.Argv)
		for _, kv := range spec.Env {
			name, _, _ := strings.Cut(kv, "=")
			if !strings.HasPrefix(name, "XDG_") {
				words = append(words, name)
			}
		}
		for _, w := range words {
			if w != "" {
				known[w] = a.Name
			}
		}
	}
	return known
}

// README.md and llms.txt name each agent.
func TestAgentsAreDocumented(t *testing.T) {
	for _, doc := range []string{"README.md", "llms.txt"} {
		text := string(readFile(t, doc))
		for _, name := range codingagent.Names() {
			if !strings.Contains(text, "`"+name+"`") {
				t.Errorf("%s does not name %s", doc, name)
			}
		}
	}
}
