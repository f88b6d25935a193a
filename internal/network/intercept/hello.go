package intercept

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"time"
)

// maxHello bounds what is read of a connection to find the name in TLS, in bytes. With
// keys that resist quantum computers a ClientHello has two kilobytes.
const maxHello = 64 << 10

// recordHandshake is the first byte of TLS, RFC 8446 5.1.
const recordHandshake = 22

// errPeeked ends a handshake of which only the beginning is wanted.
var errPeeked = errors.New("the name is known")

// PeekServerName reads the beginning of what a client sends. If it is TLS, name is the
// host's that it names, in lower case, "" for none. peeked is all that was read, and is for whoever
// goes on with the connection. The error is that of reading, with what was read before.
func PeekServerName(conn net.Conn) (name string, isTLS bool, peeked []byte, err error) {
	p := &peeker{conn: conn}
	first := make([]byte, 1)
	if _, err := io.ReadFull(p, first); err != nil {
		return "", false, p.read, err
	}
	if first[0] != recordHandshake {
		return "", false, p.read, nil
	}
	p.again = 1
	var hello *tls.ClientHelloInfo
	err = tls.Server(p, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		hello = h
		return nil, errPeeked
	}}).Handshake()
	switch {
	case hello != nil:
		return strings.ToLower(hello.ServerName), true, p.read, nil
	case p.err != nil:
		err = p.err
	}
	// It began like TLS and is none that this library understands: it names
	// nobody, then.
	return "", true, p.read, err
}

// peeker is a connection from which is only read, and what was read is kept.
type peeker struct {
	conn  net.Conn
	read  []byte
	again int   // bytes at the end of read that are read once more
	err   error // of conn
}

func (p *peeker) Read(b []byte) (int, error) {
	if p.again > 0 {
		n := copy(b, p.read[len(p.read)-p.again:])
		p.again -= n
		return n, nil
	}
	if len(p.read) >= maxHello {
		p.err = errors.New("the beginning of TLS is too long")
		return 0, p.err
	}
	n, err := p.conn.Read(b[:min(len(b), maxHello-len(p.read))])
	p.read = append(p.read, b[:n]...)
	p.err = err
	return n, err
}

func (p *peeker) Write(b []byte) (int, error)      { return len(b), nil } // an alert for nobody
func (p *peeker) Close() error                     { return nil }
func (p *peeker) LocalAddr() net.Addr              { return p.conn.LocalAddr() }
func (p *peeker) RemoteAddr() net.Addr             { return p.conn.RemoteAddr() }
func (p *peeker) SetDeadline(time.Time) error      { return nil }
func (p *peeker) SetReadDeadline(time.Time) error  { return nil }
func (p *peeker) SetWriteDeadline(time.Time) error { return nil }
