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
		if !f.isGo() || f.isTest() || f.dir() == faultDir || f.dir() == "internal/cli/hint" || strings.Contains(f.path, "testdata/") {
			continue // package hint speaks of failures, and they do not happen there
		}
		for _, decl := range f.parse(t, fset).Decls {
			codes := codesIn(decl, names)
			var declared []string // of all codes in decl
			for _, code := range codes {
				used[code] = true
				declared = append(declared, args[code]...)
			}
			if len(codes) == 0 {
				continue
			}
			for key, at := range argNames(t, decl) {
				if !slices.Contains(declared, key) {
					t.Errorf("%v: the failures %v have no argument %q in the table", fset.Position(at), codes, key)
				}
			}
		}
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

// codesIn returns the codes that a declaration names.
func codesIn(decl ast.Decl, names map[string]fault.Code) (codes []fault.Code) {
	ast.Inspect(decl, func(n ast.Node) bool {
		if e, ok := n.(ast.Expr); ok {
			if code, ok := names[selected(e, "fault")]; ok {
				codes = append(codes, code)
			}
		}
		return true
	})
	return codes
}

// argNames returns the names of arguments that a declaration gives to failures, and
// where: the keys of literals, and of assignments. An alias of fault.Args may serve
// other things, too, so that its literals count in calls only.
func argNames(t *testing.T, decl ast.Decl) map[string]token.Pos {
	t.Helper()
	found := make(map[string]token.Pos)
	literal := func(e ast.Expr) {
		if l, ok := e.(*ast.CompositeLit); ok {
			for _, element := range l.Elts {
				found[text(t, element.(*ast.KeyValueExpr).Key)] = element.Pos()
			}
		}
	}
	ast.Inspect(decl, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			switch selected(n.Fun, "fault") {
			case "New":
				literal(n.Args[1])
			case "Wrap":
				literal(n.Args[2])
			}
		case *ast.CompositeLit:
			if selected(n.Type, "fault") == "Args" {
				literal(n)
			}
		case *ast.AssignStmt:
			for _, left := range n.Lhs {
				index, ok := left.(*ast.IndexExpr)
				if !ok {
					continue
				}
				if x, ok := index.X.(*ast.Ident); ok && x.Name == "args" {
					found[text(t, index.Index)] = left.Pos()
				}
			}
		}
		return true
	})
	return found
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
