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
	r *bufio.Reader
}

func (l link) Read(p []byte) (int, error) { return l.r.Read(p) }

// Dial is the host's side of the handshake on port. It returns when the guest
// has answered; ctx bounds the wait, and its end closes port.
func Dial(ctx context.Context, port net.Conn) (*yamux.Session, error) {
	stop := context.AfterFunc(ctx, func() { port.Close() })
	defer stop()

	var nonce [nonceLen]byte
	rand.Read(nonce[:])
	acked := make(chan struct{})
	sent := make(chan error, 1)
	go func() {
		sent <- sendSyns(port, nonce, acked)
	}()

	r := bufio.NewReaderSize(port, MaxFrame)
	err := await(r, markAck, nonce)
	close(acked)
	if sendErr := <-sent; err == nil {
		err = sendErr
	}
	if err == nil {
		_, err = port.Write(appendMark(nil, markGo, nonce))
	}
	if err == nil {
		err = await(r, markOK, nonce)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("greet the guest: %w", err)
	}
	if !stop() {
		return nil, fmt.Errorf("greet the guest: %w", context.Cause(ctx))
	}
	return yamux.Client(link{port, port, r}, muxConfig())
}

// sendSyns writes syns until acked is closed, and then none.
func sendSyns(w io.Writer, nonce [nonceLen]byte, acked <-chan struct{}) error {
	t := time.NewTicker(synInterval)
	defer t.Stop()
	for {
		if _, err := w.Write(appendMark(nil, markSyn, nonce)); err != nil {
			return err
		}
		select {
		case <-acked:
			return nil
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
// every Accept on one port.
func Accept(port io.WriteCloser, r *bufio.Reader) (*yamux.Session, error) {
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
			_, err = port.Write(appendMark(nil, markAck, nonce))
		case kind == markGo && begun && nonce == current:
			if _, err = port.Write(appendMark(nil, markOK, nonce)); err == nil {
				return yamux.Server(link{port, keepOpen{}, r}, muxConfig())
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

// muxConfig is the multiplexer's configuration, for both sides. The time-outs
// are long since a guest on a loaded host, or one that was paused, is slow and
// not dead; who waits for a guest has a deadline of its own.
func muxConfig() *yamux.Config {
	c := yamux.DefaultConfig()
	c.EnableKeepAlive = false
	c.ConnectionWriteTimeout = 10 * time.Minute
	c.StreamOpenTimeout = 0
	c.StreamCloseTimeout = time.Minute
	c.MaxStreamWindowSize = 1 << 20
	c.LogOutput = io.Discard
	return c
}
