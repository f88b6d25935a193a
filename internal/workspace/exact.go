package workspace

import (
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/sparse"
)

// copyExactly copies what now is at name, without what is in a directory, to the free name
// to: with its mode, owner, times and extended attributes, as far as they may be set.
func copyExactly(ctx context.Context, dir int, name string, toDir int, to string, now hostFile) (err error) {
	from, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	if !asHostFile(&st).same(now) {
		return conflictChanged
	}
	switch now.kind {
	case Symlink:
		target, err := readlinkat(from, "")
		if err == nil {
			err = unix.Symlinkat(target, toDir, to)
		}
		if err != nil {
			return err
		}
	case Dir:
		if err := unix.Mkdirat(toDir, to, 0o700); err != nil {
			return err
		}
	case File:
		if err := copyContent(ctx, from, toDir, to, now.size); err != nil {
			return err
		}
	default:
		return fmt.Errorf("a %v cannot be kept", now.kind)
	}
	fd, err := unix.Openat(toDir, to, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		err = copyAttributes(from, fd, now)
		unix.Close(fd)
	}
	if err != nil {
		removeAt(toDir, to)
	}
	return err
}

// copyContent copies the regular file from, which is open with O_PATH.
func copyContent(ctx context.Context, from, toDir int, to string, size int64) (err error) {
	in, err := os.Open(procFD(from))
	if err != nil {
		return err
	}
	defer in.Close()
	fd, err := unix.Openat(toDir, to, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), to)
	defer out.Close()
	if err = sparse.CopyFile(ctx, out, in, size); err != nil {
		removeAt(toDir, to)
	}
	return err
}

// copyAttributes gives what is open as to all of from, both open with O_PATH, but for the
// content. Only what root alone could set may be missing then.
func copyAttributes(from, to int, now hostFile) error {
	if os.Geteuid() == 0 {
		if err := unix.Fchownat(to, "", now.uid, now.gid, unix.AT_EMPTY_PATH); err != nil {
			return err
		}
	} else {
		unix.Fchownat(to, "", -1, now.gid, unix.AT_EMPTY_PATH)
	}
	when := unix.NsecToTimespec(now.id.MTime)
	times := []unix.Timespec{when, when}
	if now.kind == Symlink {
		return unix.UtimesNanoAt(unix.AT_FDCWD, procFD(to), times, 0)
	}
	if list, err := attribute(func(p []byte) (int, error) { return unix.Listxattr(procFD(from), p) }); err == nil {
		withoutInherited(to, string(list))
		for attr := range strings.SplitSeq(string(list), "\x00") {
			if attr == "" {
				continue
			}
			value, err := attribute(func(p []byte) (int, error) { return unix.Getxattr(procFD(from), attr, p) })
			if err == nil {
				err = unix.Setxattr(procFD(to), attr, value, 0)
			}
			if err != nil && (strings.HasPrefix(attr, "user.") || attr == aclAccess || attr == aclDefault) {
				return fmt.Errorf("extended attribute %s: %w", attr, err)
			}
		}
	}
	if err := chmodFD(to, now.mode); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, procFD(to), times, 0)
}
