package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A frame on the socket is its length, four bytes, big endian, and then
// Ethernet without a checksum (QEMU net/stream.c).
const (
	lengthLen   = 4
	ethernetLen = 14 // destination, source, type

	// maxFrame is a little more than what QEMU sends, 68 KiB
	// (NET_BUFSIZE, include/net/net.h).
	maxFrame = 70_000
)

// The read buffer holds the longest frame at first, and grows when one read
// fills it: a guest that only asks for names never makes it grow.
const (
	minReadBuffer = 72 << 10
	maxReadBuffer = 256 << 10
)

// errFrame is a length that no frame has. Nothing after it can be trusted.
var errFrame = errors.New("bad frame")

// frameReader splits the stream from QEMU into frames.
type frameReader struct {
	r          io.Reader
	buf        []byte
	start, end int // buf[start:end] has been read and not yet returned
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: r, buf: make([]byte, minReadBuffer)}
}

// next returns the next frame, valid until the next call. The error is io.EOF
// only between frames, and errFrame for a length out of bounds.
func (fr *frameReader) next() ([]byte, error) {
	for {
		frame, err := fr.buffered()
		if frame != nil || err != nil {
			return frame, err
		}
		if err := fr.fill(); err != nil {
			return nil, err
		}
	}
}

// buffered returns the next frame if all of it is in the buffer, or nil.
func (fr *frameReader) buffered() ([]byte, error) {
	data := fr.buf[fr.start:fr.end]
	if len(data) < lengthLen {
		return nil, nil
	}
	n := binary.BigEndian.Uint32(data)
	if n < ethernetLen || n > maxFrame {
		return nil, fmt.Errorf("%w of %d bytes", errFrame, n)
	}
	if len(data) < lengthLen+int(n) {
		return nil, nil
	}
	fr.start += lengthLen + int(n)
	return data[lengthLen : lengthLen+n], nil
}

// fill reads more, behind the part of a frame that is there. There is always
// room, since the buffer is longer than a frame.
func (fr *frameReader) fill() error {
	fr.end = copy(fr.buf, fr.buf[fr.start:fr.end])
	fr.start = 0
	n, err := fr.r.Read(fr.buf[fr.end:])
	fr.end += n
	if fr.end == len(fr.buf) && fr.end < maxReadBuffer {
		fr.buf = append(make([]byte, 0, maxReadBuffer), fr.buf...)[:maxReadBuffer]
	}
	switch {
	case n > 0:
		return nil // an error comes again
	case err == io.EOF && fr.end > 0:
		return io.ErrUnexpectedEOF
	case err == nil:
		return io.ErrNoProgress
	}
	return err
}
