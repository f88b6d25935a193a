package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// undoAge is how long mayfly gc leaves the record of an apply.
const undoAge = 30 * 24 * time.Hour

// undoStore is where the records of applies are. It is not below the machines: they go.
func (e *Engine) undoStore() string { return filepath.Join(e.dirs.State, "undo") }

// Undoable reports whether an apply of edits can be taken back: if not, it would have to
// keep too much.
func Undoable(edits []*workspace.Edit) bool { return workspace.UndoSize(edits) <= workspace.UndoBound }

// undoOptions has the record of an apply of edits made, if it can be taken back.
func (c *Changes) undoOptions(edits []*workspace.Edit) (*workspace.UndoOptions, error) {
	store := c.machine.e.undoStore()
	if len(edits) == 0 && c.lands() && c.goesOn() {
		return nil, nil // what the killed one has applied is taken back with the commits
	}
	if !Undoable(edits) || len(edits) == 0 && c.lands() {
		return nil, workspace.ForgetUndo(store, c.manifest.Root)
	}
	return &workspace.UndoOptions{Store: store, Name: c.machine.Name()}, nil
}

// Undos returns the applies that can be taken back, the newest first.
func (e *Engine) Undos() ([]workspace.UndoRecord, error) {
	recs, err := workspace.UndoRecords(e.undoStore())
	return e.withMoves(recs), err
}

// LastApply returns the last apply of the machine name.
func (e *Engine) LastApply(name string) (workspace.UndoRecord, error) {
	return e.lastApply(args{"name": name}, name, func(r workspace.UndoRecord) bool { return r.Name == name })
}

// LastApplyTo returns the last apply to a directory, or to one that it is in.
func (e *Engine) LastApplyTo(dir string) (workspace.UndoRecord, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return workspace.UndoRecord{}, fmt.Errorf("find the directory: %w", err)
	}
	return e.lastApply(args{"dir": dir}, dir, func(r workspace.UndoRecord) bool {
		return r.Root == dir || strings.HasPrefix(dir, r.Root+"/")
	})
}

func (e *Engine) lastApply(a args, what string, wanted func(workspace.UndoRecord) bool) (workspace.UndoRecord, error) {
	all, err := e.Undos()
	if err != nil {
		return workspace.UndoRecord{}, err
	}
	if i := slices.IndexFunc(all, wanted); i >= 0 {
		return all[i], nil
	}
	return workspace.UndoRecord{}, fault.New(fault.UndoNone, a, "there is no apply to take back of %s", termsafe.Quote(what))
}

// Undo takes the last apply of the machine name to the directory root back. One that was
// interrupted is taken back together with its repetition. The result tells what was done
// also when there is an error.
func (e *Engine) Undo(ctx context.Context, name, root string) (res workspace.Result, err error) {
	if err := workspace.SweepUndos(e.undoStore()); err != nil {
		return res, err
	}
	recs, err := workspace.UndoRecords(e.undoStore())
	if err == nil {
		err = e.takenBack(name)
	}
	if err != nil {
		return res, err
	}
	found := false
	for _, rec := range recs {
		if rec.Name != name || rec.Root != root {
			continue
		}
		if found && rec.Ended {
			break
		}
		found = true
		one, err := workspace.Undo(ctx, rec)
		res.Applied += one.Applied
		res.Conflicts = append(res.Conflicts, one.Conflicts...)
		res.Notes = append(res.Notes, one.Notes...)
		res.MoreNotes += one.MoreNotes
		if errors.Is(err, workspace.ErrBusy) {
			return res, fault.New(fault.UndoBusy, args{"name": name}, "the changes of %s: %w", name, err)
		}
		if err != nil {
			return res, err
		}
	}
	moved, err := e.undoMoves(ctx, name, root, &res)
	if err != nil {
		return res, err
	}
	if !found && !moved {
		return res, fault.New(fault.UndoNone, args{"name": name}, "no apply of %s to %s can be taken back", name, termsafe.Quote(root))
	}
	return res, nil
}
