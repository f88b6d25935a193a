package workspace

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/sparse"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Store is a private directory of contents that were sent, named by their sums.
type Store struct{ Dir string }

func (s Store) path(sum [sparse.Size]byte) string {
	return filepath.Join(s.Dir, hex.EncodeToString(sum[:]))
}

// put stores the first size bytes of f.
func (s Store) put(ctx context.Context, f io.ReaderAt, size int64) (sum [sparse.Size]byte, err error) {
	if err := os.Mkdir(s.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return sum, err
	}
	temp, err := os.CreateTemp(s.Dir, "new-*")
	if err != nil {
		return sum, err
	}
	defer func() {
		temp.Close()
		if err != nil {
			os.Remove(temp.Name())
		}
	}()
	in := &incoming{file: sparse.NewWriter(temp), sum: sparse.NewSum(), left: size}
	n, err := sparse.Copy(ctx, in, f, size)
	if err == nil && n != size {
		err = errShorter
	}
	if err == nil {
		err = in.file.Finish()
	}
	if err != nil {
		return sum, err
	}
	sum = in.sum.Sum()
	// Not synced: what a crash of the host leaves half written has another sum.
	return sum, os.Rename(temp.Name(), s.path(sum))
}

var errShorter = errors.New("it became shorter while it was read")

// Put stores a content.
func (s Store) Put(ctx context.Context, content []byte) (sum [sparse.Size]byte, err error) {
	return s.put(ctx, bytes.NewReader(content), int64(len(content)))
}

// open opens the content of the file at a path.
func (s Store) open(path string, sum [sparse.Size]byte, size int64) (*os.File, error) {
	f, err := os.Open(s.path(sum))
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || fi.Size() != size {
		f.Close()
		return nil, fmt.Errorf("the stored content of %s has the wrong size", termsafe.Quote(path))
	}
	return f, nil
}

// Lock keeps all contents in the store until unlock. Without a store there is nothing to keep.
func (s Store) Lock() (unlock func(), err error) {
	f, err := os.Open(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil
	}
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_SH)
	}
	if err != nil {
		return nil, err
	}
	return func() { f.Close() }, nil
}

// Sweep removes the contents that none of lists needs, unless somebody has locked them.
func (s Store) Sweep(lists ...*Synced) error {
	d, err := os.Open(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil // the next one does it
	}
	names, err := d.ReadDir(-1)
	if err != nil {
		return err
	}
	needed := make(map[string]bool)
	for _, l := range lists {
		for i := range l.Entries {
			if e := &l.Entries[i]; e.Kind == File {
				needed[filepath.Base(s.path(e.Sum))] = true
			}
		}
	}
	var errs []error
	for _, n := range names {
		if !needed[n.Name()] {
			errs = append(errs, os.Remove(filepath.Join(s.Dir, n.Name())))
		}
	}
	return errors.Join(errs...)
}

// SyncedBase is the contents that a guest's changes start from.
type SyncedBase struct {
	Packed Base
	Synced *Synced
	Store  Store
}

// Open returns the content of the regular file at a path.
func (b *SyncedBase) Open(path string) (*io.SectionReader, error) {
	e := b.Synced.Find(path)
	switch {
	case e == nil:
		return b.Packed.Open(path)
	case e.Kind != File:
		return nil, fmt.Errorf("%s is no file: %w", termsafe.Quote(path), fs.ErrNotExist)
	}
	return io.NewSectionReader(stored(b.Store.path(e.Sum)), 0, e.Size), nil
}

// stored is a stored content that is open only while it is read.
type stored string

func (s stored) ReadAt(p []byte, off int64) (int, error) {
	f, err := os.Open(string(s))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.ReadAt(p, off)
}
