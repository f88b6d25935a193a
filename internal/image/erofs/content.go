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

	// It copies so much before it asks whether to go on.
	copyAtOnce = 64 << 20
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

// fill reads on until p is full or the content ends. Of a file, the first
// enough bytes do: it gives all it has, so that whoever asks for one byte more
// than that sees with one call that it has not grown.
func (s *source) fill(p []byte, enough int) (n int, err error) {
	defer func() { s.off += int64(n) }()
	switch {
	case s.f != nil:
		for n < enough {
			m, err := unix.Pread(int(s.f.Fd()), p[n:], s.off+int64(n))
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return n, &os.PathError{Op: "read", Path: s.f.Name(), Err: err}
			}
			if m == 0 {
				break
			}
			n += m
		}
		return n, nil
	case s.r != nil:
		n, err = io.ReadFull(s.r, p)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = nil
		}
		return n, err
	}
	return 0, nil
}

// lengthError is the error about a content that is not as long as it was
// announced.
func (s *source) lengthError(size int64) error {
	err := ErrChanged
	if s.f == nil {
		err = io.ErrUnexpectedEOF
		if s.off > size {
			err = errors.New("too much data")
		}
	}
	return fmt.Errorf("content is not of %d bytes: %w", size, err)
}

// next reads the next len(p) bytes of a content of size bytes.
func (s *source) next(p []byte, size int64) error {
	n, err := s.fill(p, len(p))
	if err == nil && n < len(p) {
		err = s.lengthError(size)
	}
	return err
}

// end checks that the content ends after the size bytes that have been read.
func (s *source) end(size int64) error {
	if s.f != nil {
		// Reading would not tell that a file has shrunk inside a hole.
		var st unix.Stat_t
		if err := unix.Fstat(int(s.f.Fd()), &st); err != nil {
			return &os.PathError{Op: "stat", Path: s.f.Name(), Err: err}
		}
		if st.Size != size {
			return s.lengthError(size)
		}
		return nil
	}
	n, err := s.fill(make([]byte, 1), 1)
	if err == nil && n > 0 {
		err = s.lengthError(size)
	}
	return err
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
	if in.size < 0 || in.size > min(maxFileSize, w.opts.MaxSize-w.content) {
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
	if err != nil {
		return 0, errors.Join(err, w.rollBack(start))
	}
	if in.layout == layoutChunks {
		w.chunks = true
	}
	meta := append(w.scratch[:0], make([]byte, inodeSize)...)
	in.encode(meta)
	meta = append(meta, xattrs...)
	meta = append(meta, more...)
	w.scratch = meta
	return w.writeMeta(meta)
}

// writeSmall writes the content of a small file. It returns the tail that is
// to follow the inode, if any; the next use of the buffer overwrites it.
func (w *Writer) writeSmall(in *diskInode, src *source) ([]byte, error) {
	size := int(in.size)
	p, err := w.room(size + 1) // one more, to see the end
	if err != nil {
		return nil, err
	}
	n, err := src.fill(p, max(1, size))
	if err == nil && n != size {
		err = src.lengthError(in.size)
	}
	if err != nil || size == 0 {
		return nil, err
	}
	in.data = uint32(w.end() / blockSize)
	tail := size % blockSize
	meta := inodeSize + in.xattrs + tail
	if tail == 0 || meta > blockSize || tail > largeTail && !w.run.fits(meta) {
		return nil, w.extend(size)
	}
	in.layout = layoutInline
	return p[size-tail : size], w.extend(size - tail)
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
		if err := w.ended(); err != nil {
			return nil, err
		}
		n := min(chunk, left)
		block := uint32(w.end() / blockSize)
		hole := src.skipHole(n)
		if !hole {
			p, err := w.room(int(n))
			if err != nil {
				return nil, err
			}
			if err := src.next(p, in.size); err != nil {
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
	if err := src.end(in.size); err != nil {
		return nil, err
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
		if err := w.ended(); err != nil {
			return false, err
		}
		n, err := unix.CopyFileRange(int(src.f.Fd()), &src.off, int(w.f.Fd()), &to, int(min(size-src.off, copyAtOnce)), 0)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil && src.off == 0 && err != unix.ENOSPC:
			return false, nil // two file systems that cannot: read and write
		case err != nil:
			return false, fmt.Errorf("copy into the image: %w", err)
		case n == 0:
			return false, src.lengthError(size)
		}
	}
	if err := src.end(size); err != nil {
		return false, err
	}
	w.pos = alignUp(to, blockSize)
	return true, w.checkSize()
}

func (w *Writer) ended() error {
	if w.opts.Ended == nil {
		return nil
	}
	return w.opts.Ended()
}

// isZero says whether p, which is not empty, holds nothing but zero bytes.
func isZero(p []byte) bool {
	return p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1])
}
