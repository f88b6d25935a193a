package treetest

import (
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// documents returns the repository's Markdown files, and llms.txt, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	docs := make(map[string]string)
	for _, f := range tree(t) {
		if (strings.HasSuffix(f.path, ".md") || f.path == "llms.txt") && !strings.Contains(f.path, "testdata/") {
			docs[f.path] = string(f.data)
		}
	}
	if len(docs) < 5 {
		t.Fatalf("only %d documents found", len(docs))
	}
	return docs
}

// there reports whether the repository has a file or directory of that path.
func there(name string) bool {
	_, err := os.Stat(filepath.Join(root, filepath.FromSlash(name)))
	return err == nil
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestLinks(t *testing.T) {
	for name, text := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || target == "" {
				continue
			}
			if resolved := path.Join(path.Dir(name), target); path.IsAbs(target) || !there(resolved) {
				t.Errorf("%s: a link to %s, which does not exist", name, m[1])
			}
		}
	}
}

// testNames returns the test functions and subtests of each directory with Go
// files: "TestX" and `"name of a subtest"`, with the quotes.
func testNames(t *testing.T) map[string]map[string]bool {
	t.Helper()
	fset := token.NewFileSet()
	names := make(map[string]map[string]bool)
	for _, f := range tree(t) {
		if !f.isGo() || !f.isTest() {
			continue
		}
		if names[f.dir()] == nil {
			names[f.dir()] = make(map[string]bool)
		}
		ast.Inspect(f.parse(t, fset), func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil {
					names[f.dir()][n.Name.Name] = true
				}
			case *ast.CallExpr:
				if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Run" && len(n.Args) == 2 {
					if lit, ok := n.Args[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
						names[f.dir()][lit.Value] = true
					}
				}
			}
			return true
		})
	}
	return names
}

// A test is named in the documents as `internal/plan.TestGolden`, with words in
// parentheses behind it: VM, and its subtests in quotes.
var (
	testRef  = regexp.MustCompile("`((?:internal|cmd)/[a-z0-9/-]+|test)\\.((?:Test|Fuzz|Benchmark)\\w+)`(?:\\s+\\(([^)]*)\\))?")
	quoted   = regexp.MustCompile(`"[^"]+"`)
	fileRef  = regexp.MustCompile("`((?:internal|cmd|docs|scripts|test)/[A-Za-z0-9_/.-]+\\.(?:go|txtar|md|sh|json|txt|S))`")
	benchRef = regexp.MustCompile("row\\s+`([^`]+)`")
)

func TestNamedTestsExist(t *testing.T) {
	names := testNames(t)
	found := 0
	for doc, text := range documents(t) {
		for _, m := range testRef.FindAllStringSubmatch(text, -1) {
			found++
			dir, name := m[1], m[2]
			if !names[dir][name] {
				t.Errorf("%s: there is no %s in %s", doc, name, dir)
			}
			for _, sub := range quoted.FindAllString(m[3], -1) {
				if !names[dir][sub] {
					t.Errorf("%s: %s.%s has no subtest %s", doc, dir, name, sub)
				}
			}
		}
		for _, m := range fileRef.FindAllStringSubmatch(text, -1) {
			if !there(m[1]) {
				t.Errorf("%s: there is no file %s", doc, m[1])
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d names of tests found", found)
	}
}

// Rows of the benchmarks are literals.
func TestNamedBenchmarkRowsExist(t *testing.T) {
	rows := make(map[string]bool)
	fset := token.NewFileSet()
	for _, f := range tree(t) {
		if f.dir() != "internal/test/bench" || !f.isGo() || f.isTest() {
			continue
		}
		ast.Inspect(f.parse(t, fset), func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, err := strconv.Unquote(lit.Value); err == nil {
					rows[text] = true
				}
			}
			return true
		})
	}
	for doc, text := range documents(t) {
		for _, m := range benchRef.FindAllStringSubmatch(text, -1) {
			name, _, _ := strings.Cut(m[1], ": memory")
			if !rows[m[1]] && !rows[name] {
				t.Errorf("%s: internal/test/bench has no row %q", doc, m[1])
			}
		}
	}
}

// Every promise has a proof or says that it has none, and is found by its number. A
// number stays with its promise, also in the table of aims.
func TestSpecification(t *testing.T) {
	text := string(readFile(t, "SPECIFICATION.md"))
	starts := regexp.MustCompile(`(?m)^(\d+)\. |^\| (\d+) \|`).FindAllStringSubmatchIndex(text, -1)
	if len(starts) < 10 {
		t.Fatalf("only %d promises found", len(starts))
	}
	found := make(map[string]bool)
	for i, at := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		promise := text[at[0]:end]
		number := strings.Trim(text[at[0]:at[1]], "|. ")
		if found[number] {
			t.Errorf("there are two promises %s", number)
		}
		found[number] = true
		if !testRef.MatchString(promise) && !benchRef.MatchString(promise) && !strings.Contains(promise, "[no test yet]") {
			t.Errorf("promise %s names no test: %s", number, promise)
		}
	}
}

// A decision is a page with a number and its title, and in the list.
func TestDecisions(t *testing.T) {
	index := string(readFile(t, "docs/design/adr/README.md"))
	if !strings.Contains(string(readFile(t, "docs/design/overview.md")), "](adr/README.md)") {
		t.Error("docs/design/overview.md has no link to the decisions")
	}
	var pages []string
	for name := range documents(t) {
		if path.Dir(name) == "docs/design/adr" && name != "docs/design/adr/README.md" {
			pages = append(pages, name)
		}
	}
	slices.Sort(pages)
	last := ""
	for _, name := range pages {
		number, _, _ := strings.Cut(path.Base(name), "-")
		if n, err := strconv.Atoi(number); err != nil || fmt.Sprintf("%03d", n) != number || number == last {
			t.Errorf("%s: want a number of its own", name)
		}
		last = number
		title, _, _ := strings.Cut(string(readFile(t, name)), "\n")
		title = strings.TrimPrefix(title, "# ")
		if !strings.HasPrefix(title, number+" ") {
			t.Errorf("%s: the title is %q; want it to begin with %s", name, title, number)
		}
		if !strings.Contains(index, fmt.Sprintf("- [%s](%s)", title, path.Base(name))) {
			t.Errorf("docs/design/adr/README.md: no line for %s with its title", name)
		}
		for _, section := range []string{"## Context", "## Decision", "## Consequences"} {
			if !strings.Contains(string(readFile(t, name)), "\n"+section+"\n") {
				t.Errorf("%s has no section %q", name, section)
			}
		}
	}
}

// What somebody left for later belongs in the issues.
func TestNothingIsLeftForLater(t *testing.T) {
	words := regexp.MustCompile(`\b(TO[D]O|FIX[M]E|XX[X]|T[B]D)\b`)
	for _, f := range tree(t) {
		if !f.isGo() && !strings.HasSuffix(f.path, ".md") && !strings.HasSuffix(f.path, ".sh") {
			continue
		}
		if m := words.Find(f.data); m != nil {
			t.Errorf("%s holds %q", f.path, m)
		}
	}
}

// README.md is for one reading, and its example compiles.
func TestReadme(t *testing.T) {
	readme := string(readFile(t, "README.md"))
	if n := strings.Count(readme, "\n"); n > 150 {
		t.Errorf("README.md has %d lines; want at most 150: move reference to docs", n)
	}
	_, example, _ := strings.Cut(readme, "```go\n")
	example, _, ok := strings.Cut(example, "```")
	if !ok || !strings.Contains(string(readFile(t, "readme_test.go")), example) {
		t.Errorf("README.md: the Go example is not in readme_test.go:\n%s", example)
	}
}
