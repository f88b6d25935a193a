package client

import (
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// Connect makes stream a connection to a port of the guest. The caller then closes the
// connection, not stream.
func Connect(stream net.Conn, port int) (*Connection, error) {
	var answer wire.Connected
	err := call(stream, wire.Request{Op: wire.OpConnect, Connect: &wire.Connect{Port: port}}, &answer)
	if err == nil && answer.Error != "" {
		err = &GuestError{answer.Error}
	}
	if err != nil {
		return nil, fmt.Errorf("connect to port %d of the machine: %w", port, err)
	}
	return &Connection{Conn: stream, out: wire.NewFrameWriter(stream), in: wire.NewFrameReader(stream)}, nil
}

// Connection is one to a port of the guest. The end of a direction is a frame: that of a
// stream is the multiplexer's, which soon ends the other one, too.
type Connection struct {
	net.Conn
	out *wire.FrameWriter
	in  *wire.FrameReader

	rest []byte // of a frame that was read
	end  error  // comes after it
	gone atomic.Bool
}

func (c *Connection) Read(b []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.end != nil {
			return 0, c.end
		}
		kind, payload, err := c.in.Next()
		switch {
		case err == io.EOF:
			c.end = io.ErrUnexpectedEOF
		case err != nil:
			c.end = err
		case kind == wire.FrameStdout:
			c.rest = payload
		case kind == wire.FrameEnd:
			c.end = io.EOF
			go c.awaitGone()
		default:
			c.end = syscall.ECONNRESET
		}
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// awaitGone lets writes fail, also the one under way, once nobody takes them any more: the
// program in the guest had ended its own direction before. It ends with Close.
func (c *Connection) awaitGone() {
	c.in.Next()
	c.gone.Store(true)
	c.SetWriteDeadline(past)
}

// past is a deadline that nothing meets.
var past = time.Unix(1, 0)

func (c *Connection) Write(b []byte) (int, error) {
	if c.gone.Load() {
		return 0, syscall.EPIPE
	}
	if err := c.out.Write(wire.FrameStdin, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// CloseWrite ends one direction.
func (c *Connection) CloseWrite() error { return c.out.Write(wire.FrameStdinEOF, nil) }

// Close also ends a read that waits, as Close of the multiplexer's streams does not.
func (c *Connection) Close() error {
	c.SetReadDeadline(past)
	return c.Conn.Close()
}
