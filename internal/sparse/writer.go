package sparse

import (
	"bytes"
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// page is the smallest hole of the usual file systems.
const page = 4096

// isZero reports whether p, of at most a block, is all zeros.
func isZero(p []byte) bool { return bytes.Equal(p, zeros[:len(p)]) }

// File is what a Writer writes, an *os.File say.
type File interface {
	io.WriterAt
	Truncate(size int64) error
}

// Writer writes an empty file. Zeros become holes.
type Writer struct {
	f    File
	off  int64
	size int64 // that the file has
}

// NewWriter returns a writer of f, which is empty.
func NewWriter(f File) *Writer { return &Writer{f: f} }

// Write writes what in p is not zeros.
func (w *Writer) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		n, zero := w.piece(p[written:])
		for !zero && written+n < len(p) { // one write for as many as possible
			m, zero := w.piece(p[written+n:])
			if zero {
				break
			}
			n += m
		}
		if !zero {
			if _, err := w.f.WriteAt(p[written:written+n], w.off); err != nil {
				return written, err
			}
			w.size = w.off + int64(n)
		}
		w.off += int64(n)
		written += n
	}
	return written, nil
}

// piece returns how much of p is in one page, and whether it is zeros.
func (w *Writer) piece(p []byte) (n int, zero bool) {
	n = min(len(p), page)
	return n, isZero(p[:n])
}

// Hole leaves n zeros out.
func (w *Writer) Hole(n int64) error {
	w.off += n
	return nil
}

// Finish gives the file its size.
func (w *Writer) Finish() error {
	if w.size == w.off {
		return nil
	}
	return w.f.Truncate(w.off)
}

// inKernel is the size from which the kernel copies files without holes: it can share
// their blocks.
const inKernel = 1 << 20

// CopyFile writes the first size bytes of r to f, which is empty.
func CopyFile(ctx context.Context, f *os.File, r io.ReaderAt, size int64) error {
	if from, ok := r.(*os.File); ok && size >= inKernel && dense(from, size) {
		return copyDense(ctx, f, from, size)
	}
	w := NewWriter(f)
	n, err := Copy(ctx, w, r, size)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	return w.Finish()
}

func dense(f *os.File, size int64) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Blocks*512 >= size
}

func copyDense(ctx context.Context, f, from *os.File, size int64) error {
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for size > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := min(size, 64<<20)
		if _, err := io.CopyN(f, from, n); err != nil {
			return err
		}
		size -= n
	}
	return nil
}
