package lab

import (
	"bufio"
	"bytes"
	"io"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"
)

// question returns a message that asks for the A records of a name.
func question(t testing.TB, name string) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAnswer(t *testing.T) {
	r := newResolver()
	r.names["x.example."] = []Answer{A("1.2.3.4", "2001:db8::1")}
	var m dnsmessage.Message
	if err := m.Unpack(r.answer(question(t, "X.example."))); err != nil {
		t.Fatal(err)
	}
	if len(m.Answers) != 1 || m.RCode != dnsmessage.RCodeSuccess || m.ID != 7 {
		t.Errorf("answer(X.example.) = %v; want one record", m)
	}
	if err := m.Unpack(r.answer(question(t, "y.example."))); err != nil {
		t.Fatal(err)
	}
	if len(m.Answers) != 0 || m.RCode != dnsmessage.RCodeNameError {
		t.Errorf("answer(y.example.) = %v; want NXDOMAIN", m)
	}
	if d := cmp.Diff([]string{"A X.example.", "A y.example."}, r.queries); d != "" {
		t.Errorf("queries (-want +got):\n%s", d)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(question(f, "x.example."))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, query []byte) {
		r := newResolver()
		r.names["x.example."] = []Answer{A("1.2.3.4")}
		reply := r.answer(query)
		var m dnsmessage.Message
		if err := m.Unpack(reply); reply != nil && (err != nil || !m.Response) {
			t.Errorf("answer(%q) = %q: %v", query, reply, err)
		}
	})
}

func TestAcceptKey(t *testing.T) {
	// RFC 6455 1.3.
	if got, want := acceptKey("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; got != want {
		t.Errorf("acceptKey = %s; want %s", got, want)
	}
}

// masked returns the frame as a client sends it, with a mask of zeros.
func masked(f frame) []byte {
	b := f.append(nil)
	head := len(b) - len(f.payload)
	b[1] |= 0x80
	return append(append(append([]byte(nil), b[:head]...), 0, 0, 0, 0), f.payload...)
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")) // RFC 6455 5.7
	f.Add(masked(frame{true, 1, make([]byte, 126)}))
	f.Add(masked(frame{false, 2, make([]byte, 70_000)}))
	f.Add([]byte("\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readFrame(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		again, err := readFrame(bufio.NewReader(bytes.NewReader(masked(got))))
		if err != nil || again.fin != got.fin || again.opcode != got.opcode || !bytes.Equal(again.payload, got.payload) {
			t.Errorf("readFrame(%q) = %v, and of that %v, %v", b, got, again, err)
		}
	})
}

func TestPattern(t *testing.T) {
	got, err := io.ReadAll(Pattern(252))
	if err != nil || len(got) != 252 || got[250] != 250 || got[251] != 0 {
		t.Errorf("Pattern(252) = %v, %v", got, err)
	}
}

func TestIsPublic(t *testing.T) {
	for addr, want := range map[string]bool{
		"93.184.216.10": true, "9.9.9.9": true, "172.32.0.1": true,
		"10.9.0.1": false, "172.16.5.5": false, "192.168.1.1": false, "169.254.169.254": false,
		"127.0.0.1": false, "100.64.0.1": false, "198.18.0.1": false, "224.0.0.1": false, "255.255.255.255": false,
	} {
		if got := isPublic(netip.MustParseAddr(addr)); got != want {
			t.Errorf("isPublic(%s) = %v; want %v", addr, got, want)
		}
	}
}
