package wire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hashicorp/yamux"
)

// A virtio-serial port has no connections: it gives no end of file when a
// guest reboots or is restored, and bytes of an earlier conversation may still
// be under way in both directions. So a conversation begins with a handshake
// of four marks, each with the host's nonce, as TCP's:
//
//	host                guest
//	syn(n), repeated →  the guest skips everything until a syn
//	                 ←  ack(n), once for each syn
//	go(n)            →  all syns are before it, so what follows is clean
//	                 ←  ok(n): all acks are before it, likewise
//
// What is before the marks, garbage or an old conversation, is dropped.

// mark is the handshake's unit: magic, kind, nonce.
const (
	magic    = "\xf7mayfly\x00\xf7link\x00\x00\x00" // 16 bytes; the first can't begin a frame of the multiplexer
	nonceLen = 16
	markLen  = len(magic) + 1 + nonceLen
)

const (
	markSyn = 1
	markAck = 2
	markGo  = 3
	markOK  = 4
)

// maxGarbage bounds what is skipped in search of a mark. It is more than the
// multiplexer, the port and the sockets can hold together.
const maxGarbage = 8 << 20

// synInterval is the time between two syns. The first waits in the port until
// the guest opens it; the others reach a guest that was in the middle of an
// old conversation.
const synInterval = 200 * time.Millisecond

func appendMark(b []byte, kind byte, nonce [nonceLen]byte) []byte {
	b = append(b, magic...)
	b = append(b, kind)
	return append(b, nonce[:]...)
}

// readMark skips to the next mark and returns it.
func readMark(r *bufio.Reader) (kind byte, nonce [nonceLen]byte, err error) {
	for skipped := 0; skipped < maxGarbage; skipped++ {
		head, err := r.Peek(len(magic))
		if err != nil {
			return 0, nonce, err
		}
		if string(head) != magic {
			n := bytes.IndexByte(head[1:], magic[0]) + 1
			if n == 0 {
				n = len(head)
			}
			r.Discard(n)
			skipped += n - 1
			continue
		}
		var mark [markLen]byte
		if _, err := io.ReadFull(r, mark[:]); err != nil {
			return 0, nonce, noEOF(err)
		}
		copy(nonce[:], mark[len(magic)+1:])
		return mark[len(magic)], nonce, nil
	}
	return 0, nonce, fmt.Errorf("no handshake in %d bytes", maxGarbage)
}

// link is the port after the handshake: reads go through the buffer that the
// handshake read ahead into.
type link struct {
	io.Writer
	io.Closer
	io.Reader
}

// Conversation is the host's side of a conversation.
type Conversation struct {
	*yamux.Session
	frames *frames
}

// Why says what was wrong with what the guest has sent, which ended the conversation; nil
// for nothing.
func (c *Conversation) Why() error {
	if err := c.frames.refused.Load(); err != nil {
		return *err
	}
	return nil
}

// Dial is the host's side of the handshake on port. It returns when the guest
// has answered; ctx bounds the wait. Unless it returns a session, whose end
// closes port, it closes port itself.
func Dial(ctx context.Context, port net.Conn) (*Conversation, error) {
	stop := context.AfterFunc(ctx, func() { port.Close() })
	r := bufio.NewReaderSize(port, MaxFrame)
	err := greet(port, r)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		port.Close()
		return nil, fmt.Errorf("greet the guest: %w", err)
	}
	f := &frames{r: r, check: guard}
	session, err := newClient(port, f)
	if err != nil {
		return nil, err
	}
	return &Conversation{session, f}, nil
}

func newClient(port io.WriteCloser, r io.Reader) (*yamux.Session, error) {
	config := muxConfig()
	// A guest may never end its direction, and holds memory of ours until then.
	config.StreamCloseTimeout = closeTimeout
	return yamux.Client(link{port, port, r}, config)
}

func greet(port net.Conn, r *bufio.Reader) error {
	var nonce [nonceLen]byte
	rand.Read(nonce[:])
	acked := make(chan bool, 1)
	sent := make(chan error, 1)
	go func() { sent <- sendMarks(port, nonce, acked) }()

	// What follows never waits for the writer without reading: the guest may
	// have to get rid of its acks before it reads on.
	err := await(r, markAck, nonce)
	if err == nil {
		acked <- true
		err = await(r, markOK, nonce)
	}
	if err != nil {
		port.Close() // a write under way ends
		close(acked)
		<-sent
		return err
	}
	return <-sent
}

// sendMarks writes syns until something comes from acked, and then a go; none
// when acked is closed.
func sendMarks(w io.Writer, nonce [nonceLen]byte, acked <-chan bool) error {
	t := time.NewTicker(synInterval)
	defer t.Stop()
	for {
		if _, err := w.Write(appendMark(nil, markSyn, nonce)); err != nil {
			return err
		}
		select {
		case ok := <-acked:
			if !ok {
				return nil
			}
			_, err := w.Write(appendMark(nil, markGo, nonce))
			return err
		case <-t.C:
		}
	}
}

func await(r *bufio.Reader, kind byte, nonce [nonceLen]byte) error {
	for range maxGarbage / markLen {
		k, n, err := readMark(r)
		if err != nil {
			return err
		}
		if k == kind && n == nonce {
			return nil
		}
	}
	return errors.New("too many marks of other conversations")
}

// Accept is the guest's side of the handshake on port. r must be the same for
// every Accept on one port. greeted, if it is not nil, is called at the first
// sign of a host, which may call again before the handshake is done.
func Accept(port io.WriteCloser, r *bufio.Reader, greeted func()) (*yamux.Session, error) {
	var current [nonceLen]byte
	var begun bool
	for {
		kind, nonce, err := readMark(r)
		if err != nil {
			return nil, fmt.Errorf("await the host: %w", err)
		}
		switch {
		case kind == markSyn:
			current, begun = nonce, true
			if greeted != nil {
				greeted()
			}
			_, err = port.Write(appendMark(nil, markAck, nonce))
		case kind == markGo && begun && nonce == current:
			if _, err = port.Write(appendMark(nil, markOK, nonce)); err == nil {
				return yamux.Server(link{port, keepOpen{}, &frames{r: r, check: untilMark}}, muxConfig())
			}
		}
		if err != nil {
			return nil, fmt.Errorf("answer the host: %w", err)
		}
	}
}

// keepOpen keeps the guest's port open when a conversation ends: the next one
// comes over the same port.
type keepOpen struct{}

func (keepOpen) Close() error { return nil }

// MaxWindow is the number of bytes that may be under way on one stream.
const MaxWindow = 256 << 10

// closeTimeout is how long the guest may go on writing to a stream that the host has closed.
// What it has closed itself the host reads when it likes.
const closeTimeout = time.Minute

// muxConfig is the multiplexer's configuration, for both sides. The time-outs
// are long since a guest on a loaded host, or one that was paused, is slow and
// not dead; who waits for a guest has a deadline of its own.
func muxConfig() *yamux.Config {
	c := yamux.DefaultConfig()
	c.EnableKeepAlive = false
	c.ConnectionWriteTimeout = 10 * time.Minute
	c.StreamOpenTimeout = 0
	c.StreamCloseTimeout = 0 // or what the guest has written is lost to a host that reads it later
	c.MaxStreamWindowSize = MaxWindow
	c.LogOutput = io.Discard
	return c
}
