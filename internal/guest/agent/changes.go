package agent

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// workspace is the private copy of the user's directory. What was changed in
// it stands in the overlay's upper directory, and nothing else does.
type workspace struct {
	upper *os.Root
}

// openWorkspace opens the workspace with its upper directory in dir.
func openWorkspace(dir string) (*workspace, error) {
	upper, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &workspace{upper: upper}, nil
}

// changes sends the entries of the workspace's upper directory.
func (a *agent) changes(stream net.Conn, req *wire.Changes) {
	m, err := a.configured()
	if err == nil && m.workspace == nil {
		err = errors.New("the machine has no workspace")
	}
	if err == nil {
		switch {
		case req.Quiesce && a.service != nil:
			err = a.service.quiesce()
		case req.Quiesce:
			a.reaper.killAll()
		}
	}
	if err == nil {
		err = m.workspace.walk(func(c wire.Change) error { return wire.WriteMessage(stream, c) })
	}
	end := wire.Change{End: true}
	if err != nil {
		end.Error = err.Error()
	}
	wire.WriteMessage(stream, end)
}

// walk calls emit for every entry, parents first.
func (ws *workspace) walk(emit func(wire.Change) error) error {
	return ws.walkDir(".", emit)
}

func (ws *workspace) walkDir(dir string, emit func(wire.Change) error) error {
	f, err := ws.upper.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		entries, err := f.ReadDir(1000)
		if errors.Is(err, io.EOF) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			c, err := ws.entry(name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed meanwhile
			}
			if err != nil {
				return err
			}
			if err := emit(c); err != nil {
				return err
			}
			if c.Kind == wire.KindDir {
				if err := ws.walkDir(name, emit); err != nil {
					return err
				}
			}
		}
	}
}

// Attributes of a directory: opaque hides the lower one, and redirect says that
// another lower one is below it in its place.
const (
	opaque   = "trusted.overlay.opaque"
	redirect = "trusted.overlay.redirect"
)

func (ws *workspace) entry(name string) (wire.Change, error) {
	fi, err := ws.upper.Lstat(name)
	if err != nil {
		return wire.Change{}, err
	}
	st := fi.Sys().(*syscall.Stat_t)
	c := wire.Change{Path: []byte(name), Mode: st.Mode & 0o7777, MTime: st.Mtim.Nano()}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		c.Kind = wire.KindFile
		c.Size, c.SHA256, err = ws.hash(name)
	case unix.S_IFDIR:
		c.Kind = wire.KindDir
		c.Opaque, c.Redirect, err = ws.dirAttributes(name)
	case unix.S_IFLNK:
		c.Kind = wire.KindSymlink
		var target string
		target, err = ws.upper.Readlink(name)
		c.Target = []byte(target)
	case unix.S_IFCHR:
		c.Kind = wire.KindOther
		if st.Rdev == 0 {
			c.Kind = wire.KindWhiteout
		}
	default:
		c.Kind = wire.KindOther
	}
	return c, err
}

func (ws *workspace) hash(name string) (size int64, sum []byte, err error) {
	f, err := ws.openFile(name)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(h, f)
	return size, h.Sum(nil), err
}

// openFile opens a regular file. What has taken its name meanwhile, such as a
// fifo that nobody writes to, must not hold us up. A link is followed within
// upper; the host knows what content it wants.
func (ws *workspace) openFile(name string) (*os.File, error) {
	f, err := ws.upper.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	return f, nil
}

func (ws *workspace) dirAttributes(name string) (isOpaque bool, to []byte, err error) {
	f, err := ws.upper.Open(name)
	if err != nil {
		return false, nil, err
	}
	defer f.Close()
	read := func(attr string, value []byte) ([]byte, error) {
		n, err := unix.Fgetxattr(int(f.Fd()), attr, value)
		if errors.Is(err, unix.ENODATA) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s of %s: %w", attr, name, err)
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

// fetch sends the content of files of the workspace's upper directory.
func (a *agent) fetch(stream net.Conn, req *wire.Fetch) {
	out := wire.NewFrameWriter(stream)
	m, err := a.configured()
	if err == nil && m.workspace == nil {
		err = errors.New("the machine has no workspace")
	}
	if err != nil {
		out.Write(wire.FrameError, []byte(err.Error()))
		return
	}
	buf := make([]byte, wire.MaxFrame)
	for _, p := range req.Paths {
		if out.Write(wire.FrameFile, p) != nil {
			return
		}
		if err := m.workspace.send(out, string(p), buf); err != nil {
			out.Write(wire.FrameError, []byte(err.Error()))
			return
		}
		if out.Write(wire.FrameEnd, nil) != nil {
			return
		}
	}
}

func (ws *workspace) send(out *wire.FrameWriter, name string, buf []byte) error {
	f, err := ws.openFile(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		n, err := f.Read(buf)
		if n > 0 {
			if err := out.Write(wire.FrameStdout, buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
