package mayfly

import (
	"context"
	"fmt"

	"github.com/mayfly-vm/mayfly/internal/engine"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// Change is one path of a workspace that differs in a machine.
type Change struct {
	Op      string `json:"op"` // "A" added, "M" modified, "D" deleted or "R" renamed
	Path    string `json:"path"`
	From    string `json:"from,omitempty"` // of "R": the old path of the directory
	Kind    string `json:"kind"`           // file, directory or symbolic link
	Mode    uint32 `json:"mode,omitempty"`
	Size    int64  `json:"size,omitempty"`
	OldSize int64  `json:"old_size,omitempty"`
	Target  string `json:"target,omitempty"`
	Escapes bool   `json:"escapes,omitempty"` // a link that leads, or may lead, out of the workspace
	Skipped string `json:"skipped,omitempty"` // why it cannot be applied
	Ignored bool   `json:"ignored,omitempty"` // the host's git ignores it

	edit workspace.Edit
}

// String returns the change on one line, fit to be printed.
func (c Change) String() string { return c.edit.String() }

// ChangeSet is all that differs in a machine from the workspace that it has a copy of.
type ChangeSet struct {
	// Root is the directory of the host that was copied.
	Root string
	// Changes are all but directories that others of them make obvious.
	Changes []Change
	// ApplyIgnored has Apply take also what the host's git ignores: build output and
	// installed packages, which are often of use only where they were made.
	ApplyIgnored bool

	c *engine.Changes
}

// Changes asks the machine what it has changed, and checks the answer. With quiesce its
// programs are ended first, so that nothing changes meanwhile. The caller closes the set.
func (m *Machine) Changes(ctx context.Context, quiesce bool) (*ChangeSet, error) {
	c, err := m.m.Changes(ctx, quiesce)
	if err != nil {
		return nil, public(err)
	}
	set := &ChangeSet{Root: c.Root(), Changes: []Change{}, c: c}
	for _, e := range c.Edits {
		if e.Implied {
			continue
		}
		kind := e.NewKind
		if kind == workspace.None {
			kind = e.OldKind
		}
		from := ""
		if e.Op == workspace.Rename {
			from = e.From
		}
		set.Changes = append(set.Changes, Change{e.Op.String(), e.Path, from, kind.String(), e.NewMode, e.NewSize, e.OldSize, e.NewTarget, e.Escapes, e.Skipped, e.Ignored, e})
	}
	return set, nil
}

// Close gives up what is needed to apply the set.
func (s *ChangeSet) Close() error {
	if s.c == nil {
		return nil
	}
	return s.c.Close()
}

// Applied is what became of changes.
type Applied struct {
	Applied int // how many are on the host now
	Of      int // how many of those that were chosen can be applied at all
	// Conflicts were left alone: the host's file is not what was copied.
	Conflicts []Conflict
	// Notes are what of the changes that were applied is not as in the machine.
	Notes []string
}

// Conflict is a change that was not applied.
type Conflict struct {
	Path string
	Why  string
}

// String returns the conflict on one line, fit to be printed.
func (c Conflict) String() string { return workspace.Conflict(c).String() }

// Apply carries changes out on the host's directory: those of the paths and of what is
// below them, with the directories that they need; all without any path. What is ignored
// is left out unless ApplyIgnored is set. The contents are fetched and checked first: then
// all of them are there, or none is applied. What was done is returned also when there is
// an error.
func (s *ChangeSet) Apply(ctx context.Context, paths ...string) (Applied, error) {
	edits := s.c.Edits
	if !s.ApplyIgnored {
		edits = workspace.WithoutIgnored(edits)
	}
	if len(paths) > 0 {
		edits = workspace.Select(edits, paths)
	}
	for _, p := range paths {
		if len(workspace.Select(edits, []string{p})) == 0 {
			return Applied{}, public(fault.New(fault.ChangeMissing, fault.Args{"path": p}, "%s: nothing there was changed", termsafe.Quote(p)))
		}
	}
	res, err := s.c.Apply(ctx, edits)
	conflicts := convert(res.Conflicts, func(c workspace.Conflict) Conflict { return Conflict(c) })
	notes := convert(res.Notes, workspace.Note.String)
	if res.MoreNotes > 0 {
		notes = append(notes, fmt.Sprintf("%d more like these", res.MoreNotes))
	}
	return Applied{res.Applied, count(edits), conflicts, notes}, public(err)
}

// count returns how many edits can be applied at all.
func count(edits []workspace.Edit) int {
	n := 0
	for _, e := range edits {
		if !e.Implied && e.Skipped == "" {
			n++
		}
	}
	return n
}
