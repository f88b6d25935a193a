package erofs

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"

	"golang.org/x/sys/unix"
)

// Image is an image that is read. It is safe for concurrent use if its reader
// is, and keeps nothing in memory.
type Image struct {
	r    io.ReaderAt
	size int64
}

// Open starts to read the image in the first size bytes of r.
//
// Nothing in an image is trusted: whatever is wrong with it gives an error that
// wraps ErrCorrupt, in bounded time and memory.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	im := &Image{r: r, size: size}
	block, err := im.read(0, blockSize)
	if err != nil {
		return nil, fmt.Errorf("open erofs image: %w", err)
	}
	if err := im.checkSuper(block[superOffset:]); err != nil {
		return nil, fmt.Errorf("open erofs image: %w", err)
	}
	if _, err := im.root(); err != nil {
		return nil, fmt.Errorf("open erofs image: %w", err)
	}
	return im, nil
}

// checkSuper checks the superblock, b being the first block from there on.
func (im *Image) checkSuper(b []byte) error {
	le := binary.LittleEndian
	if m := le.Uint32(b); m != superMagic {
		return fmt.Errorf("%w: magic number %#x", ErrCorrupt, m)
	}
	sum := le.Uint32(b[4:])
	clear(b[4:8])
	switch {
	case le.Uint32(b[8:])&compatChecksum == 0 || superChecksum(b) != sum:
		return fmt.Errorf("%w: superblock checksum", ErrCorrupt)
	case le.Uint32(b[80:])&^incompatChunks != 0 || b[12] != blockBits || b[13] != 0 || b[90] != 0 ||
		le.Uint32(b[40:]) != 0 || le.Uint16(b[14:]) != rootNID:
		return fmt.Errorf("%w: not an image that this program writes", ErrCorrupt)
	case int64(le.Uint32(b[36:]))*blockSize != im.size:
		return fmt.Errorf("%w: %d blocks in %d bytes", ErrCorrupt, le.Uint32(b[36:]), im.size)
	}
	return nil
}

// read reads n bytes, which must be inside the image.
func (im *Image) read(off, n int64) ([]byte, error) {
	if err := im.inside(off, n); err != nil {
		return nil, err
	}
	b := make([]byte, n)
	if _, err := im.r.ReadAt(b, off); err != nil && err != io.EOF {
		return nil, err
	} else if err == io.EOF {
		return nil, fmt.Errorf("%w: it is shorter than %d bytes", ErrCorrupt, off+n)
	}
	return b, nil
}

// inside checks that n bytes at off are in the image.
func (im *Image) inside(off, n int64) error {
	if off < 0 || n < 0 || off > im.size || n > im.size-off {
		return fmt.Errorf("%w: %d bytes at %d are outside", ErrCorrupt, n, off)
	}
	return nil
}

// file is an inode of an image.
type file struct {
	diskInode
	im    *Image
	nid   uint64
	after int64 // the offset behind inode and xattrs
	chunk uint  // log2 of the size of chunks
}

func (im *Image) root() (*file, error) {
	f, err := im.file(rootNID)
	if err == nil && !f.isDir() {
		err = fmt.Errorf("%w: the root is no directory", ErrCorrupt)
	}
	return f, err
}

func (f *file) isDir() bool { return f.mode&unix.S_IFMT == unix.S_IFDIR }

// file reads the inode with number nid and checks all that it points to.
func (im *Image) file(nid uint64) (*file, error) {
	if nid > math.MaxInt64/inodeAlign {
		return nil, fmt.Errorf("%w: inode number %#x", ErrCorrupt, nid)
	}
	off := int64(nid) * inodeAlign
	b, err := im.read(off, inodeSize)
	if err != nil {
		return nil, err
	}
	f := &file{im: im, nid: nid}
	if err := f.decode(b); err != nil {
		return nil, err
	}
	f.after = off + inodeSize + int64(f.xattrs)
	if err := im.inside(off, f.after-off); err != nil {
		return nil, err
	}
	if f.size < 0 || f.size > maxFileSize || f.nlink == 0 {
		return nil, fmt.Errorf("%w: inode %d has %d bytes and %d links", ErrCorrupt, nid, f.size, f.nlink)
	}
	switch f.mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
	case unix.S_IFLNK:
		if f.size == 0 || f.size > maxPath || f.layout == layoutChunks {
			return nil, fmt.Errorf("%w: symbolic link of %d bytes", ErrCorrupt, f.size)
		}
	case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
		if f.size != 0 {
			return nil, fmt.Errorf("%w: device with a content", ErrCorrupt)
		}
		return f, nil
	default:
		return nil, fmt.Errorf("%w: inode %d has mode %#o", ErrCorrupt, nid, f.mode)
	}
	return f, f.checkData()
}

// checkData checks that the content is inside the image; that of a chunk is
// checked when it is read.
func (f *file) checkData() error {
	data := int64(f.data) * blockSize
	switch f.layout {
	case layoutPlain:
		if f.size == 0 {
			return nil
		}
		return f.im.inside(data, alignUp(f.size, blockSize))
	case layoutInline:
		tail := f.size % blockSize
		if f.after%blockSize+tail > blockSize {
			return fmt.Errorf("%w: inline data of inode %d crosses a block", ErrCorrupt, f.nid)
		}
		if err := f.im.inside(f.after, tail); err != nil || f.size == tail {
			return err
		}
		return f.im.inside(data, f.size-tail)
	case layoutChunks:
		if f.data&^chunkBitsMask != 0 || f.isDir() {
			return fmt.Errorf("%w: chunk format %#x of inode %d", ErrCorrupt, f.data, f.nid)
		}
		f.chunk = blockBits + uint(f.data)
		chunks := (f.size + 1<<f.chunk - 1) >> f.chunk
		return f.im.inside(f.after, 4*chunks)
	}
	return fmt.Errorf("%w: inode %d has layout %d", ErrCorrupt, f.nid, f.layout)
}

// ReadAt reads the file's content.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= f.size {
		return 0, io.EOF
	}
	want := len(p)
	p = p[:min(int64(len(p)), f.size-off)]
	n := 0
	for n < len(p) {
		m, err := f.readPart(p[n:], off+int64(n))
		n += m
		if err != nil {
			return n, err
		}
	}
	if n < want {
		return n, io.EOF
	}
	return n, nil
}

// readPart reads what is in one piece from off on; p ends inside the file.
func (f *file) readPart(p []byte, off int64) (int, error) {
	at := int64(f.data)*blockSize + off
	switch f.layout {
	case layoutInline:
		if body := f.size - f.size%blockSize; off >= body {
			at = f.after + off - body
		} else {
			p = p[:min(int64(len(p)), body-off)]
		}
	case layoutChunks:
		left := 1<<f.chunk - off&(1<<f.chunk-1)
		p = p[:min(int64(len(p)), left)]
		entry, err := f.im.read(f.after+4*(off>>f.chunk), 4)
		if err != nil {
			return 0, err
		}
		block := binary.LittleEndian.Uint32(entry)
		if block == nullBlock {
			clear(p)
			return len(p), nil
		}
		at = int64(block)*blockSize + off&(1<<f.chunk-1)
		if err := f.im.inside(at, int64(len(p))); err != nil {
			return 0, err
		}
	}
	n, err := f.im.r.ReadAt(p, at)
	if n == len(p) {
		return n, nil
	}
	if err == io.EOF {
		err = fmt.Errorf("%w: it is shorter than %d bytes", ErrCorrupt, f.im.size)
	}
	return n, err
}

// Data returns where the data at off or behind it begins and ends, and the file's size
// for both where there is none. Only the holes of a chunk table are known as such.
func (f *file) Data(off int64) (start, end int64, err error) {
	if f.layout != layoutChunks || off >= f.size {
		return min(off, f.size), f.size, nil
	}
	chunks := (f.size + 1<<f.chunk - 1) >> f.chunk
	first, found := int64(0), false
	for i := off >> f.chunk; i < chunks; {
		table, err := f.im.read(f.after+4*i, 4*min(chunks-i, 1024))
		if err != nil {
			return 0, 0, err
		}
		for ; len(table) > 0; table, i = table[4:], i+1 {
			switch hole := binary.LittleEndian.Uint32(table) == nullBlock; {
			case !hole && !found:
				first, found = i, true
			case hole && found:
				return max(off, first<<f.chunk), i << f.chunk, nil
			}
		}
	}
	if !found {
		return f.size, f.size, nil
	}
	return max(off, first<<f.chunk), f.size, nil
}

// open returns the content of a regular file.
func (f *file) open() *io.SectionReader {
	return io.NewSectionReader(f, 0, f.size)
}

// entry describes the file.
func (f *file) entry(path string) (Entry, error) {
	e := Entry{
		Path:  path,
		Mode:  uint32(f.mode),
		UID:   f.uid,
		GID:   f.gid,
		MTime: f.mtime,
	}
	b, err := f.im.read(f.after-int64(f.xattrs), int64(f.xattrs))
	if err != nil {
		return Entry{}, err
	}
	if e.Xattrs, err = decodeXattrs(b); err != nil {
		return Entry{}, err
	}
	switch f.mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Size = f.size
	case unix.S_IFLNK:
		target := make([]byte, f.size)
		if _, err := f.ReadAt(target, 0); err != nil {
			return Entry{}, err
		}
		e.Target = string(target)
		if strings.Contains(e.Target, "\x00") {
			return Entry{}, fmt.Errorf("%w: target %q of a symbolic link", ErrCorrupt, e.Target)
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Rdev = decodeDevice(f.data)
	}
	return e, nil
}
