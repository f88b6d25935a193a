package agent

import (
	"archive/tar"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// restore puts conversations of coding agents back, with the rights of their user.
func (a *agent) restore(stream net.Conn, req *wire.Restore) wire.Restored {
	var r restoring
	m, err := a.configured()
	if err == nil {
		err = asUser(m.credential, func() error { return r.run(req.Places, &stdin{frames: wire.NewFrameReader(stream)}) })
	}
	if err != nil {
		r.answer.Error = err.Error()
	}
	return r.answer
}

// restoring is one archive that is put back.
type restoring struct {
	answer wire.Restored
	roots  []*os.Root // of the places
	single []bool     // whether a place has files, of those that are no directories
}

func (r *restoring) run(places []wire.TranscriptPlace, from io.Reader) error {
	defer func() {
		for _, root := range r.roots {
			root.Close()
		}
	}()
	for _, p := range places {
		if len(p.Dirs) != 1 {
			return errors.New("a place of conversations is no directory")
		}
		if err := makeDir(p.Dirs[0]); err != nil {
			return err
		}
		root, err := os.OpenRoot(p.Dirs[0])
		if err != nil {
			return err
		}
		r.roots = append(r.roots, root)
		r.single = append(r.single, slices.ContainsFunc(p.Files, func(name string) bool {
			fi, err := root.Lstat(name)
			return err == nil && !fi.IsDir()
		}))
	}
	for tr := tar.NewReader(from); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, from) // what fills the last block
			return err
		}
		if err != nil {
			return err
		}
		if err := r.entry(places, h, tr); err != nil {
			return err
		}
	}
}

// entry puts one file back.
func (r *restoring) entry(places []wire.TranscriptPlace, h *tar.Header, content io.Reader) error {
	agent, name, _ := strings.Cut(h.Name, "/")
	first, below, _ := strings.Cut(name, "/")
	i := slices.IndexFunc(places, func(p wire.TranscriptPlace) bool { return p.Name == agent && slices.Contains(p.Files, first) })
	if i < 0 || h.Typeflag != tar.TypeReg || path.Clean(h.Name) != h.Name {
		return fmt.Errorf("%q is no conversation", h.Name)
	}
	err := fs.ErrExist
	if below != "" || !r.single[i] {
		err = restoreFile(r.roots[i], name, h.ModTime, content)
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		r.answer.Kept++
		return nil
	case err != nil:
		return err
	}
	r.answer.Files++
	return nil
}

// restoreFile writes a file that is not there yet. It appears as a whole: an agent may look
// on, and what a full disk cut short is no conversation. Its time is that of its last word,
// by which agents find the last one.
func restoreFile(root *os.Root, name string, last time.Time, content io.Reader) error {
	if _, err := root.Lstat(name); err == nil {
		return fs.ErrExist
	}
	dir := path.Dir(name)
	if err := root.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp := path.Join(dir, ".mayfly-"+rand.Text())
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer root.Remove(temp)
	_, err = io.Copy(f, content)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if now := time.Now(); last.After(now) || last.Before(time.Unix(0, 0)) {
		last = now
	}
	if err := root.Chtimes(temp, last, last); err != nil {
		return err
	}
	return root.Link(temp, name)
}
