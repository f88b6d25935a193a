package workspace

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// findMoves finds out which renames are taken back already, by an Undo that was interrupted,
// and forgets edits of renames that an interrupted Apply has not come to.
func (u *undoer) findMoves() error {
	u.back = make([]bool, len(u.rec.moves))
	done := make(map[string]bool)
	for i := range u.rec.moves {
		m := &u.rec.moves[i]
		done[string(m.To)] = true
		path, _ := u.before(string(m.From), i)
		is, err := u.isDir(path, m.Dev, m.Ino)
		if err != nil {
			return err
		}
		u.back[i] = is
	}
	var never [][2]uint64
	var renamed []string
	for i := range u.rec.edits {
		e := &u.rec.edits[i]
		if e.Op != Rename.String() {
			continue
		}
		renamed = append(renamed, string(e.Path))
		if done[string(e.Path)] {
			continue
		}
		// An Apply before this one may have made it.
		is, err := u.isDir(string(e.Path), e.Old.Dev, e.Old.Ino)
		if err != nil {
			return err
		}
		if !is {
			never = append(never, [2]uint64{e.Old.Dev, e.Old.Ino})
		}
	}
	if len(never) == 0 {
		return nil
	}
	// Before the renames come modes of directories, and new ones that others are moved into.
	var err error
	u.rec.edits = slices.DeleteFunc(u.rec.edits, func(e undoEdit) bool {
		path := string(e.Path)
		if e.InPlace {
			return e.Op == Rename.String() && !done[path]
		}
		if e.New.Kind != Dir || !slices.ContainsFunc(renamed, func(to string) bool { return below(to, path) }) {
			return true
		}
		for _, id := range never {
			is, e := u.isDir(path, id[0], id[1])
			if err = errors.Join(err, e); is {
				return true
			}
		}
		return false
	})
	return err
}

// isDir reports whether this directory is at path.
func (u *undoer) isDir(path string, dev, ino uint64) (bool, error) {
	dir, name, err := u.parent(path)
	if err != nil {
		return false, nil
	}
	defer unix.Close(dir)
	now, err := look(dir, name)
	return now.kind == Dir && now.id.Dev == dev && now.id.Ino == ino, err
}

// now returns where a path from after the renames is, after those that are taken back. It is
// nowhere if its place is now that of a directory from before.
func (u *undoer) now(path string) (now string, there bool) { return u.before(path, len(u.rec.moves)) }

// before is now for a path from before the i-th rename.
func (u *undoer) before(path string, i int) (now string, there bool) {
	there = true
	for i--; i >= 0; i-- {
		if !u.back[i] {
			continue
		}
		from, to := string(u.rec.moves[i].From), string(u.rec.moves[i].To)
		switch {
		case path == to || below(path, to):
			path, there = from+path[len(to):], true
		case path == from || below(path, from):
			there = false
		}
	}
	return path, there
}

// where returns where a path from before the renames is after them.
func (r *undoRecord) where(path string) string {
	for i := range r.moves {
		m := &r.moves[i]
		if from := string(m.From); path == from || below(path, from) {
			path = string(m.To) + path[len(from):]
		}
	}
	return path
}

// moveBack takes the renames back, the last first.
func (u *undoer) moveBack(ctx context.Context) error {
	edits := make(map[string]*undoEdit)
	for i := range u.rec.edits {
		if e := &u.rec.edits[i]; e.Op == Rename.String() {
			edits[string(e.Path)] = e
		}
	}
	for i, m := range slices.Backward(u.rec.moves) {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		e := edits[string(m.To)]
		if e == nil || u.back[i] {
			continue // it was not made, or is taken back
		}
		err := u.moveOneBack(m)
		u.back[i] = err == nil
		if err := u.book(e, string(e.Path), err); err != nil {
			return err
		}
	}
	return nil
}

func (u *undoer) moveOneBack(m undoMove) error {
	to, name, err := u.parent(string(m.From))
	if err != nil {
		return err
	}
	defer unix.Close(to)
	there, err := look(to, name)
	if err != nil {
		return err
	}
	if there.kind == Dir && u.addedDirs[[2]uint64{there.id.Dev, there.id.Ino}] && u.remove(to, "", name, there) == nil {
		there = hostFile{}
	}
	from, oldName, err := u.parent(string(m.To))
	if err != nil {
		return err
	}
	defer unix.Close(from)
	now, err := look(from, oldName)
	switch {
	case err != nil:
		return err
	case now.kind != Dir || now.id.Dev != m.Dev || now.id.Ino != m.Ino:
		return undoChanged
	case there.kind != None:
		return undoTaken
	}
	return u.renameDir(from, oldName, string(m.To), to, name, string(m.From), now)
}

// findUntouched finds directories whose times nobody has moved on since the Apply.
func (u *undoer) findUntouched() {
	u.untouched = make(map[string]bool)
	for _, d := range u.rec.dirs {
		path := string(d.Path)
		after, ok := u.rec.after[path]
		fd, err := openBeneath(u.root, u.rec.where(path), unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		unix.Close(fd)
		u.untouched[path] = ok && err == nil && st.Ino == d.Ino && unix.TimespecToNsec(st.Mtim) == after.MTime
	}
}

// restoreDirs gives directories the modes and times that they had.
func (u *undoer) restoreDirs(ctx context.Context) error {
	for i := range u.rec.edits {
		e := &u.rec.edits[i]
		if !e.InPlace || e.Old.Kind != Dir {
			continue
		}
		if err := u.settleUndo(ctx, e, u.restoreDirMode); err != nil {
			return err
		}
	}
	if !u.rec.ended {
		u.relock()
	}
	for _, d := range u.rec.dirs {
		if u.untouched[string(d.Path)] {
			u.setTime(string(d.Path), d.Dev, d.Ino, d.MTime)
		}
	}
	// Those that were deleted are made anew, with the times that they had.
	for i := range u.rec.edits {
		if e := &u.rec.edits[i]; e.Old.Kind == Dir && !e.InPlace && !u.refused[e.N] {
			if path, there := u.now(string(e.Path)); there {
				u.setTime(path, 0, 0, e.Old.MTime)
			}
		}
	}
	return nil
}

func (u *undoer) restoreDirMode(_ context.Context, dir int, name string, e *undoEdit) error {
	now, err := look(dir, name)
	if err != nil {
		return err
	}
	mode := now.mode & 0o777
	switch {
	case now.kind == None:
		return undoDeleted
	case now.kind != Dir || now.id.Dev != e.Old.Dev || now.id.Ino != e.Old.Ino:
		return undoChanged
	case mode == e.Old.Mode&0o777:
		return nil
	case mode != e.New.Mode && mode != e.New.Mode|0o700:
		return undoChanged
	}
	fd, err := openBeneath(dir, name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return chmodDir(fd, e.Old.Mode)
}

// relock takes from directories the permissions that an interrupted Apply gave them for its
// work.
func (u *undoer) relock() {
	for _, d := range u.rec.dirs {
		u.changeDir(string(d.Path), func(now hostFile) (uint32, error) {
			if now.id.Dev == d.Dev && now.id.Ino == d.Ino && now.mode != d.Mode && now.mode == d.Mode|0o300 {
				return d.Mode, nil
			}
			return now.mode, nil
		})
	}
}

// setTime sets the modification time of a directory, which is the one of that number unless
// that is 0. A directory that is not there needs none.
func (u *undoer) setTime(path string, dev, ino uint64, mtime int64) {
	fd, err := openBeneath(u.root, path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || ino != 0 && (st.Ino != ino || uint64(st.Dev) != dev) {
		return
	}
	when := unix.NsecToTimespec(mtime)
	unix.UtimesNanoAt(unix.AT_FDCWD, procFD(fd), []unix.Timespec{{Nsec: unix.UTIME_OMIT}, when}, 0)
}
