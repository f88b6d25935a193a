package treetest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mayfly-vm/mayfly"

// root is the module's directory. go test runs a test in its package's.
const root = "../.."

// file is one file of the repository.
type file struct {
	path string // relative to the root, with slashes
	data []byte
}

func (f file) isGo() bool   { return strings.HasSuffix(f.path, ".go") }
func (f file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }
func (f file) dir() string  { return path.Dir(f.path) }

// parse returns the syntax of a Go file.
func (f file) parse(t *testing.T, fset *token.FileSet) *ast.File {
	t.Helper()
	syntax, err := parser.ParseFile(fset, f.path, f.data, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return syntax
}

// tree reads the repository, without what .gitignore names.
func tree(t *testing.T) []file {
	t.Helper()
	ignore := strings.Fields(string(readFile(t, ".gitignore")))
	ignored := func(p string) bool {
		return slices.ContainsFunc(ignore, func(pattern string) bool {
			if rooted, ok := strings.CutPrefix(strings.TrimSuffix(pattern, "/"), "/"); ok {
				return p == rooted
			}
			match, err := path.Match(pattern, path.Base(p))
			return match && err == nil
		})
	}
	var files []file
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if rel == ".git" || ignored(rel) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.Type().IsRegular() {
			files = append(files, file{rel, readFile(t, rel)})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("only %d files found: this is not the repository", len(files))
	}
	return files
}

func readFile(t *testing.T, rel string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(rel)))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func isText(data []byte) bool { return bytes.IndexByte(data[:min(len(data), 8<<10)], 0) < 0 }
