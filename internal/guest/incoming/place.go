package incoming

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/sparse"
)

// change makes what is at a name into another. st is what a look at it said. Each name is
// old or new at every moment: what is new is made whole in another directory first.
func (s *syncer) change(dir int, name string, now wire.SyncState, st unix.Stat_t, to wire.SyncState, content *syncContent) error {
	switch {
	case to.Kind == "":
		return removeSame(dir, name, now, st)
	case to.Kind == wire.KindDir && now.Kind == wire.KindDir:
		return chmodDir(dir, name, to.Mode)
	}
	in, temp := s.made.beside(dir), tempName()
	err := makeTemp(in, temp, to, content)
	if err == nil {
		err = placeSame(in, temp, dir, name, now, st, to)
	}
	if err != nil {
		removeAny(in, temp)
	}
	return err
}

func chmodDir(dir int, name string, mode uint32) error {
	fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fchmod(fd, mode&0o777)
}

func makeTemp(dir int, temp string, to wire.SyncState, content *syncContent) error {
	switch to.Kind {
	case wire.KindSymlink:
		return unix.Symlinkat(string(to.Target), dir, temp)
	case wire.KindDir:
		if err := unix.Mkdirat(dir, temp, 0o700); err != nil {
			return err
		}
		return chmodDir(dir, temp, to.Mode)
	}
	fd, err := unix.Openat(dir, temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), temp)
	defer f.Close()
	w := sparse.NewWriter(f)
	if err := content.writeTo(w); err != nil {
		return err
	}
	if err := w.Finish(); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, to.Mode&0o777); err != nil {
		return err
	}
	return f.Close()
}

// placeSame gives what is new its name, if what is there is still what it was.
func placeSame(in int, temp string, dir int, name string, now wire.SyncState, st unix.Stat_t, to wire.SyncState) error {
	if now.Kind == "" {
		return unix.Renameat2(in, temp, dir, name, unix.RENAME_NOREPLACE)
	}
	if now.Kind != wire.KindDir {
		if !unchanged(dir, name, st) {
			return errOther
		}
		if to.Kind != wire.KindDir {
			return unix.Renameat(in, temp, dir, name)
		}
	} else if err := checkEmpty(dir, name); err != nil {
		return err
	}
	// A directory takes the place of a file or the other way round: no rename replaces these.
	err := unix.Renameat2(in, temp, dir, name, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EINVAL) { // a file system that knows no exchange of these
		if err := removeSame(dir, name, now, st); err != nil {
			return err
		}
		return unix.Renameat2(in, temp, dir, name, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		return err
	}
	if now.Kind == wire.KindDir {
		err = unix.Unlinkat(in, temp, unix.AT_REMOVEDIR)
	} else if err = errOther; sameFile(in, temp, st) {
		err = unix.Unlinkat(in, temp, 0)
	}
	if err != nil { // somebody wrote in just this moment
		back := unix.Renameat2(in, temp, dir, name, unix.RENAME_EXCHANGE)
		if back != nil {
			back = unix.Renameat2(in, temp, dir, name, unix.RENAME_NOREPLACE)
		}
		return errors.Join(err, back)
	}
	return nil
}

// removeSame removes what is at a name, if it is still what it was.
func removeSame(dir int, name string, now wire.SyncState, st unix.Stat_t) error {
	if now.Kind == wire.KindDir {
		return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	}
	if !unchanged(dir, name, st) {
		return errOther
	}
	return unix.Unlinkat(dir, name, 0)
}

// unchanged looks once more: whoever works in the guest may have written while a content
// came.
func unchanged(dir int, name string, before unix.Stat_t) bool {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Ino == before.Ino && st.Mode == before.Mode && st.Size == before.Size && st.Mtim == before.Mtim && st.Ctim == before.Ctim
}

// sameFile is unchanged for what was renamed since, which changes more than its content.
func sameFile(dir int, name string, before unix.Stat_t) bool {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode == before.Mode && st.Size == before.Size && st.Mtim == before.Mtim
}

// checkEmpty returns ENOTEMPTY for a directory in which something is.
func checkEmpty(dir int, name string) error {
	fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.EACCES) {
		return nil // its removal tells
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if names, _ := f.Readdirnames(1); len(names) > 0 {
		return unix.ENOTEMPTY
	}
	return nil
}
