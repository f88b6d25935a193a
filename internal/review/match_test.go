package review

import (
	"slices"
	"strings"
	"testing"
)

func TestPattern(t *testing.T) {
	for _, test := range []struct {
		pattern, path string
		want          bool
	}{
		{"a", "a", true}, {"a", "x/A", true}, {"a", "a/x", false}, {"a", "xa", false},
		{"/a", "a", true}, {"/a", "x/a", false},
		{"a/b", "x/a/b", true}, {"a/b", "a/x/b", false}, {"a/b", "b", false},
		{"a/**", "a/b", true}, {"a/**", "x/a/b/c", true}, {"a/**", "a", false}, {"a/**", "x/a", false},
		{"/a/**", "a/b", true}, {"/a/**", "x/a/b", false},
		{"a/*.json", "x/a/c.json", true}, {"a/*.json", "a/b/c.json", false},
		{"*.x", "a/b.X", true}, {"*.x", "a/b.x. ", true}, {"mayfly*", "Mayfly.toml", true},
		{"/a/*/c/**", "a/b/c/d", true}, {"/a/*/c/**", "a/b/b/c/d", false}, {"e\u0301", "\u00c9", false}, {"\u00e9", "E\u0301", true},
		{"justfile", "ju\u017ftfile", true}, {".vscode/tasks.json", ".V\u017fcode/Ta\u017fKs.json", true}, {"makefile", "ma\u212aefile", true},
	} {
		p := newPattern(test.pattern)
		names := strings.Split(fold(test.path), "/")
		if got := p.match(names); got != test.want {
			t.Errorf("pattern %q matches %q = %v, want %v", test.pattern, test.path, got, test.want)
		}
		x := newIndex([]rule{{paths: []string{test.pattern}}})
		if got := slices.Contains(x.about(names), 0); got != test.want {
			t.Errorf("index of %q finds %q = %v, want %v", test.pattern, test.path, got, test.want)
		}
	}
}

// The table's ids, reasons and patterns are as users and the index need them.
func TestTable(t *testing.T) {
	ids := map[string]bool{}
	for i := range table {
		r := &table[i]
		if ids[r.id] || r.id == "" || strings.ToLower(r.id) != r.id || strings.ContainsAny(r.id, " _") {
			t.Errorf("rule %d has the id %q", i, r.id)
		}
		ids[r.id] = true
		if n := len(strings.Fields(r.reason)); n == 0 || n > 12 {
			t.Errorf("%s: its reason has %d words: %q", r.id, n, r.reason)
		}
		for _, p := range r.paths {
			if fold(p) != p || strings.HasSuffix(p, "/") {
				t.Errorf("%s: no folded path matches %q", r.id, p)
			}
		}
	}
}
