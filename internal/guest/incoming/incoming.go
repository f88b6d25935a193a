// Package incoming puts what the host sends into a guest's workspace: paths that its user
// changed in the directory that was copied.
//
// What is there is looked at first, and left alone if it is not what the host expects: then
// somebody in the guest has changed it. The host trusts no answer of it for more than what
// the guest itself has.
package incoming

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/sparse"
)

// Take answers items until the last. It acts as the user of the calling thread. The error
// is about the directory, or the host that has left.
func Take(stream io.ReadWriter, req *wire.Sync) error {
	root, err := unix.Open(req.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: req.Dir, Err: err}
	}
	defer unix.Close(root)
	s := &syncer{root: root, in: bufio.NewReaderSize(stream, wire.MaxFrame), made: scratch{root: root, fd: -1}}
	sweep(root)
	defer s.made.remove()
	for {
		var item wire.SyncItem
		if err := wire.ReadMessage(s.in, &item); err != nil {
			return err
		}
		if item.End {
			s.made.remove()
			answer := wire.SyncAnswer{Result: wire.SyncDone}
			if req.Durable {
				if err := unix.Syncfs(root); err != nil {
					answer = wire.SyncAnswer{Result: wire.SyncFailed, Error: fmt.Sprintf("write %s to the disk: %v", req.Dir, err)}
				}
			}
			return wire.WriteMessage(stream, answer)
		}
		answer, err := s.item(&item)
		if err != nil {
			return err
		}
		if err := wire.WriteMessage(stream, answer); err != nil {
			return err
		}
	}
}

// openBeneath opens a path in an open directory, through no symbolic link and not outside of
// that directory.
func openBeneath(dir int, path string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(dir, path, &how)
		if err != unix.EAGAIN && err != unix.EINTR { // a rename raced with it, openat2(2)
			return fd, err
		}
	}
}

// gone reports whether err says that a directory is not there.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// syncer changes a directory as items say, each only where what is there is as expected.
type syncer struct {
	root int
	in   *bufio.Reader
	made scratch
}

// errOther says that something else is there than expected.
var errOther = errors.New("something else is there")

// item does one. The error is about the stream, which says nothing more that can be understood.
func (s *syncer) item(item *wire.SyncItem) (wire.SyncAnswer, error) {
	content := &syncContent{frames: wire.NewFrameReader(s.in), ended: item.New.Kind != wire.KindFile || item.Check}
	answer, err := s.try(item, content)
	switch {
	case content.err != nil:
		return answer, content.err
	case errors.Is(err, errOther), errors.Is(err, unix.EEXIST):
		answer.Result = wire.SyncConflict
	case errors.Is(err, unix.ENOTEMPTY):
		answer.Result, answer.Full = wire.SyncConflict, true
	case err != nil:
		answer = wire.SyncAnswer{Result: wire.SyncFailed, Error: err.Error()}
	}
	return answer, content.drain()
}

func (s *syncer) try(item *wire.SyncItem, content *syncContent) (wire.SyncAnswer, error) {
	name := path.Base(string(item.Path))
	dir, err := openBeneath(s.root, path.Dir(string(item.Path)), unix.O_PATH|unix.O_DIRECTORY)
	if gone(err) {
		if item.New.Kind == "" {
			return wire.SyncAnswer{Result: wire.SyncSame}, nil
		}
		return wire.SyncAnswer{}, errOther // the directory that it is to be in is not there
	}
	if err != nil {
		return wire.SyncAnswer{}, err
	}
	defer unix.Close(dir)
	now, st, err := syncState(dir, name, append(item.Old, item.New))
	if err != nil {
		return wire.SyncAnswer{}, err
	}
	// A directory that both sides made is one directory.
	both := item.New.Kind == wire.KindDir && now.Kind == wire.KindDir && len(item.Old) > 0 && item.Old[0].Kind == ""
	if both || sameState(now, item.New) {
		return wire.SyncAnswer{Result: wire.SyncSame}, nil
	}
	if !slices.ContainsFunc(item.Old, func(old wire.SyncState) bool { return sameState(now, old) }) {
		return wire.SyncAnswer{Now: now}, errOther
	}
	if !item.Check {
		err = s.change(dir, name, now, st, item.New, content)
	}
	return wire.SyncAnswer{Result: wire.SyncDone, Now: now}, err
}

// syncState looks at a name. The content of a file is summed if its size is that of one of
// others.
func syncState(dir int, name string, others []wire.SyncState) (s wire.SyncState, st unix.Stat_t, err error) {
	err = unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return s, st, nil
	}
	if err != nil {
		return s, st, &os.PathError{Op: "lstat", Path: name, Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		s = wire.SyncState{Kind: wire.KindFile, Mode: st.Mode & 0o777, Size: st.Size}
		if !slices.ContainsFunc(others, func(o wire.SyncState) bool { return o.Kind == wire.KindFile && o.Size == s.Size }) {
			return s, st, nil
		}
		fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_NONBLOCK)
		if err != nil {
			return s, st, err
		}
		f := os.NewFile(uintptr(fd), name)
		defer f.Close()
		sum, err := sparse.SumOf(context.Background(), f, st.Size)
		s.Sum = sum[:]
		return s, st, err
	case unix.S_IFDIR:
		s = wire.SyncState{Kind: wire.KindDir, Mode: st.Mode & 0o777}
	case unix.S_IFLNK:
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(dir, name, target)
		if err != nil {
			return s, st, err
		}
		s = wire.SyncState{Kind: wire.KindSymlink, Target: target[:n]}
	default:
		s.Kind = wire.KindOther
	}
	return s, st, nil
}

// sameState reports whether a, which is there, is as b says.
func sameState(a, b wire.SyncState) bool {
	return a.Kind == b.Kind && (a.Mode == b.Mode || b.AnyMode) && a.Size == b.Size && string(a.Sum) == string(b.Sum) && string(a.Target) == string(b.Target)
}

// syncContent is the content of a file as it comes from the host.
type syncContent struct {
	frames *wire.FrameReader
	ended  bool
	err    error // of the stream
}

// writeTo writes all that comes.
func (c *syncContent) writeTo(w sparse.Sink) error {
	for !c.ended {
		t, payload, err := c.frames.Next()
		if err != nil {
			c.err = err
			return err
		}
		switch t {
		case wire.FrameStdin:
			_, err = w.Write(payload)
		case wire.FrameHole:
			var n int64
			if n, c.err = wire.ParseHole(payload); c.err == nil {
				err = w.Hole(n)
			} else {
				err = c.err
			}
		case wire.FrameStdinEOF:
			c.ended = true
		default:
			c.err = fmt.Errorf("unexpected frame %d", t)
			err = c.err
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// drain reads what is left of a content that is not wanted.
func (c *syncContent) drain() error {
	if c.err != nil {
		return c.err
	}
	return c.writeTo(nowhere{})
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) Hole(int64) error            { return nil }
