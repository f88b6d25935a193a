package mayfly

import (
	"context"
	"fmt"
	"slices"

	"github.com/mayfly-vm/mayfly/internal/engine"
	"github.com/mayfly-vm/mayfly/internal/linediff"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Pick is a part of a change.
type Pick struct {
	Path  string // of the change
	Hunks []Hunk // of its patch, or parts of these, in their order
	Mode  bool   // also the new mode of the file
}

// Divisible reports whether a part of a change of s can be picked, which was reviewed: it is
// of a text file before and after.
func (s *ChangeSet) Divisible(c Change) (bool, error) {
	if s.c == nil || !s.c.Divisible(c.index) {
		return false, nil
	}
	_, opaque, err := s.hunks(c)
	return opaque == "", public(err)
}

// Pick has changes of s be only the parts that are picked, and reviews s once more: a part
// may be of another class than the whole. s.Changes is new then. What is left out stays in
// the machine, and is a change again once the part was applied.
func (s *ChangeSet) Pick(ctx context.Context, picks []Pick) error {
	var parts []engine.Part
	for _, p := range picks {
		i := slices.IndexFunc(s.Changes, func(c Change) bool { return c.Path == p.Path })
		if i < 0 || s.c == nil || !s.c.Divisible(s.Changes[i].index) {
			return public(engine.InputError{Err: fmt.Errorf("no part of %s can be picked", termsafe.Quote(p.Path))})
		}
		c := s.Changes[i]
		old, opaque, err := s.text(c, false)
		if err != nil {
			return public(err)
		}
		content, err := linediff.Apply(old, convert(p.Hunks, Hunk.lines))
		if err != nil || opaque != "" {
			return public(engine.InputError{Err: fmt.Errorf("what is picked of %s is no part of it", termsafe.Quote(p.Path))})
		}
		parts = append(parts, engine.Part{Edit: c.index, Content: content, Mode: p.Mode})
	}
	if len(parts) == 0 {
		return nil
	}
	if err := s.c.Pick(ctx, parts); err != nil {
		return public(err)
	}
	s.list()
	s.judge()
	return nil
}

// Split returns the parts of a hunk that have equal lines between them. Each can be picked
// without the others.
func (h Hunk) Split() []Hunk { return convert(h.lines().Split(), newHunk) }

func newHunk(h linediff.Hunk) Hunk {
	out := Hunk{Old: [2]int{h.OldStart, h.OldLines}, New: [2]int{h.NewStart, h.NewLines}}
	for _, line := range h.Lines {
		out.Lines = append(out.Lines, string(rune(line.Op))+line.Text)
	}
	return out
}

// lines is the reverse of newHunk.
func (h Hunk) lines() linediff.Hunk {
	out := linediff.Hunk{OldStart: h.Old[0], OldLines: h.Old[1], NewStart: h.New[0], NewLines: h.New[1]}
	for _, line := range h.Lines {
		if line != "" {
			out.Lines = append(out.Lines, linediff.Line{Op: linediff.Op(line[0]), Text: line[1:]})
		}
	}
	return out
}
