package workspace

import (
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// unfinished is a directory that has more permissions than it shall have, for
// as long as we work in it.
type unfinished struct {
	path string // where it is now
	mode uint32
	open uint32 // what it was given, if the journal has it: see [opened]
	id   Identity
}

// settleDirModes carries out the edits that only change a directory's mode, as
// far as they give permissions. They come first, since the others may need
// these; what must be taken away is left to finishDirs. wanted chooses among them.
func (a *applier) settleDirModes(edits []*Edit, wanted func(*Edit) bool) error {
	for _, e := range edits {
		if e.changesDirMode() && wanted(e) {
			if err := a.settle(e, a.dirMode(e)); err != nil {
				return err
			}
		}
	}
	return nil
}

// unlock lets us work in an open directory of our own without write permission:
// Go's module cache, for one, is full of them.
func (a *applier) unlock(dir int, path string) error {
	if a.asRoot {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return err
	}
	if st.Mode&0o300 == 0o300 || int(st.Uid) != os.Geteuid() {
		return nil
	}
	u := unfinished{path, st.Mode & 0o777, st.Mode&0o777 | 0o300, identity(&st)}
	if err := a.journal.note(u.opened(path)); err != nil {
		return err
	}
	a.unfinished = append(a.unfinished, u)
	return chmodDir(dir, u.open)
}

func (u *unfinished) opened(path string) opened {
	return opened{u.mode, u.open, u.id.Dev, u.id.Ino, path}
}

// carry is told of a rename that is about to be made, and has the journal know where it
// brings what is open. What it returns is called once it is made.
func (a *applier) carry(from, to string) (made func(), err error) {
	var us []*unfinished
	for i := range a.unfinished {
		if u := &a.unfinished[i]; u.path == from || below(u.path, from) {
			us = append(us, u)
		}
	}
	slices.SortStableFunc(us, func(x, y *unfinished) int { return comparePaths(x.path, y.path) })
	for _, u := range us {
		if u.open == 0 {
			continue
		}
		if err := a.journal.note(u.opened(to + u.path[len(from):])); err != nil {
			return nil, err
		}
	}
	return func() {
		for _, u := range us {
			u.path = to + u.path[len(from):]
		}
	}, nil
}

// unlockAbove is unlock for a directory and those above it, which a machine may have made
// such that nobody gets through.
func (a *applier) unlockAbove(path string) error {
	for i := range len(path) + 1 {
		if i < len(path) && path[i] != '/' {
			continue
		}
		fd, err := openBeneath(a.root, path[:i], unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		err = a.unlock(fd, path[:i])
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *Edit) changesDirMode() bool {
	return e.Op == Modify && e.OldKind == Dir && e.NewKind == Dir
}

// dirMode carries out an edit of a directory's mode.
func (a *applier) dirMode(e *Edit) error {
	return a.changeDir(e.Path, func(now hostFile) (uint32, error) {
		was := now.mode & 0o777
		ours := func(u unfinished) bool {
			return u.path == e.Path && u.id.Dev == now.id.Dev && u.id.Ino == now.id.Ino
		}
		if i := slices.IndexFunc(a.unfinished, ours); i >= 0 {
			was = a.unfinished[i].mode // before it was opened
		}
		if a.rec != nil && was != e.NewMode {
			if _, ok := a.rec.todo[e]; !ok {
				return 0, conflictChanged
			}
		}
		switch open := e.NewMode | 0o700; was {
		case e.OldMode, e.NewMode, open: // the last is what an interrupted Apply leaves
			a.unfinished = slices.DeleteFunc(a.unfinished, ours)
			if open != e.NewMode {
				a.unfinished = append(a.unfinished, unfinished{path: e.Path, mode: e.NewMode, id: now.id})
			}
			return open, nil
		}
		return 0, conflictChanged
	})
}

// changeDir gives a directory the mode that decide returns.
func (a *applier) changeDir(path string, decide func(now hostFile) (uint32, error)) error {
	fd, err := openBeneath(a.root, path, unix.O_PATH|unix.O_DIRECTORY)
	switch {
	case errors.Is(err, unix.ENOENT):
		return conflictDeleted
	case errors.Is(err, unix.ENOTDIR):
		return conflictChanged
	case errors.Is(err, unix.ELOOP):
		return conflictSymlink
	case err != nil:
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	mode, err := decide(asHostFile(&st))
	if err != nil || mode&0o777 == st.Mode&0o777 {
		return err
	}
	return chmodDir(fd, mode)
}

// finishDirs gives the directories that were opened for our work their final
// modes, the inner ones first.
func (a *applier) finishDirs() {
	slices.SortStableFunc(a.unfinished, func(x, y unfinished) int { return comparePaths(x.path, y.path) })
	for _, u := range slices.Backward(a.unfinished) {
		err := a.changeDir(u.path, func(now hostFile) (uint32, error) {
			if now.id.Dev != u.id.Dev || now.id.Ino != u.id.Ino {
				return now.mode, nil // another one by now
			}
			return u.mode, nil
		})
		if err != nil && err != conflictDeleted && err != conflictChanged && err != conflictSymlink {
			a.result.Conflicts = append(a.result.Conflicts, Conflict{u.path, "its mode could not be set: " + err.Error()})
		}
	}
	a.unfinished = nil
}

// syncDirs makes all renames and deletions in the directories durable.
func (a *applier) syncDirs(dirs []string) error {
	for _, dir := range dirs {
		fd, err := openBeneath(a.root, dir, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			continue // deleted, or one that we may write but not read
		}
		err = unix.Fsync(fd)
		unix.Close(fd)
		if err != nil && err != unix.EINVAL { // EINVAL: this file system has no such thing
			return err
		}
	}
	return nil
}
