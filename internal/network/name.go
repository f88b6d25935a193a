package network

import (
	"encoding/binary"
	"errors"
	"io"
	"net"

	"github.com/mayfly-vm/mayfly/internal/network/intercept"
)

// nameError is the error for a connection that says in TLS that it is for another
// host than it was made to.
type nameError struct{ why string }

func (e *nameError) Error() string { return e.why }

// checkName returns a nameError unless TLS that begins with h is for name alone.
func checkName(h intercept.Hello, name string) error {
	switch {
	case !h.TLS:
		// Other protocols say for themselves whom they are for, or have nobody else
		// to be for.
		return nil
	case h.Name == "":
		return &nameError{"TLS without a host's name"}
	case h.Name != name:
		return &nameError{"the name in TLS is " + h.Name}
	case h.Hidden:
		return &nameError{"the name in TLS is encrypted"}
	}
	return nil
}

// nameCheck reads from a connection and fails if it is TLS that check refuses. A client
// may have to begin a second time, RFC 8446 4.1.4, and servers may believe what it says
// then.
type nameCheck struct {
	conn  net.Conn
	check func(intercept.Hello) error

	state   checkState
	early   bool   // data may come before a second beginning
	pending []byte // read and not yet passed on
}

type checkState int

const (
	beforeHello checkState = iota
	afterHello             // records are looked at
	checked                // nothing is
)

func (c *nameCheck) Read(b []byte) (int, error) {
	if len(c.pending) == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	if len(c.pending) > 0 {
		n := copy(b, c.pending)
		c.pending = c.pending[n:]
		return n, nil
	}
	return c.conn.Read(b)
}

// next looks at what comes next, if anything is to be looked at.
func (c *nameCheck) next() error {
	switch c.state {
	case beforeHello:
		return c.hello(c.conn)
	case afterHello:
		return c.record()
	}
	return nil
}

// hello looks at the beginning of what conn reads.
func (c *nameCheck) hello(conn net.Conn) error {
	h, err := intercept.PeekHello(conn)
	if err != nil && len(h.Read) == 0 {
		return err
	}
	if err := c.check(h); err != nil {
		return err
	}
	c.pending, c.state, c.early = h.Read, checked, h.Early
	if h.TLS {
		c.state = afterHello
	}
	return nil
}

// The content types of records, RFC 8446 5.1, and the largest one that servers take.
const (
	recordHandshake   = 22
	recordApplication = 23
	recordHeader      = 5
	maxRecord         = 1<<14 + 2048
)

var errRecord = errors.New("a record of TLS that is none")

// record takes a record that follows the first message.
func (c *nameCheck) record() error {
	record := make([]byte, recordHeader, recordHeader+64)
	if _, err := io.ReadFull(c.conn, record); err != nil {
		return err
	}
	length := int(binary.BigEndian.Uint16(record[3:]))
	if length > maxRecord {
		return errRecord
	}
	record = append(record, make([]byte, length)...)
	if _, err := io.ReadFull(c.conn, record[recordHeader:]); err != nil {
		return io.ErrUnexpectedEOF // not the end of what is whole
	}
	c.pending = record
	switch {
	case record[0] == recordHandshake && isClientHello(record[recordHeader:]):
		// A second one, and there is no third.
		c.pending = nil
		if err := c.hello(&prefixed{c.conn, record}); err != nil {
			return err
		}
		c.state = checked
	case record[0] == recordHandshake, record[0] == recordApplication && !c.early:
		c.state = checked
	}
	return nil
}

// isClientHello reports whether the payload of a record could begin a ClientHello: its
// type, the length of it, and a version of TLS. What is encrypted hardly ever looks so.
func isClientHello(payload []byte) bool {
	const versionAt = 4
	return len(payload) <= versionAt || payload[0] == 1 && payload[1] == 0 && payload[versionAt] == 3
}

// prefixed is a connection of which the beginning was read.
type prefixed struct {
	net.Conn
	first []byte
}

func (c *prefixed) Read(b []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// CloseWrite ends one direction.
func (c *prefixed) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
