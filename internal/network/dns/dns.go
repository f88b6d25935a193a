// Package dns answers a machine's questions for names.
//
// It is no forwarder: a query never leaves it. A name that the machine may know
// gets an address of its own out of a range that leads nowhere (Pool), so that
// whoever connects to that address has said for which name, before the first
// byte and whatever the protocol. All other names do not exist. Whether the
// machine may know a name is for a function of the caller to say.
package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// MaxMessage bounds a message in bytes: what RFC 6891 recommends for UDP, and more
// than any question needs.
const MaxMessage = 4096

// ttl of an answer in seconds. The address stays the name's for much longer.
const ttl = 60

// ErrFailed is wrapped by an error of Responder.Decide after which the guest may
// ask again.
var ErrFailed = errors.New("the name could not be looked up")

// Responder answers queries.
type Responder struct {
	Pool *Pool
	// Decide says whether the machine may know name, which is in lower case
	// and has no dot at its end. question is the type that was asked for. With
	// an error other than ErrFailed the name does not exist.
	Decide func(ctx context.Context, name, question string) error
}

// Answer returns the answer to query, or nil for what deserves none.
func (r *Responder) Answer(ctx context.Context, query []byte) []byte {
	if len(query) > MaxMessage {
		return nil
	}
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response {
		return nil
	}
	answer := dnsmessage.Header{ID: h.ID, Response: true, OpCode: h.OpCode, RecursionDesired: h.RecursionDesired, RecursionAvailable: true}
	q, err := p.Question()
	if err == nil {
		// A second question is something that nobody sends and servers
		// differ about.
		if _, more := p.Question(); more != dnsmessage.ErrSectionDone {
			err = errors.New("more than one question")
		}
	}
	if err != nil {
		answer.RCode = dnsmessage.RCodeFormatError
		return build(answer, nil, nil)
	}
	if h.OpCode != 0 {
		answer.RCode = dnsmessage.RCodeNotImplemented
		return build(answer, &q, nil)
	}
	if q.Class != dnsmessage.ClassINET {
		answer.RCode = dnsmessage.RCodeRefused
		return build(answer, &q, nil)
	}
	var body dnsmessage.ResourceBody
	body, answer.RCode = r.resolve(ctx, q)
	return build(answer, &q, body)
}

func (r *Responder) resolve(ctx context.Context, q dnsmessage.Question) (dnsmessage.ResourceBody, dnsmessage.RCode) {
	name, ok := hostName(q.Name.String())
	if !ok {
		return nil, dnsmessage.RCodeNameError
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") { // RFC 6761 6.3
		if q.Type == dnsmessage.TypeA {
			return &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}, dnsmessage.RCodeSuccess
		}
		return nil, dnsmessage.RCodeSuccess
	}
	if strings.HasSuffix(name, ".arpa") {
		return r.reverse(name, q.Type)
	}
	if err := r.Decide(ctx, name, typeName(q.Type)); err != nil {
		if errors.Is(err, ErrFailed) {
			return nil, dnsmessage.RCodeServerFailure
		}
		return nil, dnsmessage.RCodeNameError
	}
	if q.Type != dnsmessage.TypeA && q.Type != dnsmessage.TypeALL {
		// The name is there and has nothing else: no IPv6, and no HTTPS
		// record, with which TLS would hide the name from us.
		return nil, dnsmessage.RCodeSuccess
	}
	return &dnsmessage.AResource{A: r.Pool.Addr(name).As4()}, dnsmessage.RCodeSuccess
}

// reverse answers which name has an address, RFC 1035 3.5.
func (r *Responder) reverse(name string, t dnsmessage.Type) (dnsmessage.ResourceBody, dnsmessage.RCode) {
	digits, ok := strings.CutSuffix(name, ".in-addr.arpa")
	parts := strings.Split(digits, ".")
	if !ok || len(parts) != 4 {
		return nil, dnsmessage.RCodeNameError
	}
	addr, err := netip.ParseAddr(parts[3] + "." + parts[2] + "." + parts[1] + "." + parts[0])
	if err != nil {
		return nil, dnsmessage.RCodeNameError
	}
	host, ok := r.Pool.Name(addr)
	if !ok {
		return nil, dnsmessage.RCodeNameError
	}
	ptr, err := dnsmessage.NewName(host + ".")
	if err != nil || t != dnsmessage.TypePTR {
		return nil, dnsmessage.RCodeSuccess
	}
	return &dnsmessage.PTRResource{PTR: ptr}, dnsmessage.RCodeSuccess
}

// build returns a message, or nil if it cannot be one.
func build(h dnsmessage.Header, q *dnsmessage.Question, body dnsmessage.ResourceBody) []byte {
	m := dnsmessage.Message{Header: h}
	if q != nil {
		m.Questions = []dnsmessage.Question{*q}
	}
	if body != nil {
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: ttl},
			Body:   body,
		}}
	}
	packed, err := m.Pack()
	if err != nil {
		return nil
	}
	return packed
}

// maxLabels bounds the labels of a name. Where all names below one are allowed, a
// name is a way to say something to that one's servers.
const maxLabels = 16

// hostName returns name in lower case and without its last dot, if it could be a
// host's: RFC 1123 2.1, with the underscores of RFC 2782.
func hostName(name string) (string, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "" || len(name) > 253 || strings.Count(name, ".") >= maxLabels && !strings.HasSuffix(name, ".arpa") {
		return "", false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", false
		}
		for i := range len(label) {
			if c := label[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return "", false
			}
		}
	}
	return name, true
}

func typeName(t dnsmessage.Type) string {
	if t == 65 {
		return "HTTPS"
	}
	name := strings.TrimPrefix(t.String(), "Type")
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r < '0' || r > 'Z' }) {
		return strconv.Itoa(int(t))
	}
	return name
}

// Serve answers the queries of a TCP connection, RFC 7766, one after the other
// until its end or that of ctx.
func (r *Responder) Serve(ctx context.Context, conn io.ReadWriter) error {
	for ctx.Err() == nil {
		var head [2]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		n := int(binary.BigEndian.Uint16(head[:]))
		if n > MaxMessage {
			return fmt.Errorf("a query of %d bytes", n)
		}
		query := make([]byte, n)
		if _, err := io.ReadFull(conn, query); err != nil {
			return err
		}
		answer := r.Answer(ctx, query)
		if answer == nil {
			return errors.New("no query")
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return err
		}
	}
	return nil
}
