package treetest

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/token"
	"maps"
	"strings"
	"testing"
)

// A longer file is two files.
const maxLines = 500

func TestGoFiles(t *testing.T) {
	for _, f := range tree(t) {
		if !f.isGo() {
			continue
		}
		if lines := bytes.Count(f.data, []byte("\n")); lines > maxLines && !f.isTest() {
			t.Errorf("%s has %d lines; want at most %d", f.path, lines, maxLines)
		}
		formatted, err := format.Source(f.data)
		if err != nil {
			t.Errorf("%s: %v", f.path, err)
		} else if !bytes.Equal(formatted, f.data) {
			t.Errorf("%s: not as gofmt writes it", f.path)
		}
	}
}

// Every package says once what it is, what flows in and out, and what it does
// not do.
func TestPackageComments(t *testing.T) {
	comments := make(map[string][]string) // directory → files with a package comment
	fset := token.NewFileSet()
	for _, f := range tree(t) {
		if !f.isGo() || f.isTest() || strings.Contains(f.path, "testdata/") {
			continue
		}
		syntax := f.parse(t, fset)
		if _, ok := comments[f.dir()]; !ok {
			comments[f.dir()] = nil
		}
		if syntax.Doc == nil {
			continue
		}
		comments[f.dir()] = append(comments[f.dir()], f.path)
		name := syntax.Name.Name
		start := "Package " + name + " "
		if name == "main" {
			start = "Command " + f.dir()[strings.LastIndexByte(f.dir(), '/')+1:] + " "
		}
		if text := syntax.Doc.Text(); !strings.HasPrefix(text, start) {
			t.Errorf("%s: the package comment begins %.40q; want %q", f.path, text, start)
		}
	}
	for dir, files := range comments {
		if len(files) != 1 {
			t.Errorf("%s has %d package comments (%s); want 1", dir, len(files), strings.Join(files, ", "))
		}
	}
}

// forbidden are calls that reach beyond the caller: what they change or end is
// the whole process. main may end it.
var forbidden = map[string]string{
	"os.Exit":     "return an error; main exits",
	"log.Fatal":   "return an error; main exits",
	"log.Fatalf":  "return an error; main exits",
	"log.Fatalln": "return an error; main exits",
	"os.Chdir":    "use absolute paths or os.Root",
	"os.Setenv":   "give a child its own environment",
	"os.Unsetenv": "give a child its own environment",
}

// exempt are the calls that a package may make all the same.
var exempt = map[string]string{
	"internal/guest/agent": "os.Chdir", // it is PID 1, and moves to its new root
	"internal/test/script": "os.Exit",  // its test binaries are mayfly
}

func TestNoProcessWideEffects(t *testing.T) {
	fset := token.NewFileSet()
	unused := maps.Clone(exempt)
	for _, f := range tree(t) {
		if !f.isGo() || f.isTest() || strings.HasPrefix(f.path, "cmd/") || strings.HasPrefix(f.path, "examples/") || strings.Contains(f.path, "testdata/") {
			continue
		}
		ast.Inspect(f.parse(t, fset), func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil && n.Name.Name == "init" {
					t.Errorf("%v: an init function; make the value where it is used", fset.Position(n.Pos()))
				}
			case *ast.SelectorExpr:
				if pkg, ok := n.X.(*ast.Ident); ok {
					call := pkg.Name + "." + n.Sel.Name
					if why, ok := forbidden[call]; ok && exempt[f.dir()] != call {
						t.Errorf("%v: %s: %s", fset.Position(n.Pos()), call, why)
					} else if ok {
						delete(unused, f.dir())
					}
				}
			}
			return true
		})
	}
	for dir, call := range unused {
		t.Errorf("%s does not call %s; take it out of exempt", dir, call)
	}
}
