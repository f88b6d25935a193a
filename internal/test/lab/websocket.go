package lab

import (
	"net/http"

	"github.com/mayfly-vm/mayfly/internal/test/websocket"
)

// serveWebSocket sends back the frames it gets, RFC 6455.
func (l *Lab) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	conn, from := websocket.Accept(w, r)
	if conn == nil {
		return
	}
	defer l.closeAtEnd(conn)()
	for {
		f, err := websocket.ReadFrame(from)
		if err != nil {
			return
		}
		switch f.Opcode {
		case websocket.Ping:
			f.Opcode = websocket.Pong
		case websocket.Pong:
			continue
		}
		if _, err := conn.Write(f.Append(nil)); err != nil || f.Opcode == websocket.Close {
			return
		}
	}
}
