package linediff

import (
	"strings"

	"github.com/aymanbagabas/go-udiff/lcs"
)

// Labels name the texts of a merge in the lines that mark a conflict.
type Labels struct{ Ours, Base, Theirs string }

// Merge returns the text in which base has the changes of both ours and theirs. Where both
// changed the same lines, or lines that touch, and not to the same, all three are there
// between lines of markers, as git's diff3 style has them; conflicts counts these places.
func Merge(base, ours, theirs string, names Labels) (merged string, conflicts int) {
	lines := split(base)
	sides := [2]side{newSide(lines, ours), newSide(lines, theirs)}
	var out strings.Builder
	at := 0 // what of base is merged
	for {
		start, end, ok := region(sides[0].left, sides[1].left)
		if !ok {
			break
		}
		write(&out, lines[at:start])
		a, b := sides[0].take(start, end), sides[1].take(start, end)
		before := lines[start:end]
		at = end
		switch {
		case !b.changed || same(a.lines, b.lines):
			write(&out, a.lines)
		case !a.changed:
			write(&out, b.lines)
		default:
			conflicts++
			mark(&out, "<<<<<<< "+names.Ours)
			write(&out, a.lines)
			mark(&out, "||||||| "+names.Base)
			write(&out, before)
			mark(&out, "=======")
			write(&out, b.lines)
			mark(&out, ">>>>>>> "+names.Theirs)
		}
	}
	write(&out, lines[at:])
	return out.String(), conflicts
}

// side is one of the two texts, as changes of the base.
type side struct {
	base, text []string
	left       []lcs.Diff // those that are not merged yet
}

func newSide(base []string, text string) side {
	to := split(text)
	return side{base, to, lcs.DiffLines(base, to)}
}

// region returns the next lines of the base that are to be merged as one: all changes of
// both sides that overlap or touch.
func region(a, b []lcs.Diff) (start, end int, ok bool) {
	for first := true; ; first = false {
		var next *[]lcs.Diff
		switch {
		case len(a) == 0 && len(b) == 0:
			return start, end, !first
		case len(b) == 0 || len(a) > 0 && a[0].Start <= b[0].Start:
			next = &a
		default:
			next = &b
		}
		d := (*next)[0]
		if first {
			start, end = d.Start, d.End
		} else if d.Start > end {
			return start, end, true
		}
		end = max(end, d.End)
		*next = (*next)[1:]
	}
}

// part is what one side makes of some lines of the base.
type part struct {
	lines   []string
	changed bool
}

// take returns what a side makes of the lines from start to end, which are a region.
func (s *side) take(start, end int) part {
	var p part
	at := start
	for len(s.left) > 0 && s.left[0].Start <= end && s.left[0].End <= end {
		d := s.left[0]
		p.lines = append(p.lines, s.base[at:d.Start]...)
		p.lines = append(p.lines, s.text[d.ReplStart:d.ReplEnd]...)
		at, p.changed = d.End, true
		s.left = s.left[1:]
	}
	p.lines = append(p.lines, s.base[at:end]...)
	return p
}

func same(a, b []string) bool {
	return strings.Join(a, "") == strings.Join(b, "")
}

func write(out *strings.Builder, lines []string) {
	for _, l := range lines {
		out.WriteString(l)
	}
}

// mark writes a line of its own, also behind a last line without a line break.
func mark(out *strings.Builder, line string) {
	if text := out.String(); text != "" && text[len(text)-1] != '\n' {
		out.WriteByte('\n')
	}
	out.WriteString(line)
	out.WriteByte('\n')
}
