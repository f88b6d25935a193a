package erofs

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// diskDirent is an entry of a directory in an image.
type diskDirent struct {
	name  string
	nid   uint64
	ftype byte
}

// dirBlock is a block of a directory: fixed-size records, then their names.
type dirBlock struct {
	b []byte
	n int // entries, at least one
}

// block reads block i of a directory.
func (f *file) block(i int64) (dirBlock, error) {
	b := make([]byte, min(blockSize, f.size-i*blockSize))
	if _, err := f.ReadAt(b, i*blockSize); err != nil {
		return dirBlock{}, err
	}
	if len(b) >= direntSize {
		// The first name begins where the records end.
		start := int(binary.LittleEndian.Uint16(b[8:]))
		if start > 0 && start%direntSize == 0 && start <= len(b) {
			return dirBlock{b, start / direntSize}, nil
		}
	}
	return dirBlock{}, fmt.Errorf("%w: block %d of directory %d", ErrCorrupt, i, f.nid)
}

// name returns the name of entry j, unchecked; nil when it is not in the block.
func (d dirBlock) name(j int) []byte {
	le := binary.LittleEndian
	from, to := int(le.Uint16(d.b[j*direntSize+8:])), len(d.b)
	last := j+1 == d.n
	if !last {
		to = int(le.Uint16(d.b[(j+1)*direntSize+8:]))
	}
	if from < d.n*direntSize || from > to || to > len(d.b) {
		return nil
	}
	name := d.b[from:to]
	if last {
		name, _, _ = bytes.Cut(name, []byte{0})
	}
	return name
}

// entry returns entry j.
func (d dirBlock) entry(j int) (diskDirent, error) {
	name := string(d.name(j))
	if name != "." && name != ".." {
		if err := checkName(name); err != nil {
			return diskDirent{}, fmt.Errorf("%w: directory entry: %w", ErrCorrupt, err)
		}
	}
	record := d.b[j*direntSize:]
	return diskDirent{name, binary.LittleEndian.Uint64(record), record[10]}, nil
}

// blocks is the number of a directory's blocks.
func (f *file) blocks() int64 { return (f.size + blockSize - 1) / blockSize }

// find returns the entry of a directory with a name.
func (f *file) find(name string) (e diskDirent, ok bool, err error) {
	// It is in the last block whose first name is not behind it.
	var in dirBlock
	for low, high := int64(0), f.blocks(); low < high; {
		mid := low + (high-low)/2
		d, err := f.block(mid)
		if err != nil {
			return diskDirent{}, false, err
		}
		if string(d.name(0)) <= name {
			low, in = mid+1, d
		} else {
			high = mid
		}
	}
	j, ok := sort.Find(in.n, func(j int) int { return strings.Compare(name, string(in.name(j))) })
	if !ok {
		return diskDirent{}, false, nil
	}
	e, err = in.entry(j)
	return e, err == nil, err
}

// child reads the inode of an entry.
func (im *Image) child(e diskDirent) (*file, error) {
	f, err := im.file(e.nid)
	if err != nil {
		return nil, err
	}
	if ftype, _ := fileType(uint32(f.mode)); ftype != e.ftype {
		return nil, fmt.Errorf("%w: entry %q has not the type of its inode", ErrCorrupt, e.name)
	}
	return f, nil
}

// find resolves a path; symbolic links are not followed.
func (im *Image) find(path string) (*file, error) {
	path, err := checkPath(path)
	if err != nil {
		return nil, err
	}
	f, err := im.root()
	if err != nil || path == "" {
		return f, err
	}
	for name := range strings.SplitSeq(path, "/") {
		if !f.isDir() {
			return nil, notExist(path)
		}
		switch e, ok, err := f.find(name); {
		case err != nil:
			return nil, err
		case !ok:
			return nil, notExist(path)
		default:
			if f, err = im.child(e); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

// Lookup describes the file at a path. Symbolic links are not followed, and
// Link is never set. The error wraps fs.ErrNotExist when there is none.
func (im *Image) Lookup(path string) (Entry, error) {
	f, err := im.find(path)
	if err != nil {
		return Entry{}, err
	}
	return f.entry(cmp.Or(path, "."))
}

// Open returns the content of the regular file at a path.
func (im *Image) Open(path string) (*io.SectionReader, error) {
	f, err := im.find(path)
	if err != nil {
		return nil, err
	}
	if f.mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrInvalid}
	}
	return f.open(), nil
}

// WalkFunc is called for every file of an image. The content of a regular file
// is what open returns; for other types open is nil. When it returns
// [fs.SkipDir] for a directory, what is below is left out; [fs.SkipAll] ends
// the walk.
type WalkFunc func(e Entry, open func() *io.SectionReader) error

// Walk calls fn for all files, in the order of a sorted depth-first walk: the
// root (".") first, directories before what is in them, names by their bytes.
// The second and later names of a file have Link set to the first, and open
// still works on them.
func (im *Image) Walk(fn WalkFunc) error {
	root, err := im.root()
	if err != nil {
		return fmt.Errorf("read erofs image: %w", err)
	}
	w := walker{im: im, fn: fn, seen: make(map[uint64]*place)}
	if err := w.visit(root, &place{name: "."}); err != nil && err != fs.SkipAll {
		return err
	}
	return nil
}

// place is where a file was seen first. Paths would take too much memory when
// an image is hostile.
type place struct {
	parent *place
	name   string
}

// path returns the path of a place.
func (p *place) path() string {
	if p.parent == nil || p.parent.parent == nil {
		return p.name
	}
	return p.parent.path() + "/" + p.name
}

// walker is a walk under way. Its counters keep an image whose directories or
// contents overlap from being larger than it is: our writer shares nothing.
type walker struct {
	im      *Image
	fn      WalkFunc
	seen    map[uint64]*place // by inode; directories too, against loops
	tree    int64             // about the memory that it takes
	content int64
}

func (w *walker) visit(f *file, at *place) error {
	path := at.path()
	bad := func(err error) error { return fmt.Errorf("read erofs image: %q: %w", path, err) }
	if len(path) > maxPath {
		return bad(fmt.Errorf("%w: path too long", ErrCorrupt))
	}
	e, err := f.entry(path)
	if err != nil {
		return bad(err)
	}
	if first := w.seen[f.nid]; first == nil {
		w.seen[f.nid] = at
		w.tree += int64(treeEntry + len(at.name))
		if f.layout != layoutChunks {
			w.content += f.size
		}
	} else if f.isDir() || f.nlink == 1 {
		return bad(fmt.Errorf("%w: it is %q as well", ErrCorrupt, first.path()))
	} else {
		e.Link = first.path()
	}
	if w.tree > maxTree || w.content > w.im.size {
		return bad(fmt.Errorf("%w: too many files, or contents that overlap", ErrCorrupt))
	}
	var open func() *io.SectionReader
	if f.mode&unix.S_IFMT == unix.S_IFREG {
		open = f.open
	}
	switch err := w.fn(e, open); {
	case err == fs.SkipDir && f.isDir():
		return nil
	case err != nil:
		return err
	case !f.isDir():
		return nil
	}
	prev := ""
	for i := range f.blocks() {
		d, err := f.block(i)
		if err != nil {
			return bad(err)
		}
		for j := range d.n {
			e, err := d.entry(j)
			if err != nil {
				return bad(err)
			}
			if e.name <= prev {
				return bad(fmt.Errorf("%w: directory is not sorted", ErrCorrupt))
			}
			prev = e.name
			if e.name == "." || e.name == ".." {
				continue
			}
			child, err := w.im.child(e)
			if err != nil {
				return bad(err)
			}
			if err := w.visit(child, &place{at, e.name}); err != nil {
				return err
			}
		}
	}
	return nil
}
