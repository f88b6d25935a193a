package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/commits"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// movedRefs is what the last apply to a directory did to references. It is written before
// that is done, and stays after an undo: what was taken back may be wanted again.
type movedRefs struct {
	Name  string    `json:"name"` // of the machine
	Root  string    `json:"root"`
	Time  time.Time `json:"time"`
	Moves []movedIn `json:"moves"`
	Tips  []string  `json:"tips"` // commits of the machine's that were brought
	Back  bool      `json:"back,omitempty"`
	// Begun are commits of machines' whose apply has not come to its end, as after a kill: they
	// may be nowhere, or on a branch of the machine's only.
	Begun []string `json:"begun,omitempty"`
}

// movedIn is a reference of the repository whose working tree has the directory Dir of the host.
type movedIn struct {
	Dir string `json:"dir"`
	commits.Moved
}

// movedRefsFile is where that of the directory root is.
func (e *Engine) movedRefsFile(root string) string {
	sum := sha256.Sum256([]byte(root))
	return filepath.Join(e.dirs.State, "undo-refs", hex.EncodeToString(sum[:16])+".json")
}

// movedRefs returns the record of a directory, an empty one if there is none.
func (e *Engine) movedRefs(root string) (r movedRefs, err error) {
	err = state.ReadJSON(e.movedRefsFile(root), &r)
	if errors.Is(err, fs.ErrNotExist) || r.Root != root || len(r.Moves) > commits.MaxMoved {
		return movedRefs{}, nil
	}
	return r, err
}

func (e *Engine) writeMovedRefs(r movedRefs) error {
	name := e.movedRefsFile(r.Root)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return state.WriteJSON(name, r)
}

// again returns the commits of machines' that an undo took back, or that an apply was to bring
// that has not come to its end. Where that has made branches in the repository in dir, landed has
// them: the next apply goes on from there.
func (e *Engine) again(root, dir string) (ids map[string]bool, landed map[string]string) {
	r, err := e.movedRefs(root)
	if err != nil {
		return nil, nil
	}
	ids, landed = make(map[string]bool), make(map[string]string)
	for _, id := range r.Begun {
		ids[id] = true
	}
	if r.Back {
		for _, id := range r.Tips {
			ids[id] = true
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	for _, m := range r.Moves {
		if m.Dir == filepath.Join(root, dir) && commits.OfMachine(m.Ref) && m.New != "" {
			landed[m.Ref] = m.New
		}
	}
	return ids, landed
}

// recordMoves has what an apply does to references recorded, in place of what the one before
// did. It returns what records that the apply has come to its end.
func (c *Changes) recordMoves() (end func() error, err error) {
	root := c.manifest.Root
	before, err := c.machine.e.movedRefs(root)
	if err != nil {
		return nil, err
	}
	if !c.lands() {
		end = func() error { return nil }
		if len(before.Begun) > 0 {
			return end, nil // what was begun is still to be brought
		}
		if err = os.Remove(c.machine.e.movedRefsFile(root)); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return end, err
	}
	record := movedRefs{Name: c.machine.Name(), Root: root, Time: time.Now()}
	if len(before.Begun) > 0 && before.Name == record.Name && !before.Back && len(before.Moves) < commits.MaxMoved/2 {
		record.Moves = before.Moves // an undo takes both back
	}
	for _, r := range c.Committed {
		if r.Err != nil {
			continue
		}
		for _, b := range r.Branches {
			record.Tips = append(record.Tips, b.Sent)
		}
		r.repo.Record = func(moves []commits.Moved) error {
			for _, m := range moves {
				record.Moves = append(record.Moves, movedIn{filepath.Join(root, r.Dir), m})
			}
			return c.machine.e.writeMovedRefs(record)
		}
	}
	others := slices.DeleteFunc(before.Begun, func(id string) bool { return slices.Contains(record.Tips, id) })
	others = others[max(0, len(others)-commits.MaxMoved):]
	record.Begun = slices.Concat(others, record.Tips)
	return func() error {
		record.Begun = others
		return c.machine.e.writeMovedRefs(record)
	}, c.machine.e.writeMovedRefs(record)
}

// goesOn reports whether the last apply of the machine to its directory was killed once it had
// applied files.
func (c *Changes) goesOn() bool {
	r, err := c.machine.e.movedRefs(c.manifest.Root)
	if err != nil || len(r.Begun) == 0 || r.Back || r.Name != c.machine.Name() {
		return false
	}
	last, err := c.machine.e.LastApply(r.Name)
	return err == nil && last.Root == r.Root && last.Time.After(r.Time)
}

// lands reports whether an apply makes branches or moves them on.
func (c *Changes) lands() bool {
	return c.Commits && slices.ContainsFunc(c.Committed, func(r *Committed) bool { return r.Err == nil && len(r.Branches) > 0 })
}

// undoMoves takes back what the last apply of the machine name did to references, and tells of
// each. found is false if it did nothing.
func (e *Engine) undoMoves(ctx context.Context, name, root string, res *workspace.Result) (found bool, err error) {
	r, err := e.movedRefs(root)
	if err != nil || r.Name != name || len(r.Moves) == 0 || r.Back {
		return false, err
	}
	of := make(map[string][]commits.Moved)
	for _, m := range r.Moves {
		of[m.Dir] = append(of[m.Dir], m.Moved)
	}
	clean := true
	for _, dir := range slices.Sorted(maps.Keys(of)) {
		back, left, err := e.takeBack(ctx, dir, of[dir])
		if err != nil {
			return true, fmt.Errorf("take branches back: %w", err)
		}
		for _, ref := range back {
			res.Notes = append(res.Notes, workspace.Note{Text: refWords(ref) + " is as before"})
		}
		for _, ref := range slices.Sorted(maps.Keys(left)) {
			clean = false
			res.Conflicts = append(res.Conflicts, workspace.Conflict{Path: refWords(ref), Why: left[ref]})
		}
	}
	if r.Back = clean; !clean {
		return true, nil
	}
	return true, e.writeMovedRefs(r)
}

// refWords names a reference for people.
func refWords(ref string) string {
	branch, ok := strings.CutPrefix(ref, "refs/heads/")
	if !ok {
		return ref
	}
	return "branch " + branch
}

func (e *Engine) takeBack(ctx context.Context, dir string, moves []commits.Moved) ([]string, map[string]string, error) {
	temp, err := os.MkdirTemp(filepath.Dir(e.movedRefsFile(dir)), ".view-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(temp)
	repo, err := commits.Open(ctx, dir, temp)
	if err != nil {
		return nil, nil, err
	}
	defer repo.Close()
	return repo.TakeBack(ctx, moves)
}

// withMoves adds to the applies that can be taken back those that changed references only.
func (e *Engine) withMoves(recs []workspace.UndoRecord) []workspace.UndoRecord {
	files, _ := filepath.Glob(filepath.Join(e.dirs.State, "undo-refs", "*.json"))
	for _, name := range files {
		var r movedRefs
		if err := state.ReadJSON(name, &r); err != nil || r.Back || len(r.Moves) == 0 {
			continue
		}
		if !slices.ContainsFunc(recs, func(w workspace.UndoRecord) bool { return w.Root == r.Root && w.Name == r.Name }) {
			recs = append(recs, workspace.UndoRecord{Name: r.Name, Root: r.Root, Time: r.Time, Ended: true})
		}
	}
	slices.SortStableFunc(recs, func(a, b workspace.UndoRecord) int { return b.Time.Compare(a.Time) })
	return recs
}

// collectMoves removes records that are older than limit, and what a kill has left.
func (e *Engine) collectMoves(limit time.Time) error {
	names, err := os.ReadDir(filepath.Join(e.dirs.State, "undo-refs"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, d := range names {
		if fi, err := d.Info(); err == nil && fi.ModTime().Before(limit) {
			errs = append(errs, os.RemoveAll(filepath.Join(e.dirs.State, "undo-refs", d.Name())))
		}
	}
	return errors.Join(errs...)
}
