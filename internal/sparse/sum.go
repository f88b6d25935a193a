package sparse

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"math"
)

// blockSize is the unit of a sum, and of reading.
const blockSize = 64 << 10

// Size is the length of a sum.
const Size = sha256.Size

// Sum is a hash of contents that takes no time for holes. It is the SHA-256 of each block
// of 64 KiB that is not all zeros, each after its number, and of the content's size: so it
// depends on the content only, and not on where its holes are.
type Sum struct {
	h    hash.Hash
	off  int64 // of the block that is in buf
	buf  []byte
	n    int
	word [8]byte
}

// NewSum returns the sum of nothing so far.
func NewSum() *Sum { return &Sum{h: sha256.New()} }

// Reset makes it the sum of nothing again.
func (s *Sum) Reset() {
	s.h.Reset()
	s.off, s.n = 0, 0
}

// Write adds bytes. It never fails.
func (s *Sum) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		if s.n == 0 && len(p) >= blockSize {
			s.block(p[:blockSize])
			p = p[blockSize:]
			continue
		}
		if s.buf == nil {
			s.buf = make([]byte, blockSize)
		}
		n := copy(s.buf[s.n:], p)
		s.n += n
		p = p[n:]
		if s.n == blockSize {
			s.block(s.buf)
		}
	}
	return written, nil
}

var errTooLong = errors.New("a content is longer than any file")

// Hole adds n zeros.
func (s *Sum) Hole(n int64) error {
	if n < 0 || n > math.MaxInt64-s.off-int64(s.n) {
		return errTooLong
	}
	if s.n > 0 {
		m := min(n, int64(blockSize-s.n))
		s.Write(zeros[:m])
		n -= m
	}
	if n == 0 {
		return nil
	}
	s.off += n - n%blockSize
	s.Write(zeros[:n%blockSize])
	return nil
}

var zeros [blockSize]byte

// block adds a block, the last of which may be short.
func (s *Sum) block(p []byte) {
	if !isZero(p) {
		binary.LittleEndian.PutUint64(s.word[:], uint64(s.off/blockSize))
		s.h.Write(s.word[:])
		s.h.Write(p)
	}
	s.off += int64(len(p))
	s.n = 0
}

// Sum returns the sum of what was added. After it comes a Reset.
func (s *Sum) Sum() [Size]byte {
	if s.n > 0 {
		s.block(s.buf[:s.n])
	}
	binary.LittleEndian.PutUint64(s.word[:], uint64(s.off))
	s.h.Write(s.word[:])
	return [Size]byte(s.h.Sum(nil))
}

// SumOf returns the sum of the first size bytes of r.
func SumOf(ctx context.Context, r io.ReaderAt, size int64) ([Size]byte, error) {
	s := NewSum()
	n, err := Copy(ctx, s, r, size)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	return s.Sum(), err
}
