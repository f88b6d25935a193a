package mayfly

import (
	"context"
	"fmt"
	"time"

	"github.com/mayfly-vm/mayfly/internal/engine"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// Undoable is an apply that can be taken back: the last one in its directory.
type Undoable struct {
	Name        string    `json:"name"`    // of the machine, which may be gone
	Dir         string    `json:"dir"`     // the directory of the host
	Time        time.Time `json:"time"`    // when the apply began
	Changes     int       `json:"changes"` // how many it made, or was to make if it was interrupted
	Interrupted bool      `json:"interrupted,omitempty"`
}

// Undoables returns the applies that can be taken back, the newest first.
func (c *Client) Undoables() ([]Undoable, error) {
	recs, err := c.e.Undos()
	return convert(recs, newUndoable), public(err)
}

// LastApply returns the last apply of the machine name, which may be gone.
func (c *Client) LastApply(name string) (Undoable, error) {
	r, err := c.e.LastApply(name)
	return newUndoable(r), public(err)
}

// LastApplyTo returns the last apply to a directory, or to one that it is in.
func (c *Client) LastApplyTo(dir string) (Undoable, error) {
	r, err := c.e.LastApplyTo(dir)
	return newUndoable(r), public(err)
}

func newUndoable(r workspace.UndoRecord) Undoable {
	return Undoable{r.Name, r.Root, r.Time, r.Changes, !r.Ended}
}

// Undone is what became of an apply that was taken back.
type Undone struct {
	Changes int // how many are as before the apply
	// Conflicts were left alone: they were changed since.
	Conflicts []Conflict
	// Notes are what is not as it was before.
	Notes []string
}

// Undo takes an apply back. What was changed in the directory since is left alone and is a
// conflict; the rest can be tried again. Undo can be repeated if it was interrupted. What
// was done is returned also when there is an error.
func (c *Client) Undo(ctx context.Context, u Undoable) (Undone, error) {
	res, err := c.e.Undo(ctx, u.Name, u.Dir)
	return Undone{res.Applied, conflicts(res), notes(res)}, public(err)
}

// Undoable reports whether an apply of the set can be taken back afterwards: mayfly keeps
// at most 1 GiB of what it replaces and deletes.
func (s *ChangeSet) Undoable() bool {
	if s.c == nil {
		return true
	}
	edits := workspace.Pointers(s.c.Edits)
	if !s.ApplyIgnored {
		edits = workspace.WithoutIgnored(edits)
	}
	return engine.Undoable(edits)
}

func conflicts(res workspace.Result) []Conflict {
	return convert(res.Conflicts, func(c workspace.Conflict) Conflict { return Conflict(c) })
}

func notes(res workspace.Result) []string {
	list := convert(res.Notes, workspace.Note.String)
	if res.MoreNotes > 0 {
		list = append(list, fmt.Sprintf("%d more like these", res.MoreNotes))
	}
	return list
}
