package lab

import (
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
