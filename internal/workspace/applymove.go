package workspace

import (
	"context"
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// belowMoves returns what tells whether a path is in a directory that edits rename.
func belowMoves(edits []*Edit) func(path string) bool {
	targets := make(map[string]bool)
	for _, e := range edits {
		if e.Op == Rename {
			targets[e.Path] = true
		}
	}
	return func(path string) bool {
		for dir := range upwards(path) {
			if dir != path && targets[dir] {
				return true
			}
		}
		return false
	}
}

// move renames directories on the host, with all that is in them there: also what the
// host has changed or made in them since. That stays what it is, and the edits of it
// judge it one by one.
func (a *applier) move(ctx context.Context, edits []*Edit) error {
	var pending []*Edit
	byPath := make(map[string]int)
	sources, targets := make(map[string]bool), make(map[string]bool) // of those that are pending
	for i, e := range edits {
		byPath[e.Path] = i
		if e.Op == Rename {
			pending = append(pending, e)
			sources[e.From], targets[e.Path] = true, true
		}
	}
	// First what makes room for others, as Diff has found an order.
	ready := func(e *Edit) bool {
		for q := range upwards(e.Path) {
			if q != e.Path && targets[q] {
				return false
			}
			if o := a.moves.origin(q); o != e.From && sources[o] && a.moves.where(o) == q {
				return false
			}
		}
		return true
	}
	for round := 0; len(pending) > 0; round++ {
		var waiting []*Edit
		for _, e := range pending {
			// Where there is no order, as when only some are to be applied, all is tried.
			if round <= maxRounds && !ready(e) {
				waiting = append(waiting, e)
				continue
			}
			if err := a.makeParents(ctx, e.Path, edits, byPath); err != nil {
				return err
			}
			err := a.moveOne(ctx, e)
			delete(sources, e.From)
			delete(targets, e.Path)
			if err != nil {
				a.unmoved[e.Path] = true
			}
			if err := a.settle(e, err); err != nil {
				return err
			}
		}
		if len(waiting) == len(pending) {
			round = maxRounds
		}
		pending = waiting
	}
	return nil
}

// makeParents makes the new directories that path is in.
func (a *applier) makeParents(ctx context.Context, path string, edits []*Edit, byPath map[string]int) error {
	above := slices.Collect(upwards(path))
	for _, dir := range slices.Backward(above[1:]) {
		i, ok := byPath[dir]
		if !ok || a.settled[i] || edits[i].Op != Add || edits[i].NewKind != Dir {
			continue
		}
		a.settled[i] = true
		if err := a.edit(ctx, edits[i], i); err != nil {
			return err
		}
	}
	return nil
}

// moveOne carries out a Rename.
func (a *applier) moveOne(ctx context.Context, e *Edit) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	old := a.Manifest.Find(e.From)
	if old == nil || old.Kind != Dir {
		return errors.New("a rename of what was not packed")
	}
	to, name, err := a.parent(e.Path)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	there, err := look(to, name)
	if err != nil {
		return err
	}
	from, oldName, err := a.parent(a.moves.where(e.From))
	if err == nil {
		defer unix.Close(from)
	}
	var now hostFile
	switch {
	case err == nil:
		if now, err = look(from, oldName); err != nil {
			return err
		}
	case err != conflictParent:
		return err
	}
	switch {
	case there.kind == Dir && there.id.Dev == old.ID.Dev && there.id.Ino == old.ID.Ino:
		// An interrupted Apply has done it.
	case now.kind == None:
		return conflictDeleted
	case there.kind != None:
		return conflictAdded
	case now.kind != Dir:
		return conflictChanged
	default:
		if err := a.rec.moving(a.moves.where(e.From), e.Path, now); err != nil {
			return err
		}
		if err := a.renameDir(from, oldName, a.moves.where(e.From), to, name, e.Path, now); err != nil {
			return err
		}
	}
	a.moves.add(e.From, e.Path)
	if e.OldMode == e.NewMode {
		return nil
	}
	return a.dirMode(e)
}

// renameDir renames the directory now; its new name is free.
func (a *applier) renameDir(from int, oldName, oldPath string, to int, name, path string, now hostFile) error {
	// A directory that gets another parent must itself be writable.
	if !a.asRoot && now.mode&0o200 == 0 && now.uid == os.Geteuid() {
		fd, err := openBeneath(from, oldName, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := a.unlock(fd, oldPath); err != nil {
			return err
		}
	}
	made, err := a.carry(oldPath, path)
	if err != nil {
		return err
	}
	err = unix.EINVAL
	if !a.plainRename {
		err = unix.Renameat2(from, oldName, to, name, unix.RENAME_NOREPLACE)
	}
	if err != nil && noFlags(err) {
		err = unix.Renameat(from, oldName, to, name) // replaces at most an empty directory
	}
	switch err {
	case nil:
		made()
	case unix.EXDEV:
		return conflictDevice
	case unix.EEXIST, unix.ENOTEMPTY, unix.ENOTDIR:
		return conflictAdded
	}
	return err
}
