// Package linediff compares two texts line by line: the old and the new one go in, hunks
// come out, each of which can be applied without the others.
//
// The texts may be hostile. What two of them cost is bounded by their sizes, which the
// caller bounds: where they have little in common, a comparison gives up the search for
// the smallest difference, and finds one that is larger and as true.
package linediff

import (
	"bytes"
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

// Apply returns old with some of its hunks, in their order, applied.
func Apply(old string, hunks []Hunk) string {
	from := split(old)
	var out strings.Builder
	at := 0
	for _, h := range hunks {
		start := h.OldStart - 1
		if h.OldLines == 0 {
			start++
		}
		for ; at < start; at++ {
			out.WriteString(from[at])
		}
		for _, line := range h.Lines {
			if line.Op != Delete {
				out.WriteString(line.Text)
			}
		}
		at += h.OldLines
	}
	for ; at < len(from); at++ {
		out.WriteString(from[at])
	}
	return out.String()
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
