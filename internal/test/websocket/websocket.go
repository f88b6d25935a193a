// Package websocket is the server's side of the WebSocket protocol, RFC 6455, for the
// servers of tests.
//
// In comes a request that wants to become one; out come frames. What a client sends is
// bounded. There are no extensions.
package websocket

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// maxPayload bounds a frame's payload in bytes.
const maxPayload = 1 << 20

// The opcodes of frames, RFC 6455 5.2.
const (
	Text  = 0x1
	Close = 0x8
	Ping  = 0x9
	Pong  = 0xa
)

// Frame is a frame of the WebSocket protocol, RFC 6455 5.2.
type Frame struct {
	Fin     bool
	Opcode  byte
	Payload []byte
}

// Accept answers a request that wants a WebSocket, and returns the connection and what is to
// be read of it. If it is none, the client was told and the connection is nil.
func Accept(w http.ResponseWriter, r *http.Request) (net.Conn, *bufio.Reader) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || key == "" {
		http.Error(w, "only by WebSocket", http.StatusUpgradeRequired)
		return nil, nil
	}
	// Over HTTP/2 it would be CONNECT, RFC 8441, which nobody is told of.
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "only by HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return nil, nil
	}
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\n"+
		"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", acceptKey(key))
	return conn, rw.Reader
}

// acceptKey returns the answer to a client's key, RFC 6455 4.2.2.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// ReadFrame reads a frame of a client, which must be masked.
func ReadFrame(r *bufio.Reader) (Frame, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Frame{}, err
	}
	if head[1]&0x80 == 0 {
		return Frame{}, errors.New("a frame without a mask")
	}
	size := uint64(head[1] & 0x7f)
	if size > 125 {
		long := make([]byte, 2+6*(size-126)) // 126: 2 bytes follow, 127: 8
		if _, err := io.ReadFull(r, long); err != nil {
			return Frame{}, err
		}
		size = 0
		for _, b := range long {
			size = size<<8 | uint64(b)
		}
	}
	if size > maxPayload {
		return Frame{}, fmt.Errorf("a frame of %d bytes", size)
	}
	body := make([]byte, 4+size)
	if _, err := io.ReadFull(r, body); err != nil {
		return Frame{}, err
	}
	mask, payload := body[:4], body[4:]
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return Frame{Fin: head[0]&0x80 != 0, Opcode: head[0] & 0x0f, Payload: payload}, nil
}

// ReadMessage reads a whole message of a client, which may be in several frames, and answers
// pings on the way. At the client's close it says io.EOF.
func ReadMessage(r *bufio.Reader, w io.Writer) ([]byte, error) {
	var message []byte
	for {
		f, err := ReadFrame(r)
		if err != nil {
			return nil, err
		}
		switch f.Opcode {
		case Close:
			w.Write(f.Append(nil))
			return nil, io.EOF
		case Ping:
			f.Opcode = Pong
			if _, err := w.Write(f.Append(nil)); err != nil {
				return nil, err
			}
			continue
		case Pong:
			continue
		}
		if len(message)+len(f.Payload) > maxPayload {
			return nil, fmt.Errorf("a message of more than %d bytes", maxPayload)
		}
		message = append(message, f.Payload...)
		if f.Fin {
			return message, nil
		}
	}
}

// Append appends the frame to b as a server sends it.
func (f Frame) Append(b []byte) []byte {
	first := f.Opcode
	if f.Fin {
		first |= 0x80
	}
	b = append(b, first)
	switch n := len(f.Payload); {
	case n <= 125:
		b = append(b, byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, f.Payload...)
}

// Masked returns the frame as a client sends it, with a mask of zeros.
func (f Frame) Masked() []byte {
	b := f.Append(nil)
	head := len(b) - len(f.Payload)
	b[1] |= 0x80
	return append(append(append([]byte(nil), b[:head]...), 0, 0, 0, 0), f.Payload...)
}
