package erofs

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// end is the offset at which the next content goes, always a whole block.
func (w *Writer) end() int64 { return w.pos + int64(len(w.buf)) }

// room returns n bytes at the end of the buffer, at most bufferSize, to be
// filled by the caller and kept by extend.
func (w *Writer) room(n int) ([]byte, error) {
	if len(w.buf)+n > cap(w.buf) {
		if err := w.flush(); err != nil {
			return nil, err
		}
	}
	return w.buf[len(w.buf) : len(w.buf)+n], nil
}

// extend appends the first n bytes of room to the image, padded to a block.
func (w *Writer) extend(n int) error {
	padded := alignUp(n, blockSize)
	old := len(w.buf)
	w.buf = w.buf[:old+padded] // bufferSize is in whole blocks
	clear(w.buf[old+n:])
	return w.checkSize()
}

// appendBlocks appends b, padded to a block.
func (w *Writer) appendBlocks(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), bufferSize)
		p, err := w.room(n)
		if err != nil {
			return err
		}
		copy(p, b[:n])
		if err := w.extend(n); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// checkSize keeps block numbers inside 32 bits.
func (w *Writer) checkSize() error {
	if w.end() > maxFileSize-bufferSize {
		w.err = fmt.Errorf("erofs image is larger than %d bytes", int64(maxFileSize))
	}
	return w.err
}

// flush writes the buffer.
func (w *Writer) flush() error {
	if err := w.writeAt(w.buf, w.pos); err != nil {
		return err
	}
	w.pos += int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}

// writeAt writes to the image. A failure is final: part of the image is gone.
func (w *Writer) writeAt(b []byte, off int64) error {
	if w.err != nil || len(b) == 0 {
		return w.err
	}
	if _, err := w.f.WriteAt(b, off); err != nil {
		w.err = fmt.Errorf("write erofs image: %w", err)
	}
	return w.err
}

// rollBack forgets all content from off on.
func (w *Writer) rollBack(off int64) error {
	if w.err != nil {
		return w.err
	}
	if off >= w.pos {
		w.buf = w.buf[:off-w.pos]
		return nil
	}
	w.pos, w.buf = off, w.buf[:0]
	// What is not written must read as zeros, see copyFile.
	if err := w.truncate(off); err != nil {
		w.err = fmt.Errorf("write erofs image: %w", err)
	}
	return w.err
}

// truncate makes everything in the file from off on a hole, or nothing. A file
// of fixed size may be the disk of a running machine already: it must not get
// shorter, even for a moment.
func (w *Writer) truncate(off int64) error {
	size := w.opts.FileSize
	if size == 0 {
		return w.f.Truncate(off)
	}
	if off >= size {
		return nil
	}
	err := unix.Fallocate(int(w.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, size-off)
	if err != nil {
		return &os.PathError{Op: "punch a hole into", Path: w.f.Name(), Err: err}
	}
	return nil
}

// metaRun is a run of blocks for inodes. Nothing in it crosses a block, as
// EROFS wants it of inline tails; a small one is written in the gap that it
// fills best, and the whole run when nothing fits any more.
type metaRun struct {
	off  int64
	buf  []byte // of the blocks, with room for maxRun
	used []int  // bytes of each block
}

// maxRun is a run's length in blocks. A run is as long as a host reads at once,
// but small images get shorter ones so that the last is no waste.
const maxRun = 16

// best returns the block with the smallest gap for n bytes, or -1.
func (r *metaRun) best(n int) int {
	found := -1
	for i, used := range r.used {
		if used+n <= blockSize && (found < 0 || used > r.used[found]) {
			found = i
		}
	}
	return found
}

func (r *metaRun) fits(n int) bool { return r.best(n) >= 0 }

// writeMeta writes an inode with all that follows it and returns its offset.
func (w *Writer) writeMeta(b []byte) (int64, error) {
	if len(b) > blockSize {
		// Long xattrs and chunk tables may cross blocks.
		off := w.end()
		return off, w.appendBlocks(b)
	}
	i := w.run.best(len(b))
	if i < 0 {
		if err := w.retireRun(); err != nil {
			return 0, err
		}
		if err := w.flush(); err != nil {
			return 0, err
		}
		n := min(maxRun, 1+w.pos/(maxRun*blockSize))
		w.run = metaRun{off: w.pos, buf: w.run.buf[:n*blockSize], used: w.run.used[:n]}
		clear(w.run.buf)
		clear(w.run.used)
		w.pos += n * blockSize
		i = 0
	}
	at := i*blockSize + w.run.used[i]
	copy(w.run.buf[at:], b)
	w.run.used[i] = alignUp(w.run.used[i]+len(b), inodeAlign)
	return w.run.off + int64(at), w.checkSize()
}

// retireRun writes the run.
func (w *Writer) retireRun() error {
	err := w.writeAt(w.run.buf, w.run.off)
	w.run.buf, w.run.used = w.run.buf[:0], w.run.used[:0]
	return err
}
