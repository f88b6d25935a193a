package mayfly

import (
	"context"
	"os"

	"github.com/mayfly-vm/mayfly/internal/engine"
	"github.com/mayfly-vm/mayfly/internal/linediff"
	"github.com/mayfly-vm/mayfly/internal/review"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// LiveChange is a change, in a directory that a machine has live, of a file that the host
// runs or obeys by itself. It is on the host already.
type LiveChange struct {
	Dir string `json:"dir"` // the directory; Path is in it
	Change
	// Kept is the file as it was before, where it was small enough to be kept.
	Kept string `json:"kept,omitempty"`
}

// Patch compares the file as it was with what it is now.
func (c LiveChange) Patch() (Patch, error) {
	old, opaque, err := c.text(false)
	if err != nil || opaque != "" {
		return Patch{Opaque: opaque}, err
	}
	now, opaque, err := c.text(true)
	if err != nil || opaque != "" {
		return Patch{Opaque: opaque}, err
	}
	return newPatch(linediff.Diff(old, now)), nil
}

// text returns the content before or now.
func (c LiveChange) text(now bool) (text, opaque string, err error) {
	kind, size, target := c.edit.OldKind, c.edit.OldSize, c.edit.OldTarget
	if now {
		kind, size, target = c.edit.NewKind, c.edit.NewSize, c.edit.NewTarget
	}
	switch {
	case kind == workspace.Symlink:
		return target, "", nil
	case kind != workspace.File:
		return "", "", nil
	case size > mostPatch:
		return "", "large", nil
	}
	// The machine may write to the one, and nobody to the other.
	f, err := c.open(now)
	if err != nil {
		return "", "lost", nil
	}
	defer f.Close()
	text, opaque, err = readText(f, mostPatch+1)
	if len(text) > mostPatch {
		return "", "large", nil
	}
	return text, opaque, err
}

func (c LiveChange) open(now bool) (*os.File, error) {
	if !now {
		return os.Open(c.Kept)
	}
	h, err := workspace.OpenHost(c.Dir)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	return h.Open(c.Path)
}

// LiveChanges are such changes since the machine was started. Others may have made them,
// too. Partly are directories of which not all was watched: they are too large, or a
// part of them cannot be listed.
type LiveChanges struct {
	Changes []LiveChange
	Partly  []string
}

// LiveChanges returns what of what the host runs by itself was changed in the directories
// that the machine has live.
func (m *Machine) LiveChanges(ctx context.Context) (LiveChanges, error) {
	all, err := m.m.LiveChanges(ctx)
	if err != nil {
		return LiveChanges{}, public(err)
	}
	return LiveChanges{Partly: all.Partly, Changes: convert(all.Changes, newLiveChange)}, nil
}

func newLiveChange(c engine.LiveChange) LiveChange {
	e := workspace.Edit{
		Op: workspace.Modify, Path: c.Path, OldKind: liveKind(c.Old.Kind), NewKind: liveKind(c.New.Kind),
		OldMode: c.Old.Mode, NewMode: c.New.Mode, OldSize: c.Old.Size, NewSize: c.New.Size, OldTarget: c.Old.Target, NewTarget: c.New.Target,
	}
	kind := e.NewKind
	switch {
	case c.Old.Kind == review.None:
		e.Op = workspace.Add
	case c.New.Kind == review.None:
		e.Op, kind = workspace.Delete, e.OldKind
	}
	out := LiveChange{Dir: c.Dir, Kept: c.Kept, Change: Change{
		Op: e.Op.String(), Path: e.Path, Kind: kind.String(), Mode: e.NewMode, OldMode: e.OldMode,
		Size: e.NewSize, OldSize: e.OldSize, Target: e.NewTarget, edit: &e,
	}}
	out.judged(c.Verdict)
	out.Withheld = false // nothing is held back: it is there
	return out
}

func liveKind(k review.Kind) workspace.Kind {
	switch k {
	case review.Regular:
		return workspace.File
	case review.Dir:
		return workspace.Dir
	case review.Symlink:
		return workspace.Symlink
	}
	return workspace.None
}
