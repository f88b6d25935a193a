package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/sparse"
)

// lister lists an upper directory. It holds the directories on its way open, and takes
// each name in the one that it is in: a walk from the top for each would take most of
// the time.
type lister struct {
	out *bufio.Writer

	progress wire.Progress
	told     time.Time // when the host heard of it
	sum      *sparse.Sum
	links    map[[2]uint64]string // the first path of a file with several, by device and inode
}

func newLister(out *bufio.Writer) *lister {
	return &lister{out: out, sum: sparse.NewSum(), links: make(map[[2]uint64]string)}
}

// Bounds of a list.
const (
	maxListDepth = 1024 // far more than the host takes
	readNames    = 1000
	tellEvery    = 500 * time.Millisecond
)

// step tells the host how far the list is, from time to time.
func (l *lister) step() error {
	if now := time.Now(); now.Sub(l.told) >= tellEvery {
		return l.tell(now)
	}
	return nil
}

func (l *lister) tell(now time.Time) error {
	l.told = now
	progress := l.progress
	if err := wire.WriteMessage(l.out, wire.Change{Progress: &progress}); err != nil {
		return err
	}
	return l.out.Flush()
}

// gone reports whether err says that something was removed, or replaced, meanwhile.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// openDir opens the directory name in an open one.
func openDir(parent int, name, dir string, depth int) (*os.File, error) {
	if depth > maxListDepth {
		return nil, fmt.Errorf("%s: more than %d directories deep", dir, maxListDepth)
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// each calls do with the entries of a directory.
func (l *lister) each(ctx context.Context, d *os.File, do func(e os.DirEntry) error) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		entries, err := d.ReadDir(readNames)
		if errors.Is(err, io.EOF) || gone(err) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := do(e); err != nil {
				return err
			}
		}
		if err := l.step(); err != nil {
			return err
		}
	}
}

// count counts what dir will send for a directory, whose path has so many bytes. It looks
// at no file.
func (l *lister) count(ctx context.Context, parent int, name string, dirBytes, depth int) error {
	d, err := openDir(parent, name, name, depth)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return l.each(ctx, d, func(e os.DirEntry) error {
		l.progress.Counted++
		bytes := dirBytes + len(e.Name())
		l.progress.Names += int64(bytes)
		if !e.IsDir() {
			return nil
		}
		return l.count(ctx, int(d.Fd()), e.Name(), bytes+1, depth+1)
	})
}

// dir sends what is in a directory.
func (l *lister) dir(ctx context.Context, parent int, name, dir string) error {
	d, err := openDir(parent, name, dir, strings.Count(dir, "/"))
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	fd := int(d.Fd())
	return l.each(ctx, d, func(e os.DirEntry) error {
		file := path.Join(dir, e.Name())
		entry := l.entry
		if e.Type().IsRegular() {
			entry = l.file
		}
		c, err := entry(ctx, fd, e.Name(), file)
		if gone(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := wire.WriteMessage(l.out, c); err != nil {
			return err
		}
		l.progress.Listed++
		if c.Kind == wire.KindDir {
			return l.dir(ctx, fd, e.Name(), file)
		}
		return nil
	})
}

// entry looks at the name of an open directory.
func (l *lister) entry(ctx context.Context, dir int, name, file string) (wire.Change, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return wire.Change{}, &os.PathError{Op: "lstat", Path: file, Err: err}
	}
	c := wire.Change{Path: []byte(file), Mode: st.Mode & 0o7777, MTime: unix.TimespecToNsec(st.Mtim)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return l.file(ctx, dir, name, file)
	case unix.S_IFDIR:
		c.Kind = wire.KindDir
		var err error
		c.Opaque, c.Redirect, err = dirAttributes(dir, name, file)
		return c, err
	case unix.S_IFLNK:
		c.Kind = wire.KindSymlink
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(dir, name, target)
		if errors.Is(err, unix.EINVAL) {
			err = unix.ENOENT // something else has taken its name
		}
		c.Target = target[:max(n, 0)]
		return c, err
	case unix.S_IFCHR:
		c.Kind = wire.KindOther
		if st.Rdev == 0 {
			c.Kind = wire.KindWhiteout
		}
	default:
		c.Kind = wire.KindOther
	}
	return c, nil
}

// file looks at a regular file, and sums its content unless it came before by another name.
func (l *lister) file(ctx context.Context, dir int, name, file string) (wire.Change, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return wire.Change{}, &os.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return wire.Change{}, &os.PathError{Op: "stat", Path: file, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return wire.Change{}, unix.ENOENT // something else has taken its name
	}
	c := wire.Change{Path: []byte(file), Kind: wire.KindFile, Mode: st.Mode & 0o7777, MTime: unix.TimespecToNsec(st.Mtim)}
	c.Attributes = hasAttributes(fd)
	if st.Nlink > 1 {
		key := [2]uint64{st.Dev, st.Ino}
		if first, ok := l.links[key]; ok {
			c.Link = []byte(first)
			return c, nil
		}
		l.links[key] = file
	}
	l.sum.Reset()
	c.Size, err = sparse.Copy(ctx, summing{l}, sparse.FD(fd), st.Size)
	sum := l.sum.Sum()
	c.Sum = sum[:]
	return c, err
}

// summing sums a content, and tells how far it is.
type summing struct{ l *lister }

func (s summing) Write(p []byte) (int, error) {
	s.l.sum.Write(p)
	s.l.progress.Read += int64(len(p))
	return len(p), s.l.step()
}

func (s summing) Hole(n int64) error { return s.l.sum.Hole(n) }

// hasAttributes reports whether an open file has extended attributes that its user gave it.
func hasAttributes(fd int) bool {
	n, err := unix.Flistxattr(fd, nil)
	if n <= 0 || err != nil {
		return false
	}
	names := make([]byte, n)
	if n, err = unix.Flistxattr(fd, names); err != nil {
		return false
	}
	for name := range strings.SplitSeq(string(names[:n]), "\x00") {
		if strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "system.posix_acl_") {
			return true
		}
	}
	return false
}

// Attributes of a directory: opaque hides the lower one, and redirect says that
// another lower one is below it in its place.
const (
	opaque   = "trusted.overlay.opaque"
	redirect = "trusted.overlay.redirect"
)

func dirAttributes(dir int, name, file string) (isOpaque bool, to []byte, err error) {
	d, err := openDir(dir, name, file, 0)
	if err != nil {
		return false, nil, err
	}
	defer d.Close()
	read := func(attr string, value []byte) ([]byte, error) {
		n, err := unix.Fgetxattr(int(d.Fd()), attr, value)
		if errors.Is(err, unix.ENODATA) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s of %s: %w", attr, file, err)
		}
		return value[:n], nil
	}
	value, err := read(opaque, make([]byte, 1))
	if isOpaque = string(value) == "y"; isOpaque || err != nil {
		return isOpaque, nil, err // the kernel asks for no redirect then
	}
	to, err = read(redirect, make([]byte, unix.PathMax))
	return false, to, err
}
