package intercept

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"testing"
	"testing/iotest"
	"time"
)

// reader is a connection that gives what r has.
type reader struct {
	net.Conn
	r io.Reader
}

func (c reader) Read(b []byte) (int, error) { return c.r.Read(b) }
func (c reader) LocalAddr() net.Addr        { return &net.TCPAddr{} }
func (c reader) RemoteAddr() net.Addr       { return &net.TCPAddr{} }

// hello returns what a client of TLS sends first.
func hello(t testing.TB, name string) []byte {
	t.Helper()
	var sent bytes.Buffer
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 16<<10)
		n, _ := theirs.Read(buf)
		sent.Write(buf[:n])
		theirs.Close()
	}()
	ours.SetDeadline(time.Now().Add(time.Minute))
	tls.Client(ours, &tls.Config{ServerName: name}).Handshake()
	<-done
	return sent.Bytes()
}

func TestPeekHello(t *testing.T) {
	h := hello(t, "api.example")
	// The same in records of a few bytes each, as clients may send it.
	var pieces []byte
	for body := h[5:]; len(body) > 0; {
		n := min(len(body), 7)
		pieces = append(append(pieces, h[0], h[1], h[2], 0, byte(n)), body[:n]...)
		body = body[n:]
	}
	for what, test := range map[string]struct {
		sent  []byte
		name  string
		isTLS bool
	}{
		"whole": {h, "api.example", true}, "in pieces": {pieces, "api.example", true},
		"no name": {hello(t, "192.0.2.1"), "", true},
		"HTTP":    {[]byte("GET / HTTP/1.1\r\n"), "", false},
		"SSH":     {[]byte("SSH-2.0-x\r\n"), "", false},
		"broken":  {append([]byte{22}, "not TLS, whatever it says"...), "", true},

		"a warning before it":        {append([]byte{21, 3, 1, 0, 2, 1, 0}, h...), "", true},
		"a change of ciphers before": {append([]byte{20, 3, 1, 0, 1, 1}, h...), "", true},
		"data before it":             {append([]byte{23, 3, 1, 0, 1, 1}, h...), "", true},
		"a heartbeat before it":      {append([]byte{24, 3, 1, 0, 1, 1}, h...), "", true},
		"SSL 2":                      {[]byte{0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10}, "", true},
		"SSL 2, long":                {[]byte{0x81, 0x2e, 1, 3, 1}, "", true},
		"two in one record":          {double(h), "", true},
	} {
		for how, r := range map[string]io.Reader{"at once": bytes.NewReader(test.sent), "bytewise": iotest.OneByteReader(bytes.NewReader(test.sent))} {
			got, err := PeekHello(reader{r: r})
			if got.Name != test.name || got.TLS != test.isTLS || !bytes.HasPrefix(test.sent, got.Read) || len(got.Read) == 0 || got.Hidden {
				t.Errorf("%s, %s: PeekHello = %+v, %v; want %q, %v", what, how, got, err, test.name, test.isTLS)
			}
		}
	}
}

// double returns h with its message twice in one record.
func double(h []byte) []byte {
	message := h[recordHeader:]
	n := 2 * len(message)
	return slices.Concat(h[:3], []byte{byte(n >> 8), byte(n)}, message, message)
}

// What comes after the first message is left for others.
func TestPeekHelloReadsNoMore(t *testing.T) {
	h := hello(t, "api.example")
	got, err := PeekHello(reader{r: bytes.NewReader(append(h, h...))})
	if !bytes.Equal(got.Read, h) || err != nil {
		t.Errorf("PeekHello reads %d bytes, %v; want the %d of the message", len(got.Read), err, len(h))
	}
}

// A name that is encrypted is one that is not known.
func TestPeekHelloHidden(t *testing.T) {
	h := hello(t, "api.example")
	message := slices.Concat(h[recordHeader:], []byte{0xfe, 0x0d, 0, 1, 1}) // the last extension
	n := len(message) - 4
	message[1], message[2], message[3] = 0, byte(n>>8), byte(n)
	at := 4 + 2 + 32                                   // type, length, version, random
	at += 1 + int(message[at])                         // session
	at += 2 + int(message[at])<<8 + int(message[at+1]) // ciphers
	at += 1 + int(message[at])                         // compression
	n = len(message) - at - 2                          // of extensions
	message[at], message[at+1] = byte(n>>8), byte(n)
	sent := slices.Concat(h[:3], []byte{byte(len(message) >> 8), byte(len(message))}, message)
	got, err := PeekHello(reader{r: bytes.NewReader(sent)})
	if !got.Hidden || got.Name != "api.example" || err != nil {
		t.Errorf("PeekHello = %v, %q, %v; want a name that is hidden", got.Hidden, got.Name, err)
	}
}

func FuzzPeekHello(f *testing.F) {
	f.Add(hello(f, "api.example"))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Add([]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 0})
	f.Add([]byte{21, 3, 1, 0, 2, 1, 0, 22, 3, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, _ := PeekHello(reader{r: bytes.NewReader(data)})
		if !bytes.HasPrefix(data, got.Read) || len(got.Read) > maxHello || got.Name != "" && !got.TLS {
			t.Errorf("PeekHello = %+v", got)
		}
		if !got.TLS && len(data) > 0 && (data[0] >= 20 && data[0] <= 24 || data[0] >= 0x80) {
			t.Errorf("%x is not taken for TLS", data)
		}
	})
}
