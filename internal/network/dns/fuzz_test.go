package dns

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// FuzzServe plays a guest that asks by TCP.
func FuzzServe(f *testing.F) {
	framed := func(messages ...[]byte) []byte {
		var b []byte
		for _, m := range messages {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(m))), m...)
		}
		return b
	}
	known := query(f, "known.example.", dnsmessage.TypeA)
	f.Add(framed(known, query(f, "unknown.example.", dnsmessage.TypeTXT), known))
	f.Add(append(framed(known), 0xff, 0xff, 1))
	f.Add(framed(nil, known))
	r := responder()
	f.Fuzz(func(t *testing.T, in []byte) {
		questions, rest := 0, in
		for len(rest) >= 2 && len(rest) >= 2+int(binary.BigEndian.Uint16(rest)) {
			rest = rest[2+int(binary.BigEndian.Uint16(rest)):]
			questions++
		}
		var out bytes.Buffer
		r.Serve(t.Context(), rw{bytes.NewReader(in), &out})
		for answers := 0; out.Len() > 0; answers++ {
			n := int(binary.BigEndian.Uint16(out.Next(2)))
			var m dnsmessage.Message
			if err := m.Unpack(out.Next(n)); err != nil || !m.Response || n > MaxMessage {
				t.Fatalf("an answer of %d bytes, %v", n, err)
			}
			if answers >= questions {
				t.Fatalf("more answers than the %d questions", questions)
			}
		}
	})
}

// FuzzReverse asks for the names of addresses.
func FuzzReverse(f *testing.F) {
	r := responder()
	addr := r.Pool.Addr("known.example").As4()
	f.Add("1.0.18.198.in-addr.arpa")
	f.Add("01.0.18.198.in-addr.arpa")
	f.Add("1.0.18.198.in-addr.arpa.in-addr.arpa")
	f.Add("b.a.9.8.ip6.arpa")
	f.Add("...in-addr.arpa")
	f.Fuzz(func(t *testing.T, name string) {
		body, code := r.reverse(name, dnsmessage.TypePTR)
		ptr, ok := body.(*dnsmessage.PTRResource)
		if body == nil {
			return
		}
		parts := strings.Split(strings.TrimSuffix(name, ".in-addr.arpa"), ".")
		if !ok || code != dnsmessage.RCodeSuccess || len(parts) != 4 {
			t.Fatalf("reverse(%q) = %v, %v", name, body, code)
		}
		asked, err := netip.ParseAddr(parts[3] + "." + parts[2] + "." + parts[1] + "." + parts[0])
		if err != nil || asked != netip.AddrFrom4(addr) || ptr.PTR.String() != "known.example." {
			t.Errorf("reverse(%q) = %v; only %v has a name", name, ptr.PTR, addr)
		}
	})
}
