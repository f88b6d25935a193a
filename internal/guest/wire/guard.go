package wire

import (
	"encoding/binary"
	"fmt"
	"io"
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

// guard passes on what a guest sends to the host's multiplexer, and ends the
// conversation at what our agent never sends. yamux trusts its peer with
// memory: it keeps a window of bytes for each stream that the peer opens,
// though nobody accepts it, and a goroutine for each ping until the answer is
// written, which is never when the peer does not read.
type guard struct {
	r    io.Reader
	head [muxHeader]byte
	rest []byte // of head, not yet passed on
	body uint32 // bytes of the frame's body still to come
}

func (g *guard) Read(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return 0, nil
	case len(g.rest) > 0:
	case g.body > 0:
		n, err := g.r.Read(p[:min(len(p), int(g.body))])
		g.body -= uint32(n)
		return n, err
	default:
		if _, err := io.ReadFull(g.r, g.head[:]); err != nil {
			return 0, err
		}
		if err := g.check(); err != nil {
			return 0, err
		}
		g.rest = g.head[:]
	}
	n := copy(p, g.rest)
	g.rest = g.rest[n:]
	return n, nil
}

func (g *guard) check() error {
	version, kind := g.head[0], g.head[1]
	flags := binary.BigEndian.Uint16(g.head[2:])
	length := binary.BigEndian.Uint32(g.head[8:])
	switch {
	case version != 0 || kind != muxData && kind != muxWindow && kind != muxGoAway:
		return fmt.Errorf("the guest sent a frame of version %d, type %d", version, kind)
	case flags&muxSyn != 0:
		return fmt.Errorf("the guest opened a stream")
	case kind == muxData && length > maxWindow:
		return fmt.Errorf("the guest sent a frame of %d bytes", length)
	case kind == muxData:
		g.body = length
	}
	return nil
}
