package review

import (
	"io"
	"strings"
	"testing"
)

// file is a regular file with this content.
func file(content string) Node {
	return Node{Kind: Regular, Mode: 0o644, Size: int64(len(content)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(content)), nil
	}}
}

// evalCase is a change, and what the rules are to say of it.
type evalCase struct {
	change Change
	more   []Change // of the same change set
	host   Host
	class  Class
	rules  []string // ids that are among the findings of that class
}

var plainCases = []evalCase{
	{change: Change{Path: "src/a.go", Old: file("package a\n"), New: file("package b\n")}},
}

func TestPlain(t *testing.T) { evaluate(t, plainCases) }

// evaluate has the cases classified.
func evaluate(t *testing.T, cases []evalCase) {
	t.Helper()
	for _, test := range cases {
		r, err := Classify(t.Context(), Input{Changes: append([]Change{test.change}, test.more...), Host: test.host})
		if err != nil {
			t.Fatal(err)
		}
		v := r.Verdicts[0]
		if v.Class != test.class {
			t.Errorf("class of %q = %v, want %v; findings %+v", test.change.Path, v.Class, test.class, v.Findings)
		}
		var rules []string
		for _, f := range v.Findings {
			if f.Class == v.Class {
				rules = append(rules, f.Rule)
			}
		}
		for _, id := range test.rules {
			if !strings.Contains(" "+strings.Join(rules, " ")+" ", " "+id+" ") {
				t.Errorf("rules of %q = %q, want %q in them", test.change.Path, rules, id)
			}
		}
	}
}
