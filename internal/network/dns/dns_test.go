package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func query(t testing.TB, name string, qtype dnsmessage.Type) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: qtype, Class: dnsmessage.ClassINET}},
	}
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

// responder knows the names below known.example.
func responder() *Responder {
	return &Responder{Pool: NewPool(), Decide: func(_ context.Context, name, _ string) error {
		switch {
		case name == "slow.example":
			return ErrFailed
		case strings.HasSuffix(name, "known.example"):
			return nil
		}
		return errors.New("denied")
	}}
}

func TestAnswer(t *testing.T) {
	r := responder()
	known := r.Pool.Addr("known.example")
	reverse := known.As4()
	for _, test := range []struct {
		name  string
		qtype dnsmessage.Type
		rcode dnsmessage.RCode
		want  string // of the answer, "" for none
	}{
		{"known.example.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, known.String()},
		{"KNOWN.Example.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, known.String()},
		{"known.example.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, ""},
		{"known.example.", dnsmessage.TypeTXT, dnsmessage.RCodeSuccess, ""},
		{"known.example.", 65, dnsmessage.RCodeSuccess, ""},
		{"other.example.", dnsmessage.TypeA, dnsmessage.RCodeNameError, ""},
		{"c2VjcmV0.other.example.", dnsmessage.TypeTXT, dnsmessage.RCodeNameError, ""},
		{"slow.example.", dnsmessage.TypeA, dnsmessage.RCodeServerFailure, ""},
		{"localhost.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, "127.0.0.1"},
		{"a b.known.example.", dnsmessage.TypeA, dnsmessage.RCodeNameError, ""},
		{strings.Repeat("a.", 20) + "known.example.", dnsmessage.TypeA, dnsmessage.RCodeNameError, ""},
		{".", dnsmessage.TypeNS, dnsmessage.RCodeNameError, ""},
		{fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa.", reverse[3], reverse[2], reverse[1], reverse[0]), dnsmessage.TypePTR, dnsmessage.RCodeSuccess, "known.example."},
		{"1.1.168.192.in-addr.arpa.", dnsmessage.TypePTR, dnsmessage.RCodeNameError, ""},
	} {
		var m dnsmessage.Message
		if err := m.Unpack(r.Answer(t.Context(), query(t, test.name, test.qtype))); err != nil {
			t.Errorf("%s %v: the answer is none: %v", test.name, test.qtype, err)
			continue
		}
		got := ""
		for _, a := range m.Answers {
			switch body := a.Body.(type) {
			case *dnsmessage.AResource:
				got += netip.AddrFrom4(body.A).String()
			case *dnsmessage.PTRResource:
				got += body.PTR.String()
			}
		}
		if m.ID != 7 || !m.Response || m.RCode != test.rcode || got != test.want {
			t.Errorf("%s %v: id %d, response %v, %v, %q; want 7, true, %v, %q",
				test.name, test.qtype, m.ID, m.Response, m.RCode, got, test.rcode, test.want)
		}
	}
}

func TestAnswerRefuses(t *testing.T) {
	r := responder()
	good := query(t, "known.example.", dnsmessage.TypeA)
	two := bytes.Clone(good)
	two[5] = 2 // questions, and only one is there
	response := bytes.Clone(good)
	response[2] |= 0x80
	for what, bad := range map[string][]byte{"nothing": nil, "short": good[:5], "response": response, "long": make([]byte, MaxMessage+1)} {
		if got := r.Answer(t.Context(), bad); got != nil {
			t.Errorf("%s: answer %x; want none", what, got)
		}
	}
	var m dnsmessage.Message
	if err := m.Unpack(r.Answer(t.Context(), two)); err != nil || m.RCode != dnsmessage.RCodeFormatError {
		t.Errorf("two questions: %v, %v; want a format error", m.RCode, err)
	}
}

// Each name has an address of its own, and a guest that asks without end takes no
// memory without end.
func TestPool(t *testing.T) {
	p := NewPool()
	first := p.Addr("a.example")
	seen := make(map[netip.Addr]bool)
	for i := range 3 * MaxNames {
		addr := p.Addr(fmt.Sprintf("%d.example", i))
		if seen[addr] || !Range.Contains(addr) {
			t.Fatalf("name %d has the address %v again", i, addr)
		}
		seen[addr] = true
		p.Name(first) // it stays, since it is in use
	}
	if p.recent.Len() != MaxNames || len(p.byName) != MaxNames || len(p.byAddr) != MaxNames {
		t.Errorf("the pool holds %d, %d, %d names; want %d", p.recent.Len(), len(p.byName), len(p.byAddr), MaxNames)
	}
	if name, ok := p.Name(first); !ok || name != "a.example" {
		t.Errorf("Name(%v) = %q, %v; want a.example", first, name, ok)
	}
}

func TestServe(t *testing.T) {
	q := query(t, "known.example.", dnsmessage.TypeA)
	in := append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)
	conn := struct {
		*bytes.Reader
		bytes.Buffer
	}{Reader: bytes.NewReader(append(in, in...))}
	if err := responder().Serve(t.Context(), rw{conn.Reader, &conn.Buffer}); err != nil {
		t.Fatal(err)
	}
	n := int(binary.BigEndian.Uint16(conn.Bytes()))
	if got, want := conn.Buffer.Len(), 2*(n+2); got != want {
		t.Errorf("%d bytes of answers; want %d", got, want)
	}
}

type rw struct {
	*bytes.Reader
	w *bytes.Buffer
}

func (c rw) Write(b []byte) (int, error) { return c.w.Write(b) }

func FuzzAnswer(f *testing.F) {
	f.Add(query(f, "known.example.", dnsmessage.TypeA))
	f.Add(query(f, "1.0.18.198.in-addr.arpa.", dnsmessage.TypePTR))
	f.Add([]byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1})
	r := responder()
	r.Decide = func(_ context.Context, name, question string) error {
		if host, ok := hostName(name); !ok || host != name {
			panic("asked about " + name)
		}
		return nil
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		answer := r.Answer(t.Context(), data)
		if answer == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(answer); err != nil {
			t.Fatalf("the answer cannot be read: %v", err)
		}
		if !m.Response || len(answer) > MaxMessage {
			t.Fatalf("a bad answer: %+v", m.Header)
		}
	})
}
