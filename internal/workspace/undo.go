package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/sparse"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

const (
	undoChanged = conflictError("changed since it was applied")
	undoDeleted = conflictError("deleted since it was applied")
	undoTaken   = conflictError("something else of that name was made since")
	undoHolds   = conflictError("it holds files that were made since")
)

// Undo takes an Apply back, and returns how many changes are as before it.
//
// What was replaced or deleted gets its place again: the same file, where the record is on
// the file system of the workspace, else one that is equal to it in all that a user sees. A
// path that is neither as the Apply has left it nor as it was before is a conflict and stays
// as it is. As Apply does, Undo changes each path in one step, and looks again at what it
// has taken out before it removes it. One that was interrupted can be repeated, and so can
// that of an Apply which was. Once all is taken back the record is gone.
func Undo(ctx context.Context, rec UndoRecord) (Result, error) {
	log, err := lockJournal(filepath.Join(rec.dir, undoLog), os.O_RDONLY)
	if err != nil {
		return Result{}, err
	}
	defer log.Close()
	r, err := parseUndoLog(log)
	if err != nil {
		return Result{}, err
	}
	// What a killed Apply has left in the workspace.
	if err := CleanJournal(string(r.head.Journal)); err != nil {
		return Result{}, err
	}
	u := &undoer{
		applier: newApplier(Application{Dir: string(r.head.Root), Journal: filepath.Join(rec.dir, "journal")}),
		rec:     r, kept: rec.dir, refused: make(map[int]bool),
		addedDirs: make(map[[2]uint64]bool), groups: make(map[[2]uint64]string),
	}
	err = u.run(ctx)
	res := u.result
	slices.SortFunc(res.Conflicts, func(x, y Conflict) int { return comparePaths(x.Path, y.Path) })
	if err == nil && len(res.Conflicts) == 0 {
		err = removeUndo(rec.dir)
	}
	if err != nil {
		return res, fmt.Errorf("take the changes to %s back: %w", termsafe.Quote(u.Dir), err)
	}
	return res, nil
}

// undoer is one run of Undo.
type undoer struct {
	*applier
	rec       *undoRecord
	kept      string // the directory of the record
	keptFD    int
	refused   map[int]bool
	addedDirs map[[2]uint64]bool   // that hold something still, by device and number
	back      []bool               // which renames are taken back
	groups    map[[2]uint64]string // copies that were restored, by what they were copied from
	untouched map[string]bool      // directories in which only the Apply has changed something
}

func (u *undoer) run(ctx context.Context) (err error) {
	u.root, err = unix.Open(u.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(u.root)
	if u.keptFD, err = unix.Open(u.kept, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	defer unix.Close(u.keptFD)
	parents := u.parents()
	u.journal, err = startJournal(u.Journal, u.Dir, parents)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	defer func() { err = errors.Join(err, u.journal.end()) }()
	defer u.finishDirs()
	if err := u.findMoves(); err != nil {
		return err
	}
	u.findUntouched()

	// What was added goes first, from the leaves up, then what was there comes back, from
	// the root down. Then the renames are taken back.
	for i := len(u.rec.edits) - 1; i >= 0; i-- {
		if e := &u.rec.edits[i]; !e.InPlace && e.New.Kind != None && (e.Old.Kind == None || e.New.Kind == Dir) {
			if err := u.settleUndo(ctx, e, u.removeOrReplace); err != nil {
				return err
			}
		}
	}
	for i := range u.rec.edits {
		if e := &u.rec.edits[i]; e.Old.Kind != None && e.Old.Kind != Dir && e.InPlace || !e.InPlace && e.Old.Kind != None && (e.New.Kind == None || e.New.Kind != Dir) {
			if err := u.settleUndo(ctx, e, u.restore); err != nil {
				return err
			}
		}
	}
	u.finishDirs()
	if err := u.moveBack(ctx); err != nil {
		return err
	}
	for i := len(u.rec.edits) - 1; i >= 0; i-- {
		if e := &u.rec.edits[i]; !e.InPlace && e.New.Kind == Dir {
			if err := u.settleUndo(ctx, e, u.removeLeft); err != nil {
				return err
			}
		}
	}
	u.finishDirs()
	if err := u.restoreDirs(ctx); err != nil {
		return err
	}
	if err := u.syncDirs(parents); err != nil {
		return err
	}
	for i := range u.rec.edits {
		if e := &u.rec.edits[i]; !e.Implied && !u.refused[e.N] {
			u.result.Applied++
		}
	}
	return u.forget()
}

// parents returns all directories in which something may be made for a moment.
func (u *undoer) parents() []string {
	var ps []string
	add := func(p string) {
		parent, _ := splitPath(p)
		ps = append(ps, parent)
	}
	for i := range u.rec.edits {
		add(string(u.rec.edits[i].Path))
	}
	for _, m := range u.rec.moves {
		add(string(m.From))
		add(string(m.To))
	}
	for _, d := range u.rec.dirs {
		ps = append(ps, string(d.Path))
	}
	slices.Sort(ps)
	return slices.Compact(ps)
}

// settleUndo does one thing for an edit, at the place where it is now.
func (u *undoer) settleUndo(ctx context.Context, e *undoEdit, do func(ctx context.Context, dir int, name string, e *undoEdit) error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	path, there := u.now(string(e.Path))
	if u.refused[e.N] || !there {
		return nil
	}
	dir, name, err := u.parent(path)
	switch {
	case err == nil:
		err = do(ctx, dir, name, e)
		unix.Close(dir)
	case err == conflictParent && e.Old.Kind == None:
		err = nil // gone with its directory
	}
	return u.book(e, path, err)
}

// book notes what is refused, and returns errors that end all.
func (u *undoer) book(e *undoEdit, path string, err error) error {
	switch err {
	case nil:
		return nil
	case conflictChanged:
		err = undoChanged
	case conflictDeleted:
		err = undoDeleted
	case conflictAdded:
		err = undoTaken
	case conflictNotEmpty:
		err = undoHolds
	}
	u.refused[e.N] = true
	return u.settle(&Edit{Path: path, Implied: true}, err)
}

// isApplied reports whether now, at name, is what the Apply made.
func (u *undoer) isApplied(ctx context.Context, dir int, name string, now hostFile, e *undoEdit) (bool, error) {
	if now.kind != e.New.Kind {
		return false, nil
	}
	switch now.kind {
	case Symlink:
		target, err := readlinkat(dir, name)
		return target == string(e.New.Target), err
	case File:
		if now.mode != e.New.Mode || now.size != e.New.Size {
			return false, nil
		}
		path, _ := u.now(string(e.Path))
		f, err := u.openToRead(dir, name, path, now)
		if err != nil {
			return false, err
		}
		defer f.Close()
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil || !asHostFile(&st).same(now) {
			return false, err
		}
		sum, err := sparse.SumOf(ctx, f, now.size)
		return string(sum[:]) == string(e.New.Sum), err
	}
	return true, nil
}

// isBefore reports whether now is what was there before, and has its place again or still.
func (u *undoer) isBefore(now hostFile, e *undoEdit) bool {
	if now.kind != e.Old.Kind {
		return false
	}
	if now.kind == Dir || now.mode == e.Old.Mode && now.size == e.Old.Size && now.id.MTime == e.Old.MTime {
		return true
	}
	// It may have been written to since.
	number := strconv.Itoa(e.N)
	for _, name := range []string{number, number + undoLink} {
		kept, err := look(u.keptFD, name)
		if err == nil && kept.kind == now.kind && kept.id.Dev == now.id.Dev && kept.id.Ino == now.id.Ino {
			return true
		}
	}
	return false
}

// removeOrReplace takes out what was added, or a directory that took something's place.
func (u *undoer) removeOrReplace(ctx context.Context, dir int, name string, e *undoEdit) error {
	if e.Old.Kind != None {
		err := u.restore(ctx, dir, name, e)
		if err == conflictNotEmpty && len(u.rec.moves) > 0 {
			return nil // again once the renames are taken back
		}
		return err
	}
	now, err := look(dir, name)
	if err != nil || now.kind == None {
		return err
	}
	same, err := u.isApplied(ctx, dir, name, now, e)
	if err != nil {
		return err
	}
	if !same {
		return undoChanged
	}
	err = u.remove(dir, u.journal.temp(e.N), name, now)
	if now.kind == Dir && err == conflictNotEmpty {
		// What was moved into it leaves it later.
		u.addedDirs[[2]uint64{now.id.Dev, now.id.Ino}] = true
		return nil
	}
	return err
}

// removeLeft is removeOrReplace for directories that held something before.
func (u *undoer) removeLeft(ctx context.Context, dir int, name string, e *undoEdit) error {
	if e.Old.Kind != None {
		return u.restore(ctx, dir, name, e)
	}
	now, err := look(dir, name)
	if err != nil || now.kind != Dir || !u.addedDirs[[2]uint64{now.id.Dev, now.id.Ino}] {
		return err
	}
	return u.remove(dir, "", name, now)
}

// restore gives what was there its place again.
func (u *undoer) restore(ctx context.Context, dir int, name string, e *undoEdit) error {
	now, err := look(dir, name)
	if err != nil {
		return err
	}
	switch {
	case e.InPlace:
		return u.restoreMode(dir, name, now, e)
	case u.isBefore(now, e):
		return nil
	case e.New.Kind == None && now.kind != None:
		return undoTaken
	case e.New.Kind != None && now.kind == None:
		return undoDeleted
	}
	if same, err := u.isApplied(ctx, dir, name, now, e); err != nil {
		return err
	} else if !same {
		return undoChanged
	}
	temp := u.journal.temp(e.N)
	if err := u.takeOut(ctx, dir, temp, e); err != nil {
		return err
	}
	return u.place(dir, temp, name, &Edit{Path: string(e.Path), NewKind: e.Old.Kind}, now)
}

func (u *undoer) restoreMode(dir int, name string, now hostFile, e *undoEdit) error {
	switch {
	case now.kind == None:
		return undoDeleted
	case now.kind != e.Old.Kind || now.id.Dev != e.Old.Dev || now.id.Ino != e.Old.Ino:
		return undoChanged
	case now.mode == e.Old.Mode:
		return nil
	case now.mode != e.New.Mode:
		return undoChanged
	}
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if !asHostFile(&st).same(now) {
		return undoChanged
	}
	return chmodFD(fd, e.Old.Mode)
}

// takeOut makes what was kept of e the file temp: another name of it, or a copy.
func (u *undoer) takeOut(ctx context.Context, dir int, temp string, e *undoEdit) error {
	number := strconv.Itoa(e.N)
	// With other names, it is that file again unless it was written to through these.
	name := number + undoLink
	linked, err := look(u.keptFD, name)
	if err != nil {
		return err
	}
	if linked.kind != e.Old.Kind || linked.mode != e.Old.Mode || linked.size != e.Old.Size || linked.id.MTime != e.Old.MTime {
		name = number
	}
	now, err := look(u.keptFD, name)
	if err != nil {
		return err
	}
	if now.kind != e.Old.Kind {
		return conflictError("what it was is not in the record any more")
	}
	key := [2]uint64{e.Old.Dev, e.Old.Ino}
	if now.kind == Dir {
		return copyExactly(ctx, u.keptFD, name, dir, temp, now)
	}
	if linked.kind != None && name == number {
		u.note(string(e.Path), "a file of its own now, because its other hard link changed since")
	}
	if err := unix.Linkat(u.keptFD, name, dir, temp, 0); err == nil {
		return nil
	}
	if first, ok := u.groups[key]; ok && u.linkAgain(first, dir, temp, now) {
		return nil
	}
	if other, there := u.now(string(e.Old.Other)); len(e.Old.Other) > 0 && there && u.isFile(other, key) && u.linkAgain(other, dir, temp, now) {
		return nil
	}
	if err := copyExactly(ctx, u.keptFD, name, dir, temp, now); err != nil {
		return err
	}
	if now.kind == File {
		u.groups[key], _ = u.now(string(e.Path))
		fd, err := unix.Openat(dir, temp, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Fsync(fd)
			unix.Close(fd)
		}
		if err != nil && err != unix.EACCES { // of a file that may not be written to
			removeAt(dir, temp)
			return err
		}
	}
	return nil
}

// isFile reports whether a path is a name of a file that was in the workspace.
func (u *undoer) isFile(path string, id [2]uint64) bool {
	parent, name := splitPath(path)
	dir, err := openBeneath(u.root, parent, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	defer unix.Close(dir)
	now, err := look(dir, name)
	return err == nil && now.kind == File && now.id.Dev == id[0] && now.id.Ino == id[1]
}

// linkAgain makes temp another name of the restored file first, which had it before.
func (u *undoer) linkAgain(first string, dir int, temp string, now hostFile) bool {
	parent, name := splitPath(first)
	from, err := openBeneath(u.root, parent, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	defer unix.Close(from)
	there, err := look(from, name)
	if err != nil || there.kind != File || there.size != now.size || there.id.MTime != now.id.MTime || there.mode != now.mode {
		return false
	}
	return unix.Linkat(from, name, dir, temp, 0) == nil
}

// forget removes what was kept of what has its place again.
func (u *undoer) forget() error {
	for i := range u.rec.edits {
		e := &u.rec.edits[i]
		if u.refused[e.N] || e.Old.Kind == None || e.InPlace {
			continue
		}
		number := strconv.Itoa(e.N)
		for _, name := range []string{number, number + undoLink} {
			if err := removeAt(u.keptFD, name); err != nil && err != unix.ENOENT {
				return err
			}
		}
	}
	return atomicfile.Sync(u.kept)
}
