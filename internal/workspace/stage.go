package workspace

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/diskspace"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/sparse"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Staging is a private directory of contents, named by their sums. Staging
// first makes applying independent of the guest: it may die, or change its
// mind, and the host gets all of what was shown or nothing.
type Staging struct {
	dir  string
	lock *os.File // dir, locked for as long as it is used
}

// StageOptions bounds what Stage takes.
type StageOptions struct {
	Limit int64 // bytes of all contents together; 0 means DefaultStageLimit
}

// DefaultStageLimit is far above what people take from one machine, and far
// below what a laptop's disk holds.
const DefaultStageLimit = 16 << 30

// Fetch gets the contents of files from the guest. It calls put once for each
// path, in any order and one at a time, with the content as the guest has it
// now; put reads it to its end. It returns put's error as it is.
type Fetch func(ctx context.Context, paths []string, put func(path string, content io.Reader) error) error

// Stage fetches the contents that the edits need into dir, which it makes in a directory that is there.
// Each content must have the size and the hash that the guest reported with
// the change: what was shown is what is applied. Contents that are there
// already, from a run that was interrupted, are not fetched again.
//
// Others may use the same directory meanwhile: it is theirs, too, until Remove.
func Stage(ctx context.Context, dir string, edits []*Edit, fetch Fetch, opts StageOptions) (_ *Staging, err error) {
	if opts.Limit == 0 {
		opts.Limit = DefaultStageLimit
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("stage changes: %w", err)
	}
	s := &Staging{dir, lock}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()

	total, err := s.missing(edits, opts)
	switch {
	case err != nil:
		return nil, err
	case total < 0:
		return s, nil
	}
	if err := checkFree(dir, total); err != nil {
		return nil, err
	}
	next := 0
	for next < len(edits) {
		b := batch{wanted: make(map[string]*Edit), sums: make(map[[sparse.Size]byte]bool)}
		for ; next < len(edits) && len(b.paths) < stageBatch; next++ {
			if e := edits[next]; e.needsContent() && !b.sums[e.Sum] && !s.Has(e) {
				b.sums[e.Sum], b.wanted[e.Path] = true, e
				b.paths = append(b.paths, e.Path)
			}
		}
		if err := s.fetch(ctx, &b, fetch); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// stageBatch is how many contents are fetched at a time.
const stageBatch = 4096

// batch is contents that are being fetched.
type batch struct {
	paths  []string
	wanted map[string]*Edit // by path; one path for each content
	sums   map[[sparse.Size]byte]bool
}

// missing returns how many bytes of contents are to be fetched, -1 if there is none.
func (s *Staging) missing(edits []*Edit, opts StageOptions) (int64, error) {
	sizes := make(map[[sparse.Size]byte]int64)
	total, some := int64(0), false
	for _, e := range edits {
		if !e.needsContent() {
			continue
		}
		if size, ok := sizes[e.Sum]; ok {
			if size != e.NewSize {
				return 0, fmt.Errorf("stage changes: %s: %w", termsafe.Quote(e.Path), errDiffers)
			}
			continue
		}
		if e.NewSize < 0 || e.NewSize > opts.Limit-total {
			return 0, fault.New(fault.ChangesTooLarge, fault.Args{"limit": strconv.FormatInt(opts.Limit, 10)},
				"stage changes: they are more than %s: %s has %s", formatSize(opts.Limit), termsafe.Quote(e.Path), formatSize(e.NewSize))
		}
		total += e.NewSize
		sizes[e.Sum] = e.NewSize
		some = some || !s.Has(e)
	}
	if !some {
		return -1, nil
	}
	return total, nil
}

// fetch fetches a batch.
func (s *Staging) fetch(ctx context.Context, b *batch, fetch Fetch) error {
	if len(b.paths) == 0 {
		return nil
	}
	err := fetch(ctx, b.paths, func(path string, content io.Reader) error {
		e := b.wanted[path]
		if e == nil {
			return fmt.Errorf("the machine sent %s, which was not asked for", termsafe.Quote(path))
		}
		delete(b.wanted, path)
		return s.put(e, content)
	})
	if err != nil {
		return fmt.Errorf("stage changes: %w", err)
	}
	for _, path := range b.paths {
		if b.wanted[path] != nil {
			return fmt.Errorf("stage changes: the machine did not send %s", termsafe.Quote(path))
		}
	}
	return nil
}

// checkFree makes sure that a file system takes n more bytes twice: once for
// staging, once for the workspace, which is often on the same one.
func checkFree(dir string, n int64) error {
	free, err := diskspace.Free(dir)
	if err != nil {
		return fmt.Errorf("stage changes: %w", err)
	}
	if free/2 < n {
		args := fault.Args{"dir": dir, "bytes": strconv.FormatInt(2*n, 10), "free": strconv.FormatInt(free, 10)}
		return fault.New(fault.NoSpaceForChanges, args, "stage changes: they need %s and %s are free: %w",
			formatSize(2*n), formatSize(free), unix.ENOSPC)
	}
	return nil
}

func (s *Staging) path(sum [sparse.Size]byte) string {
	return filepath.Join(s.dir, hex.EncodeToString(sum[:]))
}

// put stores one content under its hash.
func (s *Staging) put(e *Edit, content io.Reader) error {
	f, err := atomicfile.Create(s.path(e.Sum), 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	in := &incoming{file: sparse.NewWriter(f), sum: sparse.NewSum(), left: e.NewSize}
	_, err = io.Copy(in, content)
	if err == nil && (in.left != 0 || in.sum.Sum() != e.Sum) {
		err = errDiffers
	}
	if err == nil {
		err = in.file.Finish()
	}
	if err != nil {
		return fmt.Errorf("fetch %s: %w", termsafe.Quote(e.Path), err)
	}
	return f.CommitUnsynced() // a crash ends the apply, and another one stages again
}

// incoming takes a content that the guest sends, and not more than was announced.
type incoming struct {
	file *sparse.Writer
	sum  *sparse.Sum
	left int64
}

func (in *incoming) Write(p []byte) (int, error) {
	if int64(len(p)) > in.left {
		return 0, errDiffers
	}
	in.left -= int64(len(p))
	in.sum.Write(p)
	return in.file.Write(p)
}

func (in *incoming) Hole(n int64) error {
	if n < 0 || n > in.left {
		return errDiffers
	}
	in.left -= n
	return errors.Join(in.sum.Hole(n), in.file.Hole(n))
}

var errDiffers = errors.New("it is not what the machine listed; it changed since, or the machine lies")

// open opens the content of an edit.
func (s *Staging) open(e *Edit) (*os.File, error) {
	if s == nil {
		return nil, fmt.Errorf("content of %s was not staged", termsafe.Quote(e.Path))
	}
	f, err := os.Open(s.path(e.Sum))
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || fi.Size() != e.NewSize {
		f.Close()
		return nil, fmt.Errorf("staged content of %s has the wrong size", termsafe.Quote(e.Path))
	}
	return f, nil
}

// Put stages a content that is the host's own: of the edit e, whose Sum and size are that content's.
func (s *Staging) Put(e *Edit, content io.Reader) error { return s.put(e, content) }

// Open opens the content of an edit that takes bytes from the guest.
func (s *Staging) Open(e *Edit) (*os.File, error) { return s.open(e) }

// Has reports whether the content of an edit is there.
func (s *Staging) Has(e *Edit) bool {
	if s == nil {
		return false
	}
	fi, err := os.Lstat(s.path(e.Sum))
	return err == nil && fi.Mode().IsRegular() && fi.Size() == e.NewSize
}

// Close gives the staged contents up, and leaves them for others.
func (s *Staging) Close() error { return s.lock.Close() }

// Remove deletes the staged contents, unless somebody else uses them. Who is the last does.
func (s *Staging) Remove() error {
	defer s.lock.Close()
	switch err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
	case nil:
		return os.RemoveAll(s.dir)
	case unix.EWOULDBLOCK:
		return nil
	default:
		return err
	}
}

// lockDir opens a directory and says by a lock that it is used.
func lockDir(dir string) (*os.File, error) {
	for {
		// Not what it is in: a machine that was removed must not come back as an empty directory.
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		f, err := os.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue // who used it last has removed it meanwhile
		}
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
			f.Close()
			return nil, err
		}
		ours, err := f.Stat()
		now, lost := os.Stat(dir)
		if err == nil && lost == nil && os.SameFile(ours, now) {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}
