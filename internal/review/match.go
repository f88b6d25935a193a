package review

import (
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// fold returns a path as rules match it: lower case, composed, and without the dots and
// blanks at the ends of names that some file systems drop.
func fold(p string) string {
	p = strings.ToLower(norm.NFC.String(p))
	if strings.ContainsFunc(p, func(r rune) bool { return r >= utf8.RuneSelf }) {
		p = strings.Map(sameCase, p)
	}
	if !strings.Contains(p, "./") && !strings.Contains(p, " /") && !strings.HasSuffix(p, ".") && !strings.HasSuffix(p, " ") {
		return p
	}
	parts := strings.Split(p, "/")
	for i, part := range parts {
		if cut := strings.TrimRight(part, ". "); cut != "" {
			parts[i] = cut
		}
	}
	return strings.Join(parts, "/")
}

// sameCase returns the same letter for all that are equal without regard to case, also where
// none is the lower case of the other: a long s is an s to file systems that ignore case.
func sameCase(r rune) rune {
	least := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		least = min(least, next)
	}
	return unicode.ToLower(least)
}

// pattern is what a folded path matches, at any depth: "name", "dir/name", "dir/**" (all
// below). A leading "/" ties it to the workspace's root. Names may have the wildcards of
// path.Match.
type pattern struct {
	names  []name
	rooted bool
	below  bool // all below
}

func newPattern(text string) pattern {
	var p pattern
	text, p.rooted = strings.CutPrefix(text, "/")
	text, p.below = strings.CutSuffix(text, "/**")
	for part := range strings.SplitSeq(text, "/") {
		n := name{text: part, wild: wild(part)}
		if head, tail, ok := strings.Cut(part, "*"); ok && !wild(head) && !wild(tail) {
			n.star, n.head, n.tail = true, head, tail
		}
		p.names = append(p.names, n)
	}
	return p
}

// name is one name of a pattern. Most wildcards are one star.
type name struct {
	text       string
	wild, star bool
	head, tail string // around the star
}

func (n *name) match(have string) bool {
	switch {
	case !n.wild:
		return n.text == have
	case n.star:
		return len(have) >= len(n.head)+len(n.tail) && strings.HasPrefix(have, n.head) && strings.HasSuffix(have, n.tail)
	}
	ok, err := path.Match(n.text, have)
	return err == nil && ok
}

// match takes the names of a folded path.
func (p *pattern) match(have []string) bool {
	last := len(have) - len(p.names)
	switch {
	case last < 0 || p.below && last == 0:
		return false
	case !p.below && !p.rooted:
		return p.at(have[last:])
	case !p.below:
		return last == 0 && p.at(have)
	case p.rooted:
		return p.at(have)
	}
	for start := range last {
		if p.at(have[start:]) {
			return true
		}
	}
	return false
}

func (p *pattern) at(have []string) bool {
	// The last name differs most often.
	for i := len(p.names) - 1; i >= 0; i-- {
		if !p.names[i].match(have[i]) {
			return false
		}
	}
	return true
}

func wild(name string) bool { return strings.ContainsAny(name, `*?[\`) }

// index finds the rules that may be about a path without looking at all of them.
type index struct {
	rules    []rule
	patterns [][]pattern // of each rule

	always []int            // rules of all paths
	byName map[string][]int // by a name that is in the path if the rule matches
	byLast map[string][]int // by the last name
	byEnd  map[string][]int // by the ending of the last name
	byHead map[byte][]int   // by the first letter of the last name
	rest   []int
}

func newIndex(rules []rule) *index {
	x := &index{
		rules: rules, patterns: make([][]pattern, len(rules)),
		byName: map[string][]int{}, byLast: map[string][]int{}, byEnd: map[string][]int{}, byHead: map[byte][]int{},
	}
	for i := range rules {
		if len(rules[i].paths) == 0 {
			x.always = append(x.always, i)
		}
		for _, text := range rules[i].paths {
			p := newPattern(text)
			x.patterns[i] = append(x.patterns[i], p)
			x.add(i, &p)
		}
	}
	return x
}

func (x *index) add(i int, p *pattern) {
	last := p.names[len(p.names)-1].text
	fixed := slices.IndexFunc(p.names, func(n name) bool { return !n.wild })
	switch {
	case !p.below && !wild(last):
		x.byLast[last] = append(x.byLast[last], i)
	case fixed >= 0:
		x.byName[p.names[fixed].text] = append(x.byName[p.names[fixed].text], i)
	case p.below:
		x.rest = append(x.rest, i)
	case !wild(last[:1]):
		x.byHead[last[0]] = append(x.byHead[last[0]], i)
	case path.Ext(last) != "" && !wild(path.Ext(last)):
		x.byEnd[path.Ext(last)] = append(x.byEnd[path.Ext(last)], i)
	default:
		x.rest = append(x.rest, i)
	}
}

// about returns the rules of paths that match a folded path, in their order.
func (x *index) about(names []string) []int {
	last := names[len(names)-1]
	found := slices.Clone(x.rest)
	found = append(found, x.byLast[last]...)
	found = append(found, x.byEnd[path.Ext(last)]...)
	if last != "" {
		found = append(found, x.byHead[last[0]]...)
	}
	for _, name := range names {
		found = append(found, x.byName[name]...)
	}
	if len(found) == 0 {
		return nil
	}
	slices.Sort(found)
	return slices.DeleteFunc(slices.Compact(found), func(i int) bool {
		return !slices.ContainsFunc(x.patterns[i], func(p pattern) bool { return p.match(names) })
	})
}
