package intercept

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"time"
)

// maxHello bounds what is read of a connection to find the name in TLS, in bytes. With
// keys that resist quantum computers a ClientHello has two kilobytes.
const maxHello = 64 << 10

// The first byte of TLS, RFC 8446 5.1. Servers skip some records that come before the
// first message, such as warnings, and some take a first message as SSL 2 wrote it, whose
// length begins with its highest bit.
const (
	recordChangeCipherSpec = 20
	recordHandshake        = 22
	recordHeartbeat        = 24
	sslv2                  = 0x80
)

// isTLS reports whether a server could take a connection that begins with b for TLS.
func isTLS(b byte) bool {
	return recordChangeCipherSpec <= b && b <= recordHeartbeat || b&sslv2 != 0
}

// Extensions of a ClientHello.
const (
	extensionEarlyData = 42
	// extensionECH is encrypted_client_hello, RFC 9849: another name, which only the
	// server can read, counts in place of the one that is seen.
	extensionECH = 0xfe0d
)

// Hello is how a client begins a connection.
type Hello struct {
	TLS bool
	// Name is the host's that TLS names, in lower case; "" for none. What is no
	// ClientHello names nobody.
	Name string
	// Hidden says that another name may be there, encrypted.
	Hidden bool
	// Early says that data may follow before the server has answered.
	Early bool
	// Read is all that was read, for whoever goes on with the connection: whole records
	// if it is TLS.
	Read []byte
}

// errPeeked ends a handshake of which only the beginning is wanted.
var errPeeked = errors.New("the name is known")

// PeekHello reads the beginning of what a client sends. The error is that of reading,
// with what was read before.
func PeekHello(conn net.Conn) (Hello, error) {
	p := &peeker{conn: conn}
	first := make([]byte, 1)
	if _, err := io.ReadFull(p, first); err != nil {
		return Hello{Read: p.read}, err
	}
	if first[0] != recordHandshake {
		return Hello{TLS: isTLS(first[0]), Read: p.read}, nil
	}
	p.again = 1
	var hello *tls.ClientHelloInfo
	err := tls.Server(p, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		hello = h
		return nil, errPeeked
	}}).Handshake()
	switch {
	case hello != nil && endsWithMessage(p.read):
		return Hello{
			TLS: true, Name: strings.ToLower(hello.ServerName), Read: p.read,
			Hidden: slices.Contains(hello.Extensions, extensionECH),
			Early:  slices.Contains(hello.Extensions, extensionEarlyData),
		}, nil
	case p.err != nil:
		err = p.err
	}
	// It began like TLS and is none that this library understands.
	return Hello{TLS: true, Read: p.read}, err
}

// peeker is a connection from which is only read, and what was read is kept.
type peeker struct {
	conn  net.Conn
	read  []byte
	begin int   // of the last record in read
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
	n, err := p.conn.Read(b[:min(len(b), p.wanted(), maxHello-len(p.read))])
	p.read = append(p.read, b[:n]...)
	p.err = err
	return n, err
}

const recordHeader = 5 // type, version, length

// wanted returns how much of a record, or of its header, is to come. What follows the
// record with the end of the message is for others to read.
func (p *peeker) wanted() int {
	rest := p.read[p.begin:]
	if len(rest) < recordHeader {
		return recordHeader - len(rest)
	}
	n := recordHeader + int(binary.BigEndian.Uint16(rest[3:])) - len(rest)
	if n <= 0 {
		p.begin = len(p.read)
		return recordHeader
	}
	return n
}

// endsWithMessage reports whether records end where the message in them does. Another
// one behind it would be seen by the server alone.
func endsWithMessage(records []byte) bool {
	var message []byte
	for len(records) >= recordHeader {
		n := min(recordHeader+int(binary.BigEndian.Uint16(records[3:])), len(records))
		if records[0] == recordHandshake {
			message = append(message, records[recordHeader:n]...)
		}
		records = records[n:]
	}
	const header = 4 // type, length
	return len(message) >= header && len(message)-header == int(message[1])<<16|int(message[2])<<8|int(message[3])
}

func (p *peeker) Write(b []byte) (int, error)      { return len(b), nil } // an alert for nobody
func (p *peeker) Close() error                     { return nil }
func (p *peeker) LocalAddr() net.Addr              { return p.conn.LocalAddr() }
func (p *peeker) RemoteAddr() net.Addr             { return p.conn.RemoteAddr() }
func (p *peeker) SetDeadline(time.Time) error      { return nil }
func (p *peeker) SetReadDeadline(time.Time) error  { return nil }
func (p *peeker) SetWriteDeadline(time.Time) error { return nil }
