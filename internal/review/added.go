package review

import (
	"bytes"
	"hash/maphash"
	"regexp"
	"sync"
	"unicode/utf16"
)

// decoded returns a text as UTF-8, nil where it is a binary.
func decoded(b []byte) []byte {
	if len(b) >= 2 && (b[0] == 0xff && b[1] == 0xfe || b[0] == 0xfe && b[1] == 0xff) {
		units := make([]uint16, 0, len(b)/2)
		for i := 2; i+1 < len(b); i += 2 {
			if b[0] == 0xff {
				units = append(units, uint16(b[i])|uint16(b[i+1])<<8)
			} else {
				units = append(units, uint16(b[i+1])|uint16(b[i])<<8)
			}
		}
		return []byte(string(utf16.Decode(units)))
	}
	if bytes.IndexByte(b[:min(len(b), headSize)], 0) >= 0 {
		return nil
	}
	return b
}

// difference fills in the lines that are new. Equal beginnings and ends are passed over;
// between them a line is new if the old text has none that is equal.
func (t *text) difference(old, fresh []byte) {
	if len(old) == 0 {
		t.added = fresh
		return
	}
	t.longOld = longest(old) > longLine
	start := equalLines(old, fresh)
	first := bytes.Count(fresh[:start], []byte{'\n'}) + 1
	old, fresh = old[start:], fresh[start:]
	end := equalEnd(old, fresh)
	old, fresh = old[:len(old)-end], fresh[:len(fresh)-end]
	if len(old) == 0 && first == 1 && end == 0 {
		t.added = fresh
		return
	}
	seed := maphash.MakeSeed()
	had := map[uint64]struct{}{}
	for line := range bytes.Lines(old) {
		had[maphash.Bytes(seed, trimEnd(line))] = struct{}{}
	}
	t.numbers = []int{}
	for line := range bytes.Lines(fresh) {
		if _, is := had[maphash.Bytes(seed, trimEnd(line))]; !is {
			t.added = append(t.added, line...)
			t.numbers = append(t.numbers, first)
		}
		first++
	}
}

// trimEnd cuts the end of a line: other ends of lines make no other lines.
func trimEnd(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte{'\n'}), []byte{'\r'})
}

// equalLines returns the length of the whole lines with which both begin.
func equalLines(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return bytes.LastIndexByte(b[:n], '\n') + 1
}

// equalEnd returns the length of the whole lines with which both end.
func equalEnd(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	if n == len(b) && n == len(a) {
		return n
	}
	// The line that the difference ends in is not equal.
	cut := bytes.IndexByte(b[len(b)-n:], '\n') + 1
	if cut == 0 {
		return 0
	}
	return n - cut
}

// addedLines returns the lines that are new, in lower case; all where that is not known.
func (s *subject) addedLines() []byte {
	s.scan()
	if s.text == nil {
		return nil
	}
	return s.text.low
}

// lineOf returns the number of the line of an offset in the added lines.
func (s *subject) lineOf(at int) int {
	n := bytes.Count(s.text.added[:at], []byte{'\n'})
	if s.text.numbers == nil {
		return n + 1
	}
	return s.text.numbers[min(n, len(s.text.numbers)-1)]
}

// addsLine makes a condition of a pattern that an added line is to match.
func addsLine(pattern string) func(*subject) []Finding {
	p := expression(`(?m)` + pattern)
	return func(s *subject) []Finding {
		m := p().FindIndex(s.addedLines())
		if m == nil {
			return nil
		}
		line, _, _ := bytes.Cut(s.text.added[m[0]:], []byte{'\n'})
		return []Finding{{Line: s.lineOf(m[0]), Detail: bounded(string(bytes.TrimSpace(line)))}}
	}
}

// expression is compiled when it is first looked for: most commands review nothing, and
// compiling all of them takes longer than starting does.
func expression(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}
