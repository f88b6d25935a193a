package erofs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const (
	bufferSize = 1 << 20

	// Below this size the tail of a file lies behind its inode, which saves
	// half a block on average. Larger files are whole blocks, so that one
	// read gets them, and are looked at for holes.
	largeFile = 64 << 10

	minChunk  = 64 << 10
	maxChunks = 1 << 18 // keeps the table small, until chunks have bufferSize

	// A tail larger than this rather takes a block of its own than that a new
	// run is begun for it: the blocks of the old one can still take others.
	largeTail = blockSize / 2

	// From this size on the kernel copies a file, and shares the blocks where
	// both are on a file system that can.
	copyInKernel = 1 << 20
)

// source is where a file's content comes from: a reader or a file.
type source struct {
	r io.Reader
	f *os.File

	off       int64 // read so far
	dataStart int64 // f has data from here to dataEnd, and a hole before it
	dataEnd   int64
	noHoles   bool // f cannot tell
}

// next reads the next len(p) bytes.
func (s *source) next(p []byte) error {
	if s.f == nil {
		if s.r == nil {
			return errors.New("has a size and no content")
		}
		if _, err := io.ReadFull(s.r, p); err == io.EOF || err == io.ErrUnexpectedEOF {
			return fmt.Errorf("content is shorter than the size says: %w", io.ErrUnexpectedEOF)
		} else if err != nil {
			return fmt.Errorf("read content: %w", err)
		}
		s.off += int64(len(p))
		return nil
	}
	for len(p) > 0 {
		n, err := unix.Pread(int(s.f.Fd()), p, s.off)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return &os.PathError{Op: "read", Path: s.f.Name(), Err: err}
		case n == 0:
			return fmt.Errorf("%w: it ends at %d", ErrChanged, s.off)
		}
		s.off += int64(n)
		p = p[n:]
	}
	return nil
}

// end checks that nothing follows what has been read.
func (s *source) end() error {
	var b [1]byte
	switch {
	case s.f != nil:
		fi, err := s.f.Stat()
		if err != nil {
			return err
		}
		if fi.Size() != s.off {
			return fmt.Errorf("%w: it has %d bytes and had %d", ErrChanged, fi.Size(), s.off)
		}
	case s.r != nil:
		switch n, err := io.ReadFull(s.r, b[:]); {
		case n > 0:
			return errors.New("content is longer than the size says")
		case err != io.EOF:
			return fmt.Errorf("read content: %w", err)
		}
	}
	return nil
}

// skipHole skips the next n bytes and returns true when they are a hole.
func (s *source) skipHole(n int64) bool {
	if s.f == nil || s.noHoles {
		return false
	}
	if s.off >= s.dataEnd {
		fd := int(s.f.Fd())
		start, err := unix.Seek(fd, s.off, unix.SEEK_DATA)
		if err == unix.ENXIO { // a hole up to the end
			s.dataStart, s.dataEnd = maxFileSize, maxFileSize
		} else if err != nil {
			s.noHoles = true
			return false
		} else if end, err := unix.Seek(fd, start, unix.SEEK_HOLE); err != nil {
			s.noHoles = true
			return false
		} else {
			s.dataStart, s.dataEnd = start, end
		}
	}
	if s.off+n > s.dataStart {
		return false
	}
	s.off += n
	return true
}

// writeInode writes a file's content and inode and returns where the inode is.
func (w *Writer) writeInode(in *diskInode, xattrs []byte, src source) (int64, error) {
	if in.size < 0 || in.size > w.opts.MaxSize-w.content {
		return 0, fmt.Errorf("size %d: the image may hold %d bytes", in.size, w.opts.MaxSize)
	}
	start := w.end()
	var more []byte // behind the inode and its xattrs
	var err error
	if in.size < largeFile {
		more, err = w.writeSmall(in, &src)
	} else {
		more, err = w.writeLarge(in, &src)
	}
	if err == nil {
		err = src.end()
	}
	if err != nil {
		return 0, errors.Join(err, w.rollBack(start))
	}
	if in.layout == layoutChunks {
		w.chunks = true
	}
	meta := make([]byte, inodeSize, inodeSize+len(xattrs)+len(more))
	in.encode(meta)
	meta = append(meta, xattrs...)
	meta = append(meta, more...)
	return w.writeMeta(meta)
}

// writeSmall writes the content of a small file. It returns the tail that is
// to follow the inode, if any.
func (w *Writer) writeSmall(in *diskInode, src *source) ([]byte, error) {
	if in.size == 0 {
		return nil, nil
	}
	p, err := w.room(int(in.size))
	if err != nil {
		return nil, err
	}
	if err := src.next(p); err != nil {
		return nil, err
	}
	body := len(p) &^ (blockSize - 1)
	tail := len(p) - body
	in.data = uint32(w.end() / blockSize)
	meta := inodeSize + in.xattrs + tail
	if tail == 0 || meta > blockSize || tail > largeTail && !w.run.fits(meta) {
		return nil, w.extend(len(p))
	}
	in.layout = layoutInline
	w.inline = append(w.inline[:0], p[body:]...)
	return w.inline, w.extend(body)
}

// writeLarge writes the content of a large file. It returns the chunk table
// that is to follow the inode when the file has holes.
func (w *Writer) writeLarge(in *diskInode, src *source) ([]byte, error) {
	first := uint32(w.end() / blockSize)
	if copied, err := w.copyFile(in.size, src); err != nil || copied {
		in.data = first
		return nil, err
	}
	chunk, bits := int64(minChunk), uint32(4)
	for in.size/chunk > maxChunks && chunk < bufferSize {
		chunk, bits = chunk*2, bits+1
	}
	table := make([]byte, 0, 4*(in.size/chunk+1))
	holes := false
	for left := in.size; left > 0; left -= chunk {
		n := min(chunk, left)
		block := uint32(w.end() / blockSize)
		hole := src.skipHole(n)
		if !hole {
			p, err := w.room(int(n))
			if err != nil {
				return nil, err
			}
			if err := src.next(p); err != nil {
				return nil, err
			}
			if hole = isZero(p); !hole {
				if err := w.extend(len(p)); err != nil {
					return nil, err
				}
			}
		}
		if hole {
			block = nullBlock
			holes = true
		}
		table = append(table, byte(block), byte(block>>8), byte(block>>16), byte(block>>24))
	}
	if !holes {
		in.data = first
		return nil, nil
	}
	in.layout = layoutChunks
	in.data = bits
	return table, nil
}

// copyFile lets the kernel copy a file without holes. It returns false when
// the content must be read.
func (w *Writer) copyFile(size int64, src *source) (bool, error) {
	if src.f == nil || size < copyInKernel {
		return false, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(src.f.Fd()), &st); err != nil {
		return false, &os.PathError{Op: "stat", Path: src.f.Name(), Err: err}
	}
	if st.Blocks*512 < size {
		return false, nil // holes, or compressed by its file system
	}
	if err := w.flush(); err != nil {
		return false, err
	}
	to := w.pos
	for src.off < size {
		n, err := unix.CopyFileRange(int(src.f.Fd()), &src.off, int(w.f.Fd()), &to, int(min(size-src.off, 1<<30)), 0)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil && src.off == 0 && err != unix.ENOSPC:
			return false, nil // two file systems that cannot: read and write
		case err != nil:
			return false, fmt.Errorf("copy into the image: %w", err)
		case n == 0:
			return false, fmt.Errorf("%w: it ends at %d", ErrChanged, src.off)
		}
	}
	w.pos = alignUp(to, blockSize)
	return true, w.checkSize()
}

// isZero says whether p, which is not empty, holds nothing but zero bytes.
func isZero(p []byte) bool {
	return p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1])
}
