package treetest

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/design/modules.txt and docs/reference")

// requirement is one line of go.mod's require blocks.
var requirement = regexp.MustCompile(`(?m)^(?:require )?\t?([a-z0-9.-]+\.[a-z]+/\S+|go\.yaml\.in/\S+) (v\S+)( // indirect)?$`)

// readRequirements returns the modules in go.mod: path → "version direct" or
// "version indirect".
func readRequirements(t *testing.T) map[string]string {
	t.Helper()
	out := make(map[string]string)
	text := string(readFile(t, "go.mod"))
	for _, m := range requirement.FindAllStringSubmatch(text, -1) {
		kind := "direct"
		if m[3] != "" {
			kind = "indirect"
		}
		out[m[1]] = m[2] + " " + kind
	}
	if n := strings.Count(text, " v"); n != len(out) {
		t.Fatalf("go.mod: read %d requirements of %d", len(out), n)
	}
	return out
}

// A replaced module is not the one that everyone else builds with, and
// `go install` of this module refuses it.
func TestGoModHasNoReplace(t *testing.T) {
	directive := regexp.MustCompile(`(?m)^\s*(replace|exclude|retract)\b`)
	if m := directive.Find(readFile(t, "go.mod")); m != nil {
		t.Errorf("go.mod holds %q", m)
	}
}

// Each direct module has a row in docs/design/deps.md that says why it is there, and
// each row is for one.
func TestDepsAreExplained(t *testing.T) {
	var direct []string
	for name, v := range readRequirements(t) {
		if strings.HasSuffix(v, " direct") {
			direct = append(direct, name)
		}
	}
	slices.Sort(direct)
	var rows []string
	row := regexp.MustCompile("(?m)^\\| `([^`]+)` \\|(.*)$")
	for _, m := range row.FindAllStringSubmatch(string(readFile(t, "docs/design/deps.md")), -1) {
		rows = append(rows, m[1])
		for i, cell := range strings.Split(strings.TrimSuffix(m[2], "|"), "|") {
			if strings.TrimSpace(cell) == "" {
				t.Errorf("docs/design/deps.md: %s: cell %d is empty", m[1], i+2)
			}
		}
	}
	slices.Sort(rows)
	if d := cmp.Diff(direct, rows); d != "" {
		t.Errorf("docs/design/deps.md differs from go.mod's direct modules (-go.mod +deps.md):\n%s", d)
	}
}

// docs/design/modules.txt is the whole list, so that a new module, however indirect,
// is seen in review.
func TestModuleList(t *testing.T) {
	modules := readRequirements(t)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		b.WriteString(name + " " + modules[name] + "\n")
	}
	if *update {
		if err := os.WriteFile(filepath.Join(root, "docs/design/modules.txt"), []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(string(readFile(t, "docs/design/modules.txt")), b.String()); d != "" {
		t.Errorf("docs/design/modules.txt differs from go.mod (-modules.txt +go.mod; run make docs):\n%s", d)
	}
}
