// Package transfer carries files between the host and a machine, as tar streams.
//
// Pack reads a directory that may be live in a machine, whose guest exchanges what is in
// it meanwhile. Extract writes what a guest sends, which is hostile: nothing is written
// outside of the target or through a link, and devices and setuid bits are not kept.
package transfer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/diskspace"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/sparse"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Bounds of what comes out of a machine, beside the free disk space.
const (
	maxSkipped = 20 // named, of the files that were left out
	maxEntries = 1_000_000
	maxDepth   = 512
	maxPath    = 4096
)

// reserve is what stays free on the host's disk: a tenth of what is free, and no more than
// a gibibyte.
func reserve(free int64) int64 { return min(free/10, 1<<30) }

// Extract writes the tar stream of a guest below root, the entry name as newName. It
// returns what it left out. It takes no more than the disk holds with something to spare,
// and believes no size before it has checked it.
func Extract(root *os.Root, r io.Reader, name, newName string) (skipped []string, err error) {
	free, err := diskspace.Free(root.Name())
	if err != nil {
		return nil, err
	}
	x := &extraction{name: name, newName: newName, left: free - reserve(free), free: free}
	return x.run(root, r)
}

// Unpack writes the tar stream of somebody who is trusted below root, the entry name as
// newName: links as they are, and all times and permissions.
func Unpack(root *os.Root, r io.Reader, name, newName string) error {
	free, err := diskspace.Free(root.Name())
	if err != nil {
		return err
	}
	x := &extraction{name: name, newName: newName, left: free, free: free, trusted: true}
	_, err = x.run(root, r)
	return err
}

// extraction is one run of Extract.
type extraction struct {
	name, newName string
	trusted       bool
	left          int64 // bytes that may still be written
	free          int64
	entries       int
	skipped       []string
	open          []openDir // the directories on the way to the last entry, outermost first
}

// openDir is a directory that is open: entries come in the order of a walk, and a path of
// many directories would be walked for each from its beginning.
type openDir struct {
	name string
	fd   int
}

func (x *extraction) run(root *os.Root, r io.Reader) (skipped []string, err error) {
	top, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer top.Close()
	defer x.leave(0)
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return x.skipped, nil
		}
		if err != nil {
			return x.skipped, fmt.Errorf("read what the machine sent: %w", err)
		}
		if err := x.check(h); err != nil {
			return x.skipped, err
		}
		if err := x.entry(int(top.Fd()), h, tr); err != nil {
			return x.skipped, quoteNames(err)
		}
	}
}

// check refuses what no archiver of mayfly's sends.
func (x *extraction) check(h *tar.Header) error {
	if x.entries++; x.entries > maxEntries {
		return fmt.Errorf("the machine sent more than %d files", maxEntries)
	}
	if len(h.Name) > maxPath || strings.Count(h.Name, "/") > maxDepth {
		return fmt.Errorf("%s: a path is longer than %d bytes or deeper than %d directories", termsafe.Quote(shorten(h.Name)), maxPath, maxDepth)
	}
	sparse := h.Typeflag == tar.TypeGNUSparse
	for key := range h.PAXRecords {
		sparse = sparse || strings.HasPrefix(key, "GNU.sparse.")
	}
	if sparse {
		// A few bytes of it stand for as many zeros as the guest likes.
		return fmt.Errorf("%s: the machine sent a sparse file", termsafe.Quote(h.Name))
	}
	if h.Size > x.left || h.Size < 0 {
		return fault.New(fault.NoSpaceForCopy, fault.Args{"free": strconv.FormatInt(x.free, 10)},
			"%s: %w: it has %d bytes, and of %d that are free some are left for the host", termsafe.Quote(h.Name), unix.ENOSPC, h.Size, x.free)
	}
	x.left -= h.Size
	return nil
}

// shorten returns the beginning of a long name.
func shorten(name string) string { return name[:min(len(name), 100)] }

func (x *extraction) skip(entry, why string) {
	if len(x.skipped) < maxSkipped {
		x.skipped = append(x.skipped, termsafe.Quote(entry)+": "+why)
	}
}

// errBehindLink is the error of an entry that is not in a directory of its own.
var errBehindLink = errors.New("it is behind a link")

// entry writes one entry.
func (x *extraction) entry(top int, h *tar.Header, content io.Reader) error {
	clean := path.Clean(h.Name)
	rest, ok := strings.CutPrefix(clean, x.name)
	if !ok || rest != "" && rest[0] != '/' || !filepath.IsLocal(clean) {
		x.skip(h.Name, "it was not asked for")
		return nil
	}
	to := x.newName + rest
	dir, base, err := x.enter(top, to)
	if errors.Is(err, errBehindLink) {
		x.skip(h.Name, err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	op := "mkdir"
	switch h.Typeflag {
	case tar.TypeDir:
		err = unix.Mkdirat(dir, base, x.mode(h, 0o755))
		if err == unix.EEXIST {
			err = nil
		}
	case tar.TypeReg:
		op = "write"
		err = x.file(dir, base, h, content)
	case tar.TypeSymlink:
		// Whoever follows it later must not leave what was copied.
		if target := path.Join(path.Dir(to), h.Linkname); !x.trusted && (path.IsAbs(h.Linkname) || upAfterDown(h.Linkname) ||
			target != x.newName && !strings.HasPrefix(target, x.newName+"/")) {
			x.skip(h.Name, "a link that leads out")
			return nil
		}
		op = "link"
		err = unix.Symlinkat(h.Linkname, dir, base)
	default:
		x.skip(h.Name, "neither a file, nor a directory, nor a link")
		return nil
	}
	if _, ok := errors.AsType[unix.Errno](err); ok {
		return &fs.PathError{Op: op, Path: to, Err: err}
	}
	return err
}

// mode returns the permissions of an entry: of a guest's those that are wanted.
func (x *extraction) mode(h *tar.Header, wanted uint32) uint32 {
	if x.trusted {
		return uint32(h.Mode) & 0o777
	}
	return wanted
}

// enter opens the directory that the path to is in, of which those on the way stay open.
// Of what comes out of a machine nothing is written through a link, also one that stays
// below: files were there before.
func (x *extraction) enter(top int, to string) (dir int, base string, err error) {
	names := strings.Split(to, "/")
	base = names[len(names)-1]
	names = names[:len(names)-1]
	same := 0
	for same < len(names) && same < len(x.open) && x.open[same].name == names[same] {
		same++
	}
	x.leave(same)
	dir = top
	if same > 0 {
		dir = x.open[same-1].fd
	}
	for i, name := range names[same:] {
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.ENOTDIR || err == unix.ELOOP {
			var st unix.Stat_t
			if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
				return 0, "", errBehindLink
			}
		}
		if err != nil {
			return 0, "", &fs.PathError{Op: "open", Path: path.Join(names[:same+i+1]...), Err: err}
		}
		x.open = append(x.open, openDir{name, fd})
		dir = fd
	}
	return dir, base, nil
}

// leave closes all open directories but the first n.
func (x *extraction) leave(n int) {
	for _, d := range x.open[n:] {
		unix.Close(d.fd)
	}
	x.open = x.open[:n]
}

// file writes a regular file.
func (x *extraction) file(dir int, base string, h *tar.Header, content io.Reader) error {
	// A link that stands there is not followed to what it names.
	var st unix.Stat_t
	if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%s is there already, and no file", termsafe.Quote(base))
	}
	mode := x.mode(h, uint32(h.Mode)&0o755|0o600)
	fd, err := unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	w := sparse.NewWriter(f)
	n, err := io.Copy(w, content)
	if err == nil && n != h.Size {
		err = io.ErrUnexpectedEOF
	}
	err = errors.Join(err, w.Finish())
	if err == nil && x.trusted {
		when := unix.NsecToTimeval(h.ModTime.UnixNano())
		if h.ModTime.Before(time.Unix(0, 0)) {
			when = unix.Timeval{}
		}
		err = unix.Futimes(fd, []unix.Timeval{when, when})
	}
	return errors.Join(err, f.Close())
}

// upAfterDown reports whether a link goes up behind a name: where that is depends on what
// is there, another link of the same guest's say.
func upAfterDown(link string) bool {
	named := false
	for part := range strings.SplitSeq(link, "/") {
		if part == ".." && named {
			return true
		}
		named = named || part != ".." && part != "." && part != ""
	}
	return false
}

// quoteNames returns err with the names of files in it quoted. A guest has chosen them, and
// they may hold line breaks, behind which it would speak in mayfly's name.
func quoteNames(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s %s: %w", e.Op, termsafe.Quote(e.Path), e.Err)
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return fmt.Errorf("%s %s %s: %w", e.Op, termsafe.Quote(e.Old), termsafe.Quote(e.New), e.Err)
	}
	return err
}
