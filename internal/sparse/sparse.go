// Package sparse copies, sums and compares files without reading their holes.
//
// A file of a terabyte can be a few bytes on its disk. What reads it from end to end
// takes hours and writes a terabyte; what knows its holes takes a moment. Everything
// here ends with its context, within a block.
package sparse

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Sink takes a content from its beginning to its end.
type Sink interface {
	io.Writer
	// Hole stands for n zeros.
	Hole(n int64) error
}

// finder finds data: the first that begins at off or behind it, up to end. Without any,
// both are the file's size.
type finder interface {
	Data(off int64) (start, end int64, err error)
}

// extents finds the data in the first size bytes of r.
type extents struct {
	r          io.ReaderAt
	size       int64
	start, end int64 // of the data that was found last
	found      bool
}

// next returns where the data at off or behind it begins and ends.
func (x *extents) next(off int64) (start, end int64, err error) {
	if x.found && off < x.end {
		return max(off, x.start), x.end, nil
	}
	if x.size <= blockSize { // one read takes less than to ask
		return off, x.size, nil
	}
	start, end, err = data(x.r, off, x.size)
	if err != nil {
		return 0, 0, err
	}
	start = min(max(start, off), x.size)
	if end <= start { // it changed between two looks
		end = start + blockSize
	}
	x.start, x.end, x.found = start, min(end, x.size), true
	return x.start, x.end, nil
}

// data asks r for its data. What does not know is all data.
func data(r io.ReaderAt, off, size int64) (start, end int64, err error) {
	if section, ok := r.(*io.SectionReader); ok {
		outer, at, n := section.Outer()
		if f, ok := outer.(finder); ok && at == 0 && n >= size {
			return f.Data(off)
		}
		return off, size, nil
	}
	switch r := r.(type) {
	case finder:
		return r.Data(off)
	case *os.File:
		return FD(r.Fd()).data(off, size)
	case FD:
		return r.data(off, size)
	}
	return off, size, nil
}

// FD is an open file without what package os adds, which takes longer than to read a small
// one.
type FD int

// ReadAt reads as [os.File.ReadAt] does.
func (fd FD) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		m, err := unix.Pread(int(fd), p[n:], off+int64(n))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return n, err
		case m == 0:
			return n, io.EOF
		}
		n += m
	}
	return n, nil
}

func (fd FD) data(off, size int64) (start, end int64, err error) {
	start, err = unix.Seek(int(fd), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		// A hole to its end, which may come sooner by now: a read says so.
		if now, err := unix.Seek(int(fd), 0, unix.SEEK_END); err == nil && now < size {
			return off, size, nil
		}
		return size, size, nil
	case err != nil:
		return off, size, nil // the file system cannot tell
	}
	end, err = unix.Seek(int(fd), start, unix.SEEK_HOLE)
	if err != nil {
		end = size
	}
	return start, end, nil
}

// Copy gives the first size bytes of r to sink, and returns how many there were: less if
// r is shorter.
func Copy(ctx context.Context, sink Sink, r io.ReaderAt, size int64) (int64, error) {
	x := &extents{r: r, size: size}
	var buf []byte
	for off := int64(0); off < size; {
		if ctx.Err() != nil {
			return off, context.Cause(ctx)
		}
		start, end, err := x.next(off)
		if err != nil {
			return off, err
		}
		if start > off {
			if err := sink.Hole(start - off); err != nil {
				return off, err
			}
			off = start
			continue
		}
		if buf == nil {
			buf = make([]byte, min(size, blockSize))
		}
		// Up to the end of a block: whole blocks are summed where they are.
		n, err := r.ReadAt(buf[:min(end-off, int64(len(buf)), blockSize-off%blockSize)], off)
		if n > 0 {
			if _, err := sink.Write(buf[:n]); err != nil {
				return off, err
			}
			off += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF):
			if off < size && n == 0 {
				return off, nil
			}
		case err != nil:
			return off, err
		}
	}
	return size, nil
}

// Equal reports whether the first size bytes of a and b are the same.
func Equal(ctx context.Context, a, b io.ReaderAt, size int64) (bool, error) {
	xa, xb := &extents{r: a, size: size}, &extents{r: b, size: size}
	var bufA, bufB []byte
	for off := int64(0); off < size; {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		startA, endA, err := xa.next(off)
		if err != nil {
			return false, err
		}
		startB, endB, err := xb.next(off)
		if err != nil {
			return false, err
		}
		if off = min(startA, startB); off == size {
			break
		}
		// Up to the end of the data that begins here: behind it may be a hole of both.
		end := endA
		if startB == off && (startA > off || endB > endA) {
			end = endB
		}
		if bufA == nil {
			n := min(size, blockSize)
			bufA, bufB = make([]byte, n), make([]byte, n)
		}
		want := min(end-off, int64(len(bufA)))
		n, errA := a.ReadAt(bufA[:want], off)
		m, errB := b.ReadAt(bufB[:want], off)
		for _, err := range []error{errA, errB} {
			if err != nil && !errors.Is(err, io.EOF) {
				return false, err
			}
		}
		if n != m || int64(n) < want || !bytes.Equal(bufA[:n], bufB[:m]) {
			return false, nil // one that has become shorter is another
		}
		off += want
	}
	return true, nil
}
