package review

import (
	"path"
	"slices"
	"strings"
)

// wholeRules are about what the change set does as a whole. They name each change that is
// part of it, so that each can be held back.
var wholeRules = []rule{
	{
		id: "mass-deletion", class: Suspicious, reason: "deletes an unusual part of the workspace's files", deleted: true,
		when: func(s *subject) []Finding { return is(s.deletes() && s.set.totals().manyDeleted) },
	},
	{
		id: "mass-addition", class: Suspicious, reason: "one of unusually many new files", kinds: []Kind{Regular},
		when: func(s *subject) []Finding {
			return is(s.added() && s.set.totals().added > mostAdded && s.change.From == "" && !s.generated() && !s.change.Ignored)
		},
	},
	{
		id: "tests-deleted", class: Suspicious, reason: "one of many tests that are deleted", deleted: true,
		when: func(s *subject) []Finding { return is(s.deletes() && isTest(s.folded) && s.set.totals().manyTests) },
	},
	{
		id: "tests-skipped", class: Suspicious, reason: "many tests are skipped", kinds: []Kind{Regular},
		when: func(s *subject) []Finding {
			return is(isTest(s.folded) && len(skips().FindAllIndex(s.addedLines(), mostSkipped+1)) > mostSkipped && s.change.Old.Kind == Regular)
		},
	},
}

// Bounds of what honest sessions do.
const (
	mostAdded   = 1000 // new files
	fewDeleted  = 5    // files, of which nobody is asked whatever their part is
	fewTests    = 5    // the same for tests
	mostSkipped = 5    // lines that skip tests, in one file
)

// skips matches a line, in lower case, that has a test pass without running it.
var skips = expression(`(?m)^.*(?:\bt\.skip(?:now|f)?\(|\b(?:it|test|describe|context)\.skip\(|\bx(?:it|describe|test)\(|@pytest\.mark\.skip|@unittest\.skip|pytest\.skip\(|#\[ignore|@ignore\b|@disabled\b|\bskip\s*=\s*true).*$`)

var testEnds = []string{"_test", ".test", ".spec", "_spec", "test", "tests"}

// isTest reports whether a file is one of tests, by its name.
func isTest(folded string) bool {
	base := path.Base(folded)
	ext := path.Ext(base)
	if !slices.Contains(sources, ext) {
		return false
	}
	stem := strings.TrimSuffix(base, ext)
	return strings.HasPrefix(base, "test_") || slices.ContainsFunc(testEnds, func(e string) bool { return strings.HasSuffix(stem, e) })
}

// deletes reports whether the change takes away a file that is a source.
func (s *subject) deletes() bool {
	return s.change.New.Kind == None && s.change.Old.Kind == Regular && !s.change.Ignored && !s.generated()
}

// totals are numbers of the change set.
type totals struct {
	added       int
	manyDeleted bool
	manyTests   bool
}

func (t *set) totals() *totals {
	if t.sums != nil {
		return t.sums
	}
	sums := &totals{}
	t.sums = sums
	// What was renamed is not gone, whether the change set says so or not.
	names := map[string]int{}
	deleted, tests, newTests := 0, 0, 0
	some := slices.ContainsFunc(t.in.Changes, func(c Change) bool { return c.New.Kind == None })
	for i := range t.in.Changes {
		if s := t.subject(&t.in.Changes[i]); s.change.New.Kind == Regular && s.added() {
			if s.change.From != "" || s.change.Ignored || s.generated() {
				continue
			}
			sums.added++
			if !some {
				continue // nothing is deleted, and there may be very many names
			}
			names[path.Base(s.change.Path)]++
			if isTest(s.folded) {
				newTests++
			}
		}
	}
	for i := range t.in.Changes {
		s := t.subject(&t.in.Changes[i])
		if !s.deletes() {
			continue
		}
		if base := path.Base(s.change.Path); names[base] > 0 {
			names[base]--
			if isTest(s.folded) {
				newTests--
			}
			continue
		}
		deleted++
		if isTest(s.folded) {
			tests++
		}
	}
	sums.manyDeleted = deleted >= fewDeleted && t.in.Host.Files > 0 && deleted*5 > t.in.Host.Files
	sums.manyTests = tests >= fewTests && tests > newTests
	return sums
}
