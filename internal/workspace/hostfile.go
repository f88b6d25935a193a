package workspace

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/sparse"
)

// hostFile is what a name on the host is right now.
type hostFile struct {
	kind     Kind // None when there is nothing
	mode     uint32
	size     int64
	links    uint64
	uid, gid int
	id       Identity
}

// look returns what name in the open directory dir is.
func look(dir int, name string) (hostFile, error) {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return hostFile{}, nil
	}
	if err != nil {
		return hostFile{}, err
	}
	return asHostFile(&st), nil
}

func asHostFile(st *unix.Stat_t) hostFile {
	return hostFile{
		kind: kindOf(st), mode: st.Mode & 0o7777, size: st.Size, links: uint64(st.Nlink),
		uid: int(st.Uid), gid: int(st.Gid), id: identity(st),
	}
}

// same reports whether f, looked at later and maybe under another name, is
// still g. A rename moves the change time on, so that is not compared; what
// is in a directory is not part of it.
func (f hostFile) same(g hostFile) bool {
	if f.kind != g.kind || f.id.Dev != g.id.Dev || f.id.Ino != g.id.Ino {
		return false
	}
	return f.kind == Dir || f.size == g.size && f.id.MTime == g.id.MTime
}

// equals reports whether the regular file name, which is now, at a path of the workspace has the
// content want, of size bytes.
func (a *applier) equals(ctx context.Context, dir int, name, path string, now hostFile, want io.ReaderAt, size int64) (bool, error) {
	f, err := a.openToRead(dir, name, path, now)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() || fi.Size() != size {
		return false, err
	}
	return sparse.Equal(ctx, f, want, size)
}

// isOld reports whether a name is as it was packed.
func (a *applier) isOld(ctx context.Context, dir int, name string, now hostFile, old *Entry) (bool, error) {
	if now.kind != old.Kind || now.mode != old.Mode && now.kind != Symlink {
		return false, nil
	}
	switch {
	case now.kind == Dir:
		return true, nil
	case now.id == old.ID && a.Manifest.trusts(old):
		return true, nil
	case now.kind == Symlink:
		target, err := readlinkat(dir, name)
		return target == old.Target, err
	case now.size != old.Size:
		return false, nil
	}
	want, err := a.Base.Open(old.Path)
	if err != nil {
		return false, err
	}
	return a.equals(ctx, dir, name, a.moves.where(old.Path), now, want, want.Size())
}

// isNew reports whether a name is already what e makes of it.
func (a *applier) isNew(ctx context.Context, dir int, name string, now hostFile, e *Edit) (bool, error) {
	if now.kind != e.NewKind {
		return false, nil
	}
	switch {
	case now.kind == None:
		return true, nil
	case now.kind == Dir:
		// A directory that both sides made is one directory. The mode with
		// all rights for the owner is what an interrupted Apply leaves.
		mode := now.mode & 0o777
		return e.Op == Add || mode == e.NewMode || mode == e.NewMode|0o700, nil
	case now.kind == Symlink:
		target, err := readlinkat(dir, name)
		return target == e.NewTarget, err
	case now.mode != e.NewMode || now.size != e.NewSize:
		return false, nil
	}
	want, err := a.content(e)
	if err != nil {
		return false, err
	}
	defer want.Close()
	return a.equals(ctx, dir, name, e.Path, now, want.ReaderAt, e.NewSize)
}

// content opens what the file of e is to hold.
func (a *applier) content(e *Edit) (*content, error) {
	base, path := a.Base, e.Copies
	switch {
	case e.ModeOnly:
		path = e.Packed()
	case e.Lower && a.Packed != nil:
		base = a.Packed
	}
	if path != "" {
		r, err := base.Open(path)
		if err != nil {
			return nil, err
		}
		return &content{r, nil}, nil
	}
	f, err := a.Staging.open(e)
	if err != nil {
		return nil, err
	}
	return &content{f, f}, nil
}

// content is what a file is to hold.
type content struct {
	io.ReaderAt
	file *os.File // to be closed, if there is one
}

func (c *content) Close() {
	if c.file != nil {
		c.file.Close()
	}
}
