package workspace

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/sparse"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// create makes the new directory or symbolic link of e under a temporary name.
// now is what it will replace.
func (a *applier) create(dir int, temp string, e *Edit, now hostFile) (err error) {
	switch e.NewKind {
	case Symlink:
		err = a.createLink(dir, temp, e, now)
	case Dir:
		err = a.createDir(dir, temp, e, now)
	default:
		return fmt.Errorf("a %v cannot be made", e.NewKind)
	}
	if err != nil {
		removeAt(dir, temp)
	}
	return err
}

func (a *applier) createLink(dir int, temp string, e *Edit, now hostFile) error {
	if err := unix.Symlinkat(e.NewTarget, dir, temp); err != nil || !a.asRoot {
		return err
	}
	fd, err := unix.Openat(dir, temp, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return giveAway(fd, dir, Symlink, now)
}

// giveAway makes what root has just made, and opened by its name, a file of the owner of
// now or of the directory dir. Who else may write to dir may have put something in its
// place meanwhile: of what is root's, only what is as new is given away.
func giveAway(fd, dir int, kind Kind, now hostFile) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	names := uint64(1)
	if kind == Dir {
		names = uint64(min(st.Nlink, 2)) // some file systems count directories in it
	}
	if kindOf(&st) != kind || int(st.Uid) != os.Geteuid() || uint64(st.Nlink) != names {
		return conflictAdded
	}
	if kind == Dir {
		d, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(d), ".")
		_, err = f.Readdirnames(1)
		f.Close()
		if err != io.EOF {
			return conflictAdded
		}
	}
	uid, gid, err := owner(dir, now)
	if err != nil {
		return err
	}
	return unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH)
}

// owner returns who is to own what takes the place of now: who owned that, or
// who owns the directory.
func owner(dir int, now hostFile) (uid, gid int, err error) {
	if now.kind != None {
		return now.uid, now.gid, nil
	}
	var st unix.Stat_t
	err = unix.Fstat(dir, &st)
	return int(st.Uid), int(st.Gid), err
}

// createFile writes the new file of e, which is to be called name, under a temporary name.
func (a *applier) createFile(ctx context.Context, dir int, temp, name string, e *Edit, now hostFile) (_ *os.File, err error) {
	content, err := a.content(e)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	fd, err := unix.Openat(dir, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), temp)
	defer func() {
		if err != nil {
			f.Close()
			removeAt(dir, temp)
		}
	}()
	if err := sparse.CopyFile(ctx, f, content.ReaderAt, e.NewSize); err != nil {
		return nil, err
	}
	uid, gid, err := owner(dir, now)
	if err != nil {
		return nil, err
	}
	if a.asRoot {
		if err := f.Chown(uid, gid); err != nil {
			return nil, err
		}
	} else if now.kind != None {
		f.Chown(-1, gid) // where the user is not a member of that group, the own one is right
	}
	if now.kind == File {
		if lost := keepAttributes(dir, name, now, f); len(lost) > 0 {
			a.note(e.Path, "without its extended attributes "+strings.Join(lost, ", "))
		}
	}
	if err := unix.Fchmod(fd, e.NewMode&0o777); err != nil {
		return nil, err
	}
	when := unix.NsecToTimespec(modTime(e, now, time.Now().UnixNano()))
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, procFD(fd), []unix.Timespec{when, when}, 0); err != nil {
		return nil, err
	}
	return f, nil
}

// modTime returns the guest's modification time for a file, unless it lies in
// the future or not after that of the file it replaces: a change that does not
// move the time would stay unseen by make, by backups and by whoever looks.
func modTime(e *Edit, now hostFile, clock int64) int64 {
	if e.MTime <= 0 || e.MTime > clock || now.kind == File && e.MTime <= now.id.MTime {
		return clock
	}
	return e.MTime
}

func (a *applier) createDir(dir int, temp string, e *Edit, now hostFile) error {
	if err := unix.Mkdirat(dir, temp, 0o700); err != nil {
		return err
	}
	fd, err := openBeneath(dir, temp, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if a.asRoot {
		if err := giveAway(fd, dir, Dir, now); err != nil {
			return err
		}
	}
	// Its children come next; finishDirs takes away what is too much.
	return chmodDir(fd, e.NewMode|0o700)
}

// chmodDir sets the permissions of a directory open with O_PATH. Its setgid
// and sticky bits are the host's and stay.
func chmodDir(fd int, mode uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	return chmodFD(fd, st.Mode&0o3000|mode&0o777)
}

// chmodFD is fchmod for what is open with O_PATH, where fchmod itself does not
// work.
func chmodFD(fd int, mode uint32) error {
	return unix.Chmod(procFD(fd), mode)
}

// procFD names an open file, also one that is open with O_PATH.
func procFD(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// removeAt removes a file or an empty directory.
func removeAt(dir int, name string) error {
	err := unix.Unlinkat(dir, name, 0)
	if err == unix.EISDIR || err == unix.EPERM {
		if err2 := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err2 != unix.ENOTDIR {
			return err2
		}
	}
	return err
}

// noFlags reports whether err says that a file system has no rename with
// flags, as NFS, or not for this directory, as overlayfs.
func noFlags(err error) bool {
	return err == unix.EINVAL || err == unix.ENOSYS || err == unix.EOPNOTSUPP || err == unix.EXDEV
}

// rename2 is renameat2 within one directory.
func (a *applier) rename2(dir int, from, to string, flags uint) error {
	if a.plainRename {
		return unix.EINVAL
	}
	return unix.Renameat2(dir, from, dir, to, flags)
}

// placeNew gives the temporary file its name, which must be free.
func (a *applier) placeNew(dir int, temp, name string, kind Kind) error {
	err := a.rename2(dir, temp, name, unix.RENAME_NOREPLACE)
	if noFlags(err) {
		if kind == Dir {
			err = unix.Renameat(dir, temp, dir, name) // replaces at most an empty directory
		} else if err = unix.Linkat(dir, temp, dir, name, 0); err == nil {
			err = unix.Unlinkat(dir, temp, 0)
		}
	}
	if err == nil {
		return nil
	}
	removeAt(dir, temp)
	if err == unix.EEXIST || err == unix.ENOTEMPTY || err == unix.ENOTDIR {
		return conflictAdded
	}
	return err
}

// placeOver puts the temporary file in the place of now. The two change places
// at once, and only then is what was there looked at again and removed: nothing
// that the host wrote between our first look and this moment is lost.
func (a *applier) placeOver(dir int, temp, name string, e *Edit, now hostFile) error {
	ours, err := look(dir, temp)
	if err == nil {
		err = a.rename2(dir, temp, name, unix.RENAME_EXCHANGE)
	}
	switch {
	case noFlags(err):
		return a.placeOverPlain(dir, temp, name, e, now)
	case err != nil:
		removeAt(dir, temp)
		if err == unix.ENOENT {
			err = conflictDeleted
		}
		return err
	}
	was, err := look(dir, temp)
	if err == nil && !was.same(now) {
		err = conflictChanged
	}
	if err == nil {
		err = emptied(removeAt(dir, temp))
	}
	if err == nil {
		return nil
	}
	if back := a.takeBack(dir, temp, name, ours); back != nil {
		return fmt.Errorf("%w; the host's own is now %s (%w)", err, termsafe.Quote(temp), back)
	}
	return err
}

// takeBack undoes the exchange of placeOver. The host may have replaced our
// new file by then, and the last that the host wrote is what must stay.
func (a *applier) takeBack(dir int, temp, name string, ours hostFile) error {
	err := a.rename2(dir, temp, name, unix.RENAME_EXCHANGE)
	if err == unix.ENOENT {
		return a.rename2(dir, temp, name, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		return err
	}
	last, err := look(dir, temp)
	if err == nil && !last.same(ours) {
		err = a.rename2(dir, temp, name, unix.RENAME_EXCHANGE)
	}
	if err != nil {
		return err
	}
	return removeAt(dir, temp)
}

// placeOverPlain is placeOver where names cannot be exchanged. There, a change
// by the host in the moment between the look and the rename is lost, and a
// directory and something else change places in two steps.
func (a *applier) placeOverPlain(dir int, temp, name string, e *Edit, now hostFile) error {
	again, err := look(dir, name)
	if err == nil && (!again.same(now) || again.id.CTime != now.id.CTime) && now.kind != Dir {
		err = conflictChanged
	}
	if err == nil && (now.kind == Dir) != (e.NewKind == Dir) {
		// One cannot be renamed over the other.
		if err = emptied(removeAt(dir, name)); err == nil {
			return a.placeNew(dir, temp, name, e.NewKind)
		}
	}
	if err == nil {
		err = unix.Renameat(dir, temp, dir, name)
	}
	if err != nil {
		removeAt(dir, temp)
	}
	return err
}

// remove deletes a name that is now. As in placeOver, a file is looked at once
// more when it is out of the way.
func (a *applier) remove(dir int, temp, name string, now hostFile) error {
	if now.kind == Dir {
		return emptied(unix.Unlinkat(dir, name, unix.AT_REMOVEDIR))
	}
	err := a.rename2(dir, name, temp, unix.RENAME_NOREPLACE)
	switch {
	case noFlags(err):
		return unix.Unlinkat(dir, name, 0)
	case err == unix.ENOENT:
		return nil // somebody else deleted it
	case err != nil:
		return err
	}
	was, err := look(dir, temp)
	if err == nil && !was.same(now) {
		err = conflictChanged
	}
	if err == nil {
		return unix.Unlinkat(dir, temp, 0)
	}
	if back := a.rename2(dir, temp, name, unix.RENAME_NOREPLACE); back != nil {
		return fmt.Errorf("%w; the host's own is now %s", err, termsafe.Quote(temp))
	}
	return err
}

// emptied explains the error of removing a directory.
func emptied(err error) error {
	switch err {
	case unix.ENOTEMPTY, unix.EEXIST:
		return conflictNotEmpty
	case unix.ENOENT:
		return nil
	}
	return err
}
