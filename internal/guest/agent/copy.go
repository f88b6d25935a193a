package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/transfer"
)

// copy sends or takes files, as the guest's user.
func (a *agent) copy(stream net.Conn, req *wire.Copy) {
	out := wire.NewFrameWriter(stream)
	m, err := a.configured()
	if err == nil {
		err = asUser(m.credential, func() error {
			place := string(req.Path)
			if !filepath.IsAbs(place) {
				place = filepath.Join(req.Dir, place)
			}
			if len(req.Name) > 0 {
				return takeFiles(filepath.Clean(place), string(req.Name), &stdin{frames: wire.NewFrameReader(stream)})
			}
			return sendFiles(filepath.Clean(place), out)
		})
	}
	if err != nil {
		out.Write(wire.FrameError, []byte(err.Error()))
		return
	}
	out.Write(wire.FrameEnd, nil)
}

func sendFiles(source string, out *wire.FrameWriter) error {
	dir, name := filepath.Split(source)
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: no such file or directory", source)
	}
	if err != nil {
		return err
	}
	defer root.Close()
	switch fi, err := root.Lstat(name); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: no such file or directory", source)
	case err != nil:
		return err
	case !fi.Mode().IsRegular() && !fi.IsDir() && fi.Mode()&fs.ModeSymlink == 0:
		return fmt.Errorf("%s is neither a file, nor a directory, nor a link", source)
	}
	return transfer.PackIn(context.Background(), stdout{out}, root, name)
}

// takeFiles writes the entry name of a tar stream into target if that is a directory, and else
// as target.
func takeFiles(target, name string, r io.Reader) error {
	dir, newName := target, name
	if fi, err := os.Stat(target); err != nil || !fi.IsDir() {
		dir, newName = filepath.Dir(target), filepath.Base(target)
	}
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: no such directory", dir)
	}
	if err != nil {
		return err
	}
	defer root.Close()
	if err := transfer.Unpack(root, r, name, newName); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r) // what fills the last block of a tar
	return err
}

// stdout writes frames.
type stdout struct{ frames *wire.FrameWriter }

func (s stdout) Write(p []byte) (int, error) { return len(p), s.frames.Write(wire.FrameStdout, p) }

// stdin reads what is in frames.
type stdin struct {
	frames *wire.FrameReader
	rest   []byte
	err    error
}

func (s *stdin) Read(p []byte) (int, error) {
	for len(s.rest) == 0 && s.err == nil {
		t, payload, err := s.frames.Next()
		switch {
		case errors.Is(err, io.EOF):
			s.err = io.ErrUnexpectedEOF // the host is gone
		case err != nil:
			s.err = err
		case t == wire.FrameStdin:
			s.rest = payload
		case t == wire.FrameStdinEOF:
			s.err = io.EOF
		}
	}
	if len(s.rest) == 0 {
		return 0, s.err
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}
