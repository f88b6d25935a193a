package erofs

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Options of an image. The zero value is good and reproducible.
type Options struct {
	VolumeName string    // at most 15 bytes
	UUID       [16]byte  // of the file system
	BuildTime  time.Time // of what has no other time; zero: 1970

	// MaxSize bounds the sizes of all files together, holes included, so that
	// a hostile archive cannot fill the disk. Zero means 256 GiB.
	MaxSize int64

	// FileSize is the size that the file has and keeps. The file holds
	// nothing yet: it is one hole, in which a running machine may already
	// have its disk. Zero means an empty file, which gets the image's size.
	FileSize int64

	// Ended is asked while large files are copied: an error of it ends that. It may be nil.
	Ended func() error
}

// Stats describes a finished image.
type Stats struct {
	Size     int64 // of the image in bytes
	Files    int   // regular files; a hard link is not one more
	Dirs     int   // the root included
	Symlinks int
	Others   int // devices, whiteouts, fifos, sockets
	Links    int // names in addition to an inode's first
}

// Writer writes one image. It is not for concurrent use.
//
// The image's layout follows the order of the calls: contents are appended as
// they come, in whole blocks, and inodes with the tails of small files are
// packed into runs of blocks in between. The directories follow at the end.
type Writer struct {
	f    *os.File
	opts Options
	root *inode

	pos     int64   // where buf goes
	buf     []byte  // contents not yet written
	run     metaRun // inodes not yet written
	scratch []byte  // for an inode

	linked  []*inode // whose link count may be no longer the stored one
	tree    int64    // about the memory that the tree takes
	content int64    // sizes of all files
	inodes  uint32
	chunks  bool  // some file has a chunk table
	err     error // the first failed write; nothing works after it
}

// NewWriter starts an image in f, which must be a regular file of
// Options.FileSize without any data; it must stay so but for the writer, and
// remains the caller's to sync and close.
func NewWriter(f *os.File, o Options) (*Writer, error) {
	switch fi, err := f.Stat(); {
	case err != nil:
		return nil, fmt.Errorf("start erofs image: %w", err)
	case !fi.Mode().IsRegular() || fi.Size() != o.FileSize || fi.Sys().(*syscall.Stat_t).Blocks != 0:
		return nil, fmt.Errorf("start erofs image: %s is not an empty regular file", f.Name())
	case len(o.VolumeName) > 15:
		return nil, fmt.Errorf("start erofs image: volume name %q is longer than 15 bytes", o.VolumeName)
	}
	if o.BuildTime.IsZero() {
		o.BuildTime = time.Unix(0, 0)
	}
	o.MaxSize = cmp.Or(o.MaxSize, defaultMaxSize)
	w := &Writer{
		f:    f,
		opts: o,
		pos:  blockSize, // the superblock and the root directory come last
		buf:  make([]byte, 0, bufferSize),
		run:  metaRun{buf: make([]byte, 0, maxRun*blockSize), used: make([]int, 0, maxRun)},
	}
	w.root = w.newDir()
	return w, nil
}

// Add adds an entry. Its parent directories need not exist yet: they are made
// with mode 0755 and owned by root, and an entry for them may come later.
//
// A second entry with the same path replaces the first, as in a tar archive:
// a directory keeps its children and gets new attributes, everything else
// gives way, and the bytes that it took in the image are not regained.
//
// The content of a regular file with a size is read from r, which must end
// exactly there. After an error about the entry the writer is as it was
// before; after an error of writing the image only that error is returned.
func (w *Writer) Add(e Entry, r io.Reader) error {
	return w.add(e, source{r: r})
}

// AddFile is Add for a regular file of the host, which it reads from the
// start whatever f's offset is. Holes are not read. When the file has not
// e.Size bytes any more, the error wraps ErrChanged; a change that keeps the
// size goes unnoticed.
func (w *Writer) AddFile(e Entry, f *os.File) error {
	if e.Link == "" && e.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("add %q: not a regular file", e.Path)
	}
	return w.add(e, source{f: f})
}

func (w *Writer) add(e Entry, src source) error {
	if w.err != nil {
		return w.err
	}
	if err := w.addEntry(&e, src); err != nil {
		return cmp.Or(w.err, fmt.Errorf("add %q: %w", e.Path, err))
	}
	return nil
}

func (w *Writer) addEntry(e *Entry, src source) error {
	path, err := checkPath(e.Path)
	if err != nil {
		return err
	}
	if err := w.charge(len(path) + len(e.Target)); err != nil {
		return err
	}
	if e.Link != "" {
		return w.addLink(path, e.Link)
	}
	ftype, ok := fileType(e.Mode)
	if !ok || e.Mode > 0xffff {
		return fmt.Errorf("mode %#o has no known type", e.Mode)
	}
	if e.MTime.IsZero() {
		e.MTime = w.opts.BuildTime
	}
	xattrs, err := encodeXattrs(e.Xattrs)
	if err != nil {
		return err
	}
	if ftype == typeDir {
		d, err := w.dir(path)
		if err != nil {
			return err
		}
		if d == w.root.dir && inodeSize+len(xattrs) > blockSize-rootOffset {
			return errRootXattrs
		}
		if err := w.charge(len(xattrs)); err != nil {
			return err
		}
		d.attrs = attrs{mode: e.Mode, uid: e.UID, gid: e.GID, mtime: e.MTime, xattrs: e.Xattrs}
		return nil
	}
	if path == "" {
		return errors.New("the root must be a directory")
	}
	if err := w.checkParents(path); err != nil {
		return err
	}
	in := diskInode{
		xattrs: len(xattrs),
		mode:   uint16(e.Mode),
		number: w.inodes + 1,
		uid:    e.UID,
		gid:    e.GID,
		mtime:  e.MTime,
		nlink:  1,
	}
	switch e.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		in.size = e.Size
	case unix.S_IFLNK:
		if e.Target == "" || len(e.Target) > maxPath || strings.Contains(e.Target, "\x00") {
			return fmt.Errorf("bad target %q of a symbolic link", e.Target)
		}
		in.size = int64(len(e.Target))
		src = source{r: strings.NewReader(e.Target)}
	case unix.S_IFCHR, unix.S_IFBLK:
		if in.data, err = encodeDevice(e.Rdev); err != nil {
			return err
		}
		src = source{}
	default:
		src = source{}
	}
	off, err := w.writeInode(&in, xattrs, src)
	if err != nil {
		return err
	}
	w.inodes++
	w.content += in.size
	w.put(path, &inode{off: off, ftype: ftype, nlink: 1, target: e.Target})
	return nil
}

// addLink adds path as a further name of the file at target.
func (w *Writer) addLink(path, target string) error {
	clean, err := checkPath(target)
	if err != nil {
		return fmt.Errorf("hard link: %w", err)
	}
	old := w.lookup(clean)
	switch {
	case old == nil:
		return fmt.Errorf("hard link to %q: %w", target, os.ErrNotExist)
	case old.dir != nil || path == "":
		return fmt.Errorf("hard link to %q: no hard links of directories", target)
	}
	if err := w.checkParents(path); err != nil {
		return err
	}
	if w.lookup(path) == old {
		return nil
	}
	old.nlink++
	w.linked = append(w.linked, old)
	w.put(path, old)
	return nil
}

// Finish writes the directories and the superblock. The writer is of no use
// after it.
func (w *Writer) Finish() (Stats, error) {
	if w.err != nil {
		return Stats{}, w.err
	}
	s, err := w.finish()
	if err != nil {
		return Stats{}, fmt.Errorf("finish erofs image: %w", err)
	}
	w.err = errors.New("erofs image is finished")
	return s, nil
}

func (w *Writer) finish() (Stats, error) {
	if err := w.retireRun(); err != nil {
		return Stats{}, err
	}
	block0 := make([]byte, blockSize)
	dirs, stats := w.collect()
	if err := w.writeDirs(dirs, block0); err != nil {
		return Stats{}, err
	}
	if err := w.flush(); err != nil {
		return Stats{}, err
	}
	sb := superblock{
		inodes: uint64(w.inodes),
		blocks: uint32(w.pos / blockSize),
		epoch:  w.opts.BuildTime.Unix(),
		uuid:   w.opts.UUID,
		volume: w.opts.VolumeName,
	}
	if w.chunks {
		sb.incompat = incompatChunks
	}
	sb.encode(block0)
	if err := w.writeAt(block0, 0); err != nil {
		return Stats{}, err
	}
	for _, ino := range w.linked {
		n := [4]byte{byte(ino.nlink), byte(ino.nlink >> 8), byte(ino.nlink >> 16), byte(ino.nlink >> 24)}
		if err := w.writeAt(n[:], ino.off+inodeNlinkOffset); err != nil {
			return Stats{}, err
		}
	}
	// The last block may end in a hole.
	if err := w.truncate(w.pos); err != nil {
		return Stats{}, err
	}
	if o := w.opts; o.FileSize != 0 && w.pos > o.FileSize {
		return Stats{}, fmt.Errorf("the image of %d bytes is larger than its disk of %d", w.pos, o.FileSize)
	}
	stats.Size = w.pos
	return stats, nil
}
