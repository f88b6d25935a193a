package treetest

import (
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

const faultDir = "internal/fault"

// The table of failures is that of the source: each constant has a row, each row
// a place where the failure happens, and what is passed with it is declared.
func TestFaults(t *testing.T) {
	fset := token.NewFileSet()
	names := codeNames(t, fset)
	args := make(map[fault.Code][]string)
	for _, k := range fault.Kinds() {
		args[k.Code] = k.Args
	}
	for name, code := range names {
		if _, ok := args[code]; !ok {
			t.Errorf("fault.%s, %q, has no row in the table", name, code)
		}
	}
	used := make(map[fault.Code]bool)
	for _, f := range tree(t) {
		if !f.isGo() || f.isTest() || f.dir() == faultDir || strings.Contains(f.path, "testdata/") {
			continue
		}
		ast.Inspect(f.parse(t, fset), func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			code, literal := faultCall(call)
			if code == nil {
				return true
			}
			kind, ok := names[selected(code, "fault")]
			if !ok {
				return true // a variable, which gets its code from a constant that counts below
			}
			for _, key := range keys(t, literal) {
				if !slices.Contains(args[kind], key) {
					t.Errorf("%v: the failure %s has no argument %q in the table", fset.Position(call.Pos()), kind, key)
				}
			}
			return true
		})
		if f.dir() == "internal/hint" {
			continue // it speaks of them, and they do not happen there
		}
		ast.Inspect(f.parse(t, fset), func(n ast.Node) bool {
			if e, ok := n.(ast.Expr); ok {
				if code, ok := names[selected(e, "fault")]; ok {
					used[code] = true
				}
			}
			return true
		})
	}
	for code := range args {
		if !used[code] {
			t.Errorf("the failure %s is in the table, and happens nowhere", code)
		}
	}
}

// codeNames returns the constants of the package fault that are codes, by name.
func codeNames(t *testing.T, fset *token.FileSet) map[string]fault.Code {
	t.Helper()
	names := make(map[string]fault.Code)
	for _, f := range tree(t) {
		if f.dir() != faultDir || !f.isGo() || f.isTest() {
			continue
		}
		for _, decl := range f.parse(t, fset).Decls {
			constants, ok := decl.(*ast.GenDecl)
			if !ok || constants.Tok != token.CONST {
				continue
			}
			for _, spec := range constants.Specs {
				value := spec.(*ast.ValueSpec)
				if of, ok := value.Type.(*ast.Ident); !ok || of.Name != "Code" {
					continue
				}
				for i, name := range value.Names {
					names[name.Name] = fault.Code(text(t, value.Values[i]))
				}
			}
		}
	}
	if len(names) == 0 {
		t.Fatal("no codes found")
	}
	return names
}

// faultCall returns the code and the arguments of a call that makes a failure.
func faultCall(call *ast.CallExpr) (code, args ast.Expr) {
	switch selected(call.Fun, "fault") {
	case "New":
		return call.Args[0], call.Args[1]
	case "Wrap":
		return call.Args[1], call.Args[2]
	}
	return nil, nil
}

// selected returns the name that e takes from the package pkg, or "".
func selected(e ast.Expr, pkg string) string {
	if sel, ok := e.(*ast.SelectorExpr); ok {
		if x, ok := sel.X.(*ast.Ident); ok && x.Name == pkg {
			return sel.Sel.Name
		}
	}
	return ""
}

// keys returns those of a literal of a map.
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

// text returns the value of a string literal.
func text(t *testing.T, e ast.Expr) string {
	t.Helper()
	literal, ok := e.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		t.Fatalf("%T is no literal string", e)
	}
	value, err := strconv.Unquote(literal.Value)
	if err != nil {
		t.Fatal(err)
	}
	return value
}
