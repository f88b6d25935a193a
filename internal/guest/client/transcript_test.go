package client

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// A guest that never ends is cut off, and one that breaks off is an error.
func TestTranscriptsBounded(t *testing.T) {
	endless := func(_ wire.Request, conn net.Conn) {
		out := wire.NewFrameWriter(conn)
		for chunk := make([]byte, wire.MaxFrame); out.Write(wire.FrameStdout, chunk) == nil; {
		}
	}
	stream := fakeGuest(t, endless)
	n, err := Transcripts(stream, "/home/dev", time.Second, io.Discard)
	if err == nil || n > MaxTranscripts+1 {
		t.Errorf("Transcripts of a guest without end = %d, %v", n, err)
	}
	stream.Close()
	stream = fakeGuest(t, func(_ wire.Request, conn net.Conn) {
		wire.NewFrameWriter(conn).Write(wire.FrameStdout, []byte("x"))
	})
	if _, err := Transcripts(stream, "/home/dev", time.Second, io.Discard); !errors.Is(err, io.EOF) {
		t.Errorf("Transcripts of a guest that hangs up = %v", err)
	}
}
