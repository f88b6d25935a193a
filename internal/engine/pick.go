package engine

import (
	"context"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/sparse"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// Part is what is taken of an edit of a file.
type Part struct {
	Edit    int    // its number in c.Edits
	Content string // of the file then
	Mode    bool   // with the guest's mode; else the host's stays
}

// Divisible reports whether a part of an edit can be taken: both its halves are files, and
// no other name of the new one wants all of it.
func (c *Changes) Divisible(i int) bool {
	e := &c.Edits[i]
	if e.Op != workspace.Modify || e.OldKind != workspace.File || e.NewKind != workspace.File || e.Skipped != "" || e.Link != "" {
		return false
	}
	for j := range c.Edits {
		if c.Edits[j].Link == e.Path {
			return false
		}
	}
	return true
}

// Pick makes edits such of a part, and reviews all once more: what is left of a change may
// be of another class than the whole.
func (c *Changes) Pick(ctx context.Context, parts []Part) error {
	if c.staging == nil {
		if err := c.stage(ctx, nil); err != nil {
			return err
		}
	}
	for _, p := range parts {
		e := c.Edits[p.Edit]
		sum, err := sparse.SumOf(ctx, strings.NewReader(p.Content), int64(len(p.Content)))
		if err != nil {
			return err
		}
		if !p.Mode {
			e.NewMode = e.OldMode
		}
		e.Partial = true
		e.Sum, e.NewSize, e.Copies, e.ModeOnly = sum, int64(len(p.Content)), "", false
		if err := c.staging.Put(&e, strings.NewReader(p.Content)); err != nil {
			return err
		}
		c.Edits[p.Edit] = e
	}
	verdicts, err := c.classify(ctx, c.Edits)
	if err == nil {
		c.Verdicts = verdicts
	}
	return err
}
