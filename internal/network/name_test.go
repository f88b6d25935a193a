package network

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"github.com/mayfly-vm/mayfly/internal/network/intercept"
)

// sent returns what send writes first.
func sent(t testing.TB, send func(net.Conn)) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	deadline := time.Now().Add(time.Minute)
	ours.SetDeadline(deadline)
	theirs.SetDeadline(deadline)
	done := make(chan struct{})
	go func() {
		defer close(done)
		send(theirs)
	}()
	buf := make([]byte, 64<<10)
	n, err := ours.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	<-done
	return buf[:n]
}

// hello returns how a client of TLS begins that names a host.
func hello(t testing.TB, name string) []byte {
	return sent(t, func(c net.Conn) { tls.Client(c, &tls.Config{ServerName: name}).Handshake() })
}

// stream is a connection that gives what r has.
type stream struct {
	net.Conn
	r io.Reader
}

func (s stream) Read(b []byte) (int, error) { return s.r.Read(b) }
func (s stream) LocalAddr() net.Addr        { return &net.TCPAddr{} }
func (s stream) RemoteAddr() net.Addr       { return &net.TCPAddr{} }

func forA(h intercept.Hello) error { return checkName(h, "a.example") }

// A connection that is not intercepted is still for one host, if it is TLS.
func TestNameCheck(t *testing.T) {
	ours, another := hello(t, "a.example"), hello(t, "b.example")
	warning, ciphers, data := []byte{21, 3, 1, 0, 2, 1, 0}, []byte{20, 3, 3, 0, 1, 1}, []byte{23, 3, 3, 0, 2, 7, 7}
	key := []byte{22, 3, 3, 0, 6, 16, 0, 0, 2, 1, 1}                                        // ClientKeyExchange
	finished := slices.Concat([]byte{22, 3, 3, 0, 40, 1, 200}, bytes.Repeat([]byte{9}, 38)) // encrypted
	const other, none, odd = "the name in TLS is b.example", "TLS without a host's name", "a record of TLS that is none"
	for what, test := range map[string]struct {
		sent []byte
		want string // of the error, "" for none
	}{
		"its name":                   {ours, ""},
		"another":                    {another, other},
		"none":                       {hello(t, "192.0.2.1"), none},
		"no TLS":                     {[]byte("SSH-2.0-client\r\n"), ""},
		"a warning first":            {slices.Concat(warning, another), none},
		"a warning before its name":  {slices.Concat(warning, ours), none},
		"a change of ciphers first":  {slices.Concat(ciphers, another), none},
		"data first":                 {slices.Concat(data, another), none},
		"a heartbeat first":          {slices.Concat([]byte{24, 3, 1, 0, 3, 1, 0, 0}, another), none},
		"SSL 2":                      {[]byte{0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10}, none},
		"again":                      {slices.Concat(ours, ciphers, ours, data, data), ""},
		"again, for another":         {slices.Concat(ours, ciphers, another), other},
		"at once, for another":       {slices.Concat(ours, another), other},
		"a warning, for another":     {slices.Concat(ours, warning, another), other},
		"TLS 1.2":                    {slices.Concat(ours, key, ciphers, finished, data), ""},
		"TLS 1.2, resumed":           {slices.Concat(ours, ciphers, finished, data), ""},
		"TLS 1.3":                    {slices.Concat(ours, ciphers, data, data), ""},
		"a record that is too large": {slices.Concat(ours, []byte{22, 3, 3, 0xff, 0xff}), odd},
	} {
		for how, r := range map[string]io.Reader{"at once": bytes.NewReader(test.sent), "bytewise": iotest.OneByteReader(bytes.NewReader(test.sent))} {
			got, err := io.ReadAll(&nameCheck{conn: stream{r: r}, check: forA})
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != test.want || err == nil && !bytes.Equal(got, test.sent) {
				t.Errorf("%s, %s: %d of %d bytes, %q; want %q", what, how, len(got), len(test.sent), text, test.want)
			}
		}
	}
}

// Whatever a client sends, it arrives as it was sent, and no server sees the beginning of
// TLS for another host.
func FuzzNameCheck(f *testing.F) {
	// Short ones, without keys that resist quantum computers: of a long one the fuzzer
	// looks for a shorter one for a minute, and tries nothing else meanwhile.
	short := func(name string) []byte {
		config := &tls.Config{ServerName: name, MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}}
		return sent(f, func(c net.Conn) { tls.Client(c, config).Handshake() })
	}
	ours, another := short("a.example"), short("b.example")
	f.Add(ours)
	f.Add(slices.Concat(ours, another))
	f.Add(slices.Concat([]byte{21, 3, 1, 0, 2, 1, 0}, another))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := io.ReadAll(&nameCheck{conn: stream{r: bytes.NewReader(data)}, check: forA})
		if !bytes.HasPrefix(data, got) || err == nil && len(got) < len(data) {
			t.Errorf("%x became %x, %v", data, got, err)
		}
		if h, _ := intercept.PeekHello(stream{r: bytes.NewReader(got)}); h.TLS && h.Name != "a.example" {
			t.Errorf("TLS for %q gets through, %v", h.Name, err)
		}
		if _, ok := errors.AsType[*nameError](err); ok && len(got) > 0 && len(got) == len(data) {
			t.Error("all was passed on of what was refused")
		}
	})
}
