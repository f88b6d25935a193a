package review

import (
	"fmt"
	"strings"
	"testing"
)

// changesOf returns changes with these numbers in their paths.
func changesOf(n int, pattern string, c Change) []Change {
	all := make([]Change, n)
	for i := range all {
		all[i] = c
		all[i].Path = fmt.Sprintf(pattern, i)
	}
	return all
}

var wholeCases = []evalCase{
	{change: Change{Path: "a/x.go", Old: file("x\n")}, more: changesOf(29, "a/%d.go", Change{Old: file("x\n")}), host: Host{Files: 100}, class: Suspicious, rules: []string{"mass-deletion"}},
	{change: Change{Path: "a/x.go", Old: file("x\n")}, more: changesOf(14, "a/%d.go", Change{Old: file("x\n")}), host: Host{Files: 100}},
	{change: Change{Path: "a/x.go", Old: file("x\n")}, more: changesOf(2, "a/%d.go", Change{Old: file("x\n")}), host: Host{Files: 4}},
	{
		change: Change{Path: "a/x.go", Old: file("x\n")}, host: Host{Files: 30},
		more: append(changesOf(29, "a/%d.go", Change{Old: file("x\n")}), changesOf(29, "b/%d.go", Change{New: file("x\n")})...),
	},
	{change: Change{Path: "b", New: file("x\n")}, more: changesOf(1001, "a/%d.txt", Change{New: file("x\n")}), class: Suspicious, rules: []string{"mass-addition"}},
	{change: Change{Path: "b", New: file("x\n")}, more: changesOf(1001, "node_modules/%d.txt", Change{New: file("x\n")})},
	{change: Change{Path: "a_test.go", Old: file("x\n")}, more: changesOf(5, "a%d_test.go", Change{Old: file("x\n")}), class: Suspicious, rules: []string{"tests-deleted"}},
	{
		change: edited("a.test.ts", "it('a')\n", "it('a')\n"+strings.Repeat("it.skip('b', x)\n", 6)[:6*16-1]+"\nit.skip('c')\n"+strings.Repeat("xit('d')\n", 6)),
		class:  Suspicious, rules: []string{"tests-skipped"},
	},
	{change: edited("a.test.ts", "it('a')\n", "it('a')\nit.skip('b')\n")},
}

func TestWhole(t *testing.T) { evaluate(t, wholeCases) }
