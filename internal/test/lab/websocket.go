package lab

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxPayload bounds a frame's payload in bytes.
const maxPayload = 1 << 20

// The opcodes of frames that are more than data, RFC 6455 5.2.
const (
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xa
)

// frame is a frame of the WebSocket protocol, RFC 6455 5.2.
type frame struct {
	fin     bool
	opcode  byte
	payload []byte
}

// serveWebSocket sends back the frames it gets, RFC 6455.
func (l *Lab) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || key == "" {
		http.Error(w, "only by WebSocket", http.StatusUpgradeRequired)
		return
	}
	// Over HTTP/2 it would be CONNECT, RFC 8441, which nobody is told of.
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "only by HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return
	}
	defer l.closeAtEnd(conn)()
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\n"+
		"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", acceptKey(key))
	for {
		f, err := readFrame(rw.Reader)
		if err != nil {
			return
		}
		switch f.opcode {
		case opPing:
			f.opcode = opPong
		case opPong:
			continue
		}
		if _, err := conn.Write(f.append(nil)); err != nil || f.opcode == opClose {
			return
		}
	}
}

// acceptKey returns the answer to a client's key, RFC 6455 4.2.2.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// readFrame reads a frame of a client, which must be masked.
func readFrame(r *bufio.Reader) (frame, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	if head[1]&0x80 == 0 {
		return frame{}, errors.New("a frame without a mask")
	}
	size := uint64(head[1] & 0x7f)
	if size > 125 {
		long := make([]byte, 2+6*(size-126)) // 126: 2 bytes follow, 127: 8
		if _, err := io.ReadFull(r, long); err != nil {
			return frame{}, err
		}
		size = 0
		for _, b := range long {
			size = size<<8 | uint64(b)
		}
	}
	if size > maxPayload {
		return frame{}, fmt.Errorf("a frame of %d bytes", size)
	}
	body := make([]byte, 4+size)
	if _, err := io.ReadFull(r, body); err != nil {
		return frame{}, err
	}
	mask, payload := body[:4], body[4:]
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return frame{fin: head[0]&0x80 != 0, opcode: head[0] & 0x0f, payload: payload}, nil
}

// append appends the frame to b as a server sends it.
func (f frame) append(b []byte) []byte {
	first := f.opcode
	if f.fin {
		first |= 0x80
	}
	b = append(b, first)
	switch n := len(f.payload); {
	case n <= 125:
		b = append(b, byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, f.payload...)
}
