package websocket

import (
	"bufio"
	"bytes"
	"io"
	"testing"
)

func TestAcceptKey(t *testing.T) {
	// RFC 6455 1.3.
	if got, want := acceptKey("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; got != want {
		t.Errorf("acceptKey = %s; want %s", got, want)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")) // RFC 6455 5.7
	f.Add(Frame{true, 1, make([]byte, 126)}.Masked())
	f.Add(Frame{false, 2, make([]byte, 70_000)}.Masked())
	f.Add([]byte("\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ReadFrame(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		again, err := ReadFrame(bufio.NewReader(bytes.NewReader(got.Masked())))
		if err != nil || again.Fin != got.Fin || again.Opcode != got.Opcode || !bytes.Equal(again.Payload, got.Payload) {
			t.Errorf("ReadFrame(%q) = %v, and of that %v, %v", b, got, again, err)
		}
	})
}

// A message in two frames, with a ping between them, and the end.
func TestReadMessage(t *testing.T) {
	var in bytes.Buffer
	for _, f := range []Frame{{false, Text, []byte("he")}, {true, Ping, []byte("p")}, {true, 0, []byte("llo")}, {true, Close, nil}} {
		in.Write(f.Masked())
	}
	r, out := bufio.NewReader(&in), new(bytes.Buffer)
	got, err := ReadMessage(r, out)
	if err != nil || string(got) != "hello" {
		t.Errorf("ReadMessage = %q, %v; want hello", got, err)
	}
	if _, err := ReadMessage(r, out); err != io.EOF {
		t.Errorf("at the end: %v; want EOF", err)
	}
	want := append(Frame{true, Pong, []byte("p")}.Append(nil), Frame{true, Close, nil}.Append(nil)...)
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("answered %q; want %q", out, want)
	}
}
