package wire

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"
)

// The multiplexer's frames, spec.md of hashicorp/yamux: version, type, flags
// as uint16, stream as uint32, length as uint32, all big endian.
const (
	muxHeader = 12

	muxData   = 0 // the only type with a body, of length bytes
	muxWindow = 1
	muxGoAway = 3

	muxSyn = 1 // flag: opens a stream
)

// frames passes on the multiplexer's frames that come from r, up to the first
// that check refuses: that one stays in r, and check's error is the end.
type frames struct {
	r     *bufio.Reader
	check func(head []byte) error
	left  int64 // bytes of the frame under way that are still to come

	refused atomic.Pointer[error] // check's
}

func (f *frames) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if f.left == 0 {
		head, err := f.r.Peek(muxHeader)
		if err != nil {
			if len(head) > 0 {
				err = noEOF(err)
			}
			return 0, err
		}
		if err := f.check(head); err != nil {
			f.refused.Store(&err)
			return 0, err
		}
		f.left = muxHeader
		if head[1] == muxData {
			f.left += int64(binary.BigEndian.Uint32(head[8:]))
		}
	}
	n, err := f.r.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	return n, err
}

// guard is the host's check: it ends the conversation at what our agent never
// sends. yamux trusts its peer with memory: it keeps a window of bytes for each
// stream that the peer opens, though nobody accepts it, and a goroutine for
// each ping until the answer is written, which is never when the peer does not
// read.
func guard(head []byte) error {
	version, kind := head[0], head[1]
	flags := binary.BigEndian.Uint16(head[2:])
	length := binary.BigEndian.Uint32(head[8:])
	switch {
	case version != 0 || kind != muxData && kind != muxWindow && kind != muxGoAway:
		return fmt.Errorf("the guest sent a frame of version %d, type %d", version, kind)
	case flags&muxSyn != 0:
		return fmt.Errorf("the guest opened a stream")
	case kind == muxData && length > MaxWindow:
		return fmt.Errorf("the guest sent a frame of %d bytes", length)
	}
	return nil
}

// untilMark is the guest's check: a mark in the place of a frame is another
// conversation's, and the end of this one. That is how a guest learns that it
// was restored in the middle of one.
func untilMark(head []byte) error {
	if head[0] == magic[0] {
		return io.EOF
	}
	return nil
}
