package treetest

import (
	"go/ast"
	"go/token"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/engine"
)

const engineDir = "internal/engine"

// The table of events is that of the source: each code happens somewhere, and is told
// with the arguments that are declared.
func TestEvents(t *testing.T) {
	fset := token.NewFileSet()
	tellers := map[string]engine.Kind{"note": engine.Note, "detail": engine.Detail, "step": engine.Step, "progress": engine.Progress, "phase": engine.Phase}
	args := make(map[string][]string)
	for _, e := range engine.EventCodes() {
		args[string(e.Kind)+" "+e.Code] = e.Args
	}
	constants := eventConstants(t, fset)
	used := make(map[string]bool)
	for _, f := range tree(t) {
		if f.dir() != engineDir && f.dir() != "." || !f.isGo() || f.isTest() {
			continue
		}
		ast.Inspect(f.parse(t, fset), func(n ast.Node) bool {
			if name := selectedFrom(n, "engine"); name != "" {
				used[name] = true
			}
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || f.dir() != engineDir || tellers[sel.Sel.Name] == "" || len(call.Args) == 0 {
				return true
			}
			name, ok := call.Args[0].(*ast.Ident)
			if !ok || constants[name.Name] == "" {
				return true
			}
			used[name.Name] = true
			key := string(tellers[sel.Sel.Name]) + " " + constants[name.Name]
			declared, ok := args[key]
			if !ok {
				t.Errorf("%v: the table has no %s", fset.Position(call.Pos()), key)
			}
			if len(call.Args) == 2 {
				for _, arg := range keys(t, call.Args[1]) {
					if !slices.Contains(declared, arg) {
						t.Errorf("%v: %s has no argument %q in the table", fset.Position(call.Pos()), key, arg)
					}
				}
			}
			return true
		})
	}
	for name := range constants {
		if !used[name] {
			t.Errorf("engine.%s happens nowhere", name)
		}
	}
}

// The command line has words for each code, and for no others. An event with a text needs
// none.
func TestEventsHaveWords(t *testing.T) {
	fset := token.NewFileSet()
	var want, may []string
	for _, e := range engine.EventCodes() {
		switch {
		case e.Kind == engine.Phase: // is called by its code
		case slices.Contains(e.Args, "text"):
			may = append(may, e.Code)
		default:
			want = append(want, e.Code)
		}
	}
	slices.Sort(want)
	words := make(map[string]bool)
	for _, f := range tree(t) {
		if f.path != "internal/cli/words/events.go" {
			continue
		}
		ast.Inspect(f.parse(t, fset), func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && spec.Names[0].Name == "events" {
				for _, key := range keys(t, spec.Values[0]) {
					words[key] = true
				}
			}
			return true
		})
	}
	for _, code := range may {
		delete(words, code)
	}
	if d := cmp.Diff(want, slices.Sorted(maps.Keys(words))); d != "" {
		t.Errorf("internal/cli/words/events.go: the words differ from the table of events (-table +words):\n%s", d)
	}
}

// eventConstants returns the codes in the engine's table, by the names of their constants.
func eventConstants(t *testing.T, fset *token.FileSet) map[string]string {
	t.Helper()
	names := make(map[string]string)
	for _, f := range tree(t) {
		if f.path != engineDir+"/eventcode.go" {
			continue
		}
		ast.Inspect(f.parse(t, fset), func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok {
				names[spec.Names[0].Name] = text(t, spec.Values[0])
			}
			return true
		})
	}
	if len(names) == 0 {
		t.Fatal("no codes found")
	}
	return names
}

// selectedFrom is selected, for any node.
func selectedFrom(n ast.Node, pkg string) string {
	e, ok := n.(ast.Expr)
	if !ok {
		return ""
	}
	return selected(e, pkg)
}

// keys returns those of a literal of a map, by their names.
func keys(t *testing.T, e ast.Expr) []string {
	t.Helper()
	literal, ok := e.(*ast.CompositeLit)
	if !ok {
		return nil
	}
	var all []string
	for _, element := range literal.Elts {
		all = append(all, text(t, element.(*ast.KeyValueExpr).Key))
	}
	return all
}
