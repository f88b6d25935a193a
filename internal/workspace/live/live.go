// Package live remembers what of a directory the host runs by itself, while a machine has
// that directory live.
//
// A directory and a judge of paths flow in before the machine has it: what flows out is a
// record, and copies of the few files that are watched. Later the record and the directory
// give the changes of those files, for a review to judge. Nothing here knows what runs, or
// tells anybody.
//
// The machine can write the directory at any time, so that all that is read here is
// hostile: it is opened beneath the directory, through links that stay there as the host's
// programs would, and bounded in number, size and time. What the bounds leave out, the record
// and the changes say.
package live

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/review"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// Bounds of one look at a directory.
const (
	mostEntries = 500_000   // names that are looked at
	mostWatched = 20_000    // files that are watched
	mostContent = 8 << 20   // bytes of a file whose content is looked into
	mostRead    = 256 << 20 // bytes of contents that are read
	mostKept    = 64 << 20  // bytes of contents that are kept
	mostClosed  = 1000      // directories that cannot be listed
	mostTime    = 10 * time.Second
)

// Entry is a watched path, as it was.
type Entry struct {
	Path   []byte      `json:"path"` // relative, with slashes; any bytes
	Kind   review.Kind `json:"kind"`
	Mode   uint32      `json:"mode"`
	Size   int64       `json:"size,omitempty"`
	Target []byte      `json:"target,omitempty"` // of a link
	Sum    string      `json:"sum,omitempty"`    // of the content, where it was read
	CTime  int64       `json:"ctime"`            // which nobody can set, for contents that were not
	Inode  uint64      `json:"inode"`
	Kept   bool        `json:"kept,omitempty"` // its content is below the directory of copies
}

// Record is what was watched in a directory before a machine had it.
type Record struct {
	Dir     string  `json:"dir"`
	Entries []Entry `json:"entries"`
	// Levels is how many levels were looked at; all if it is negative.
	Levels int `json:"levels"`
	// Closed are directories that could not be listed, to which a program may know paths.
	Closed [][]byte `json:"closed,omitempty"`
}

// Judge knows what is worth a look: a review.Watcher.
type Judge interface {
	Watches(path string) bool
	Leads(name string) bool // whether a link of this name gives files a place where they run
}

// watched reports whether a path is.
func watched(j Judge, p string, link bool) bool { return j.Watches(p) || link && j.Leads(path.Base(p)) }

// Take looks at the directory dir, and copies what is watched there below copies, which it
// makes when there is something to copy.
func Take(ctx context.Context, dir, copies string, j Judge) (Record, error) {
	rec := Record{Dir: dir}
	root, err := openRoot(dir)
	if err != nil {
		return rec, err
	}
	defer unix.Close(root)
	left := budget{read: mostRead, kept: mostKept}
	closed := func(dir string) {
		if len(rec.Closed) < mostClosed {
			rec.Closed = append(rec.Closed, []byte(dir))
		}
	}
	rec.Levels, err = walk(ctx, root, allLevels, j, closed, func(p string, link bool) error {
		if !watched(j, p, link) {
			return nil
		}
		if len(rec.Entries) == mostWatched {
			return errBound
		}
		e, err := look(root, p, &left, copies)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		rec.Entries = append(rec.Entries, e)
		return err
	})
	return rec, err
}

// Changes are the changes of what is watched since a record was taken.
type Changes struct {
	Changes []review.Change
	// Partly says that something was left out: beyond the bounds, or in a directory that can be
	// listed no more.
	Partly bool
}

// Compare looks at the directory of rec again. Contents of the changes are read when they
// are opened.
func Compare(ctx context.Context, rec Record, copies string, j Judge) (Changes, error) {
	root, err := openRoot(rec.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Changes{}, nil // with all that was in it
	}
	if err != nil {
		return Changes{}, err
	}
	defer unix.Close(root)
	left := budget{read: mostRead}
	had := make(map[string]bool, len(rec.Entries))
	out := Changes{Partly: rec.Levels >= 0}
	// What was there comes first: no number of new files hides it.
	for i := range rec.Entries {
		old := &rec.Entries[i]
		p := string(old.Path)
		had[p] = true
		now, err := look(root, p, &left, "")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return out, err
		}
		if now.same(old) {
			continue
		}
		c := review.Change{Path: p, Old: old.node(""), New: now.node(rec.Dir)}
		if string(now.Target) == string(old.Target) && now.Kind == review.Symlink {
			// The link is as it was, and what it leads to is not.
			c.Old.Kind, c.New.Kind = review.Regular, review.Regular
			c.Old.Size, c.New.Size = old.Size, now.Size
			c.New.Open = func() (io.ReadCloser, error) { return open(rec.Dir, p) }
		}
		if old.Kept && c.Old.Kind == review.Regular {
			c.Old.Open = func() (io.ReadCloser, error) { return os.Open(filepath.Join(copies, filepath.FromSlash(p))) }
		}
		out.Changes = append(out.Changes, c)
	}
	added := 0
	// What was closed before, to the same user, the machine could not change.
	closed := func(dir string) {
		if !slices.ContainsFunc(rec.Closed, func(p []byte) bool { return string(p) == dir }) {
			out.Partly = true
		}
	}
	levels, err := walk(ctx, root, rec.Levels, j, closed, func(p string, link bool) error {
		if had[p] || !watched(j, p, link) {
			return nil
		}
		if added++; added > mostWatched {
			return errBound
		}
		now, err := look(root, p, &left, "")
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			return err
		}
		if now.Kind != review.None {
			out.Changes = append(out.Changes, review.Change{Path: p, New: now.node(rec.Dir)})
		}
		return nil
	})
	out.Partly = out.Partly || levels >= 0
	slices.SortFunc(out.Changes, func(a, b review.Change) int { return strings.Compare(a.Path, b.Path) })
	return out, err
}

// Host returns what a review may know of the directory of rec: its names as they are, and
// the contents of watched files as they were.
func (rec Record) Host(copies string) review.Host {
	watched := make(map[string]*Entry, len(rec.Entries))
	for i := range rec.Entries {
		watched[string(rec.Entries[i].Path)] = &rec.Entries[i]
	}
	return review.Host{
		Read: func(p string, max int) ([]byte, error) {
			var f io.ReadCloser
			var err error
			switch e := watched[p]; {
			case e != nil && e.Kept:
				f, err = os.Open(filepath.Join(copies, filepath.FromSlash(p)))
			case e != nil:
				return nil, errBound
			default:
				f, err = open(rec.Dir, p)
			}
			if err != nil {
				return nil, err
			}
			defer f.Close()
			return io.ReadAll(io.LimitReader(f, int64(max)))
		},
		Names: func(dir string) []string {
			h, err := workspace.OpenHost(rec.Dir)
			if err != nil {
				return nil
			}
			defer h.Close()
			return h.Names(dir)
		},
	}
}

// errBound is the error of what is beyond the bounds.
var errBound = errors.New("beyond what is looked at")

// budget is what may still be read and kept, in bytes.
type budget struct{ read, kept int64 }

// look returns what is at a path, whose content it copies below copies unless that is "".
func look(root int, p string, left *budget, copies string) (Entry, error) {
	e := Entry{Path: []byte(p)}
	fd, err := beneath(root, p, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return e, absent(p, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return e, fmt.Errorf("look at a watched file: %w", err)
	}
	e.Mode, e.CTime, e.Inode = st.Mode&0o777, st.Ctim.Nano(), st.Ino
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Kind, e.Size = review.Regular, st.Size
	case unix.S_IFDIR:
		e.Kind = review.Dir
		e.CTime, e.Inode = 0, 0
		return e, nil
	case unix.S_IFLNK:
		e.Kind = review.Symlink
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(fd, "", target)
		if err != nil {
			return e, fmt.Errorf("look at a watched link: %w", err)
		}
		e.Target = target[:n]
		return e, e.follow(root, left, copies)
	default:
		return Entry{Path: e.Path}, nil // a socket or a pipe: nothing runs it
	}
	if st.Size > mostContent || st.Size > left.read {
		return e, nil
	}
	left.read -= st.Size
	return e, e.read(root, left, copies)
}

// follow takes the sum of what a link leads to, if that is a file of the directory.
func (e *Entry) follow(root int, left *budget, copies string) error {
	fd, err := beneath(root, string(e.Path), unix.O_PATH)
	if err != nil {
		return nil // it leads to nothing, or to where the machine cannot write
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("follow a watched link: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	e.Mode, e.Size, e.CTime, e.Inode = st.Mode&0o777, st.Size, st.Ctim.Nano(), st.Ino
	if st.Size > mostContent || st.Size > left.read {
		return nil
	}
	left.read -= st.Size
	if err := e.read(root, left, copies); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// read takes the sum of a content, and a copy.
func (e *Entry) read(root int, left *budget, copies string) error {
	p := string(e.Path)
	fd, err := beneath(root, p, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if errors.Is(err, unix.EACCES) {
		return nil // what its owner cannot read is judged by its times
	}
	if err != nil {
		return absent(p, err)
	}
	f := os.NewFile(uintptr(fd), p)
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return fmt.Errorf("%w (%w)", fs.ErrNotExist, errors.Join(err, fs.ErrInvalid))
	}
	data, err := io.ReadAll(io.LimitReader(f, mostContent))
	if err != nil {
		return fmt.Errorf("read a watched file: %w", err)
	}
	sum := sha256.Sum256(data)
	e.Sum, e.Size = hex.EncodeToString(sum[:]), int64(len(data))
	if copies == "" || e.Size > left.kept {
		return nil
	}
	left.kept -= e.Size
	to := filepath.Join(copies, filepath.FromSlash(p))
	err = os.MkdirAll(filepath.Dir(to), 0o700)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err == nil {
		err = os.Chmod(to, 0o600|fs.FileMode(e.Mode)&0o700)
	}
	if err != nil {
		return fmt.Errorf("keep a copy of a watched file: %w", err)
	}
	e.Kept = true
	return nil
}

// absent is an error for what is not at a path, or not any more.
func absent(p string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENAMETOOLONG),
		errors.Is(err, unix.EACCES), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w (%w)", fs.ErrNotExist, err)
	}
	return fmt.Errorf("open a watched file: %w", err)
}

// same reports whether e, as it is now, is as old was.
func (e *Entry) same(old *Entry) bool {
	switch {
	case e.Kind != old.Kind || string(e.Target) != string(old.Target):
		return false
	case e.Kind == review.None || e.Kind == review.Dir:
		return true
	case e.Mode != old.Mode || e.Size != old.Size:
		return false
	case e.Sum != "" && old.Sum != "":
		return e.Sum == old.Sum
	}
	return e.CTime == old.CTime && e.Inode == old.Inode
}

// node returns e as a review sees it. dir is the directory where its content can be read.
func (e *Entry) node(dir string) review.Node {
	n := review.Node{Kind: e.Kind, Mode: e.Mode & 0o777, Size: e.Size, Target: string(e.Target)}
	if e.Kind == review.Regular && dir != "" {
		p := string(e.Path)
		n.Open = func() (io.ReadCloser, error) { return open(dir, p) }
	}
	if e.Kind == review.Symlink {
		n.Mode, n.Size = 0, 0
	}
	return n
}

// open opens a file of the directory dir.
func open(dir, p string) (io.ReadCloser, error) {
	root, err := openRoot(dir)
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	fd, err := beneath(root, p, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, absent(p, err)
	}
	f := os.NewFile(uintptr(fd), p)
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(fs.ErrInvalid, err)
	}
	return f, nil
}

func openRoot(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return fd, nil
}

// beneath opens a path below an open directory, whatever happens there meanwhile.
func beneath(root int, p string, flags int) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(root, p, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}
