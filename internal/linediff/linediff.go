// Package linediff compares two texts line by line: the old and the new one go in, hunks
// come out, each of which can be applied without the others. It also says how alike two
// contents are.
//
// The texts may be hostile. What two of them cost is bounded by their sizes, which the
// caller bounds: where they have little in common, a comparison gives up the search for
// the smallest difference, and finds one that is larger and as true.
package linediff

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/aymanbagabas/go-udiff/lcs"
)

// Op is what a line is in a difference.
type Op byte

// The operations, as unified differences have them.
const (
	Equal  Op = ' '
	Delete Op = '-'
	Insert Op = '+'
)

// Line is one line of a hunk, with its line break if it has one.
type Line struct {
	Op   Op
	Text string
}

// Hunk is a part in which two texts differ, with some lines around it.
type Hunk struct {
	OldStart, OldLines int // the lines of the old text, the first of all being 1; 0 before the first
	NewStart, NewLines int
	Lines              []Line
}

// context is how many equal lines there are around a difference.
const context = 3

// Diff returns the hunks in which old and new differ.
func Diff(old, new string) []Hunk {
	if old == new {
		return nil
	}
	from, to := split(old), split(new)
	diffs := lcs.DiffLines(from, to)
	var hunks []Hunk
	for i := 0; i < len(diffs); {
		// All that is near each other is one hunk.
		end := i + 1
		for end < len(diffs) && diffs[end].Start-diffs[end-1].End <= 2*context {
			end++
		}
		first, last := diffs[i], diffs[end-1]
		start, stop := max(first.Start-context, 0), min(last.End+context, len(from))
		h := Hunk{OldLines: stop - start, NewLines: stop - start}
		at := start
		for _, d := range diffs[i:end] {
			h.add(Equal, from[at:d.Start])
			h.add(Delete, from[d.Start:d.End])
			h.add(Insert, to[d.ReplStart:d.ReplEnd])
			h.NewLines += d.ReplEnd - d.ReplStart - (d.End - d.Start)
			at = d.End
		}
		h.add(Equal, from[at:stop])
		h.OldStart, h.NewStart = start+1, first.ReplStart-(first.Start-start)+1
		if h.OldLines == 0 {
			h.OldStart--
		}
		if h.NewLines == 0 {
			h.NewStart--
		}
		hunks = append(hunks, h)
		i = end
	}
	return hunks
}

func (h *Hunk) add(op Op, lines []string) {
	for _, line := range lines {
		h.Lines = append(h.Lines, Line{op, line})
	}
}

// Header returns the first line of a hunk in a unified difference.
func (h *Hunk) Header() string {
	return fmt.Sprintf("@@ -%s +%s @@", span(h.OldStart, h.OldLines), span(h.NewStart, h.NewLines))
}

func span(start, lines int) string {
	if lines == 1 {
		return fmt.Sprint(start)
	}
	return fmt.Sprintf("%d,%d", start, lines)
}

// Split returns the parts of a hunk that have equal lines between them; these are in both
// their neighbours. Each can be applied without the others.
func (h Hunk) Split() []Hunk {
	var parts []Hunk
	var part Hunk
	oldAt, newAt := h.OldStart, h.NewStart
	if h.OldLines == 0 {
		oldAt++
	}
	if h.NewLines == 0 {
		newAt++
	}
	for i := 0; i < len(h.Lines); {
		if part.Lines == nil {
			part.OldStart, part.NewStart = oldAt, newAt
		}
		op := h.Lines[i].Op
		end := i + 1
		for end < len(h.Lines) && (h.Lines[end].Op == Equal) == (op == Equal) {
			end++
		}
		part.addAll(h.Lines[i:end])
		if op == Equal && i > 0 && end < len(h.Lines) {
			parts = append(parts, part)
			part = Hunk{OldStart: oldAt, NewStart: newAt}
			part.addAll(h.Lines[i:end])
		}
		for _, line := range h.Lines[i:end] {
			if line.Op != Insert {
				oldAt++
			}
			if line.Op != Delete {
				newAt++
			}
		}
		i = end
	}
	parts = append(parts, part)
	for i := range parts {
		p := &parts[i]
		if p.OldLines == 0 {
			p.OldStart--
		}
		if p.NewLines == 0 {
			p.NewStart--
		}
	}
	return parts
}

// addAll appends lines, and counts them.
func (h *Hunk) addAll(lines []Line) {
	h.Lines = append(h.Lines, lines...)
	for _, line := range lines {
		if line.Op != Insert {
			h.OldLines++
		}
		if line.Op != Delete {
			h.NewLines++
		}
	}
}

// ErrOther is the error of hunks that are of another text, or not in their order.
var ErrOther = errors.New("a hunk does not fit the text")

// Apply returns old with some of its hunks, or of their parts, in their order, applied.
func Apply(old string, hunks []Hunk) (string, error) {
	from := split(old)
	var out strings.Builder
	done := 0 // lines of old
	for _, h := range hunks {
		at := h.OldStart - 1
		if h.OldLines == 0 {
			at++
		}
		for _, line := range h.Lines {
			if line.Op != Equal && at < done || at < 0 || at > len(from) {
				return "", ErrOther
			}
			if line.Op == Insert {
				out.WriteString(strings.Join(from[done:at], ""))
				out.WriteString(line.Text)
				done = at
				continue
			}
			if at == len(from) || from[at] != line.Text {
				return "", ErrOther
			}
			if line.Op == Delete {
				out.WriteString(strings.Join(from[done:at], ""))
				done = at + 1
			}
			at++
		}
	}
	out.WriteString(strings.Join(from[done:], ""))
	return out.String(), nil
}

// split returns the lines of a text with their line breaks.
func split(text string) []string {
	lines := strings.SplitAfter(text, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// Binary reports whether a content is no text.
func Binary(content []byte) bool { return bytes.IndexByte(content, 0) >= 0 }
