package workspace

import (
	"context"
	"slices"

	"golang.org/x/sys/unix"
)

// now returns where a path from after the renames is, after those that are taken back.
func (u *undoer) now(path string) string {
	for i := range u.back {
		m := &u.back[i]
		if to := string(m.To); path == to || below(path, to) {
			path = string(m.From) + path[len(to):]
		}
	}
	return path
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
	for _, m := range slices.Backward(u.rec.moves) {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		e := edits[string(m.To)]
		if e == nil {
			continue // it was not made
		}
		err := u.moveOneBack(m)
		if err == nil {
			u.back = append(u.back, m)
		}
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
	if there.kind == Dir && there.id.Dev == m.Dev && there.id.Ino == m.Ino {
		return nil
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
	return u.renameDir(from, oldName, to, name, string(m.From), now)
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
		if err := u.settleUndo(ctx, e, u.now(string(e.Path)), u.restoreDirMode); err != nil {
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
			u.setTime(u.now(string(e.Path)), 0, 0, e.Old.MTime)
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
