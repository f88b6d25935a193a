package lab

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/ipv4"
)

const portDNS = 53

// maxQuery bounds a question in bytes. Nobody asks with more.
const maxQuery = 4096

// Answer is what the resolver says of a name at one time: its addresses.
type Answer []netip.Addr

// A returns the answer of addresses, of IPv4 for A records and of IPv6 for AAAA. It
// panics if one is none.
func A(addrs ...string) Answer {
	var a Answer
	for _, s := range addrs {
		a = append(a, netip.MustParseAddr(s))
	}
	return a
}

// Name makes name exist. Of several answers each is given once, to a question for A
// records, and the last for ever: what a name does that rebinds. A name without
// any exists and has no addresses.
func (l *Lab) Name(name string, answers ...Answer) {
	l.resolver.mu.Lock()
	defer l.resolver.mu.Unlock()
	l.resolver.names[canonical(name)] = slices.Clone(answers)
}

// Queries returns the questions that reached a resolver, whichever and by whatever
// protocol, in their order: "A git.example.".
func (l *Lab) Queries() []string {
	l.resolver.mu.Lock()
	defer l.resolver.mu.Unlock()
	return slices.Clone(l.resolver.queries)
}

// resolver answers for all names of the lab.
type resolver struct {
	mu      sync.Mutex
	names   map[string][]Answer // by canonical name; those that are still to be given
	queries []string
}

func newResolver() *resolver { return &resolver{names: make(map[string][]Answer)} }

// canonical returns a name as it is in the table.
func canonical(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, ".")) + "."
}

// next returns the current answer for a name, and goes on to the one after it if
// the question is for A records.
func (r *resolver) next(name string, kind dnsmessage.Type) (Answer, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	answers, ok := r.names[canonical(name)]
	if len(answers) == 0 {
		return nil, ok
	}
	if kind == dnsmessage.TypeA && len(answers) > 1 {
		r.names[canonical(name)] = answers[1:]
	}
	return answers[0], true
}

// answer returns the answer to a message of DNS, RFC 1035, and nil if it asks
// nothing. Its records are never to be kept.
func (r *resolver) answer(query []byte) []byte {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil || header.Response {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	r.mu.Lock()
	r.queries = append(r.queries, strings.TrimPrefix(q.Type.String(), "Type")+" "+q.Name.String())
	r.mu.Unlock()

	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: header.ID, Response: true,
			RecursionDesired: header.RecursionDesired, RecursionAvailable: true,
		},
		Questions: []dnsmessage.Question{q},
	}
	addrs, ok := r.next(q.Name.String(), q.Type)
	if !ok {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, addr := range addrs {
		rh := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET}
		switch {
		case q.Type == dnsmessage.TypeA && addr.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: rh, Body: &dnsmessage.AResource{A: addr.As4()}})
		case q.Type == dnsmessage.TypeAAAA && addr.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: rh, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
		}
	}
	reply, err := m.Pack()
	if err != nil {
		return nil
	}
	return reply
}

// address returns an IPv4 address of a host, which may be one.
func (r *resolver) address(host string) (netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr, nil
	}
	addrs, _ := r.next(host, dnsmessage.TypeA)
	for _, addr := range addrs {
		if addr.Is4() {
			return addr, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%s has no address", host)
}

// serveDNS answers questions at every address.
func (l *Lab) serveDNS() error {
	ln, err := l.inet.listen(fmt.Sprintf(":%d", portDNS))
	if err != nil {
		return err
	}
	l.serve(ln, l.resolver.answerStream)

	var socket net.PacketConn
	err = l.inet.do(func() (err error) {
		socket, err = net.ListenPacket("udp4", fmt.Sprintf(":%d", portDNS))
		return err
	})
	if err != nil {
		return err
	}
	l.keep(socket)
	conn := ipv4.NewPacketConn(socket)
	// To answer from the address that was asked.
	if err := conn.SetControlMessage(ipv4.FlagDst, true); err != nil {
		return err
	}
	l.start(func() { l.resolver.answerDatagrams(conn) })
	return nil
}

// answerDatagrams answers what comes to conn until it is closed.
func (r *resolver) answerDatagrams(conn *ipv4.PacketConn) {
	buf := make([]byte, maxQuery)
	for {
		n, cm, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if reply := r.answer(buf[:n]); reply != nil {
			// Who asked and does not wait is no concern of ours.
			conn.WriteTo(reply, &ipv4.ControlMessage{Src: cm.Dst}, from)
		}
	}
}

// answerStream answers messages behind their lengths, RFC 1035 4.2.2 and RFC 7858.
func (r *resolver) answerStream(conn net.Conn) {
	for {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		reply := r.answer(query)
		if reply == nil {
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}
