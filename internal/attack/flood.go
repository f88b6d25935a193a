package attack

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// floods tries to take what the host has, and then expects that the machine's network works
// and that refusals are recorded.
func floods() []attempt {
	return []attempt{
		{name: "streams without a window, HTTP/2", needs: allowed, try: noWindow, trace: traceOf("421")},
		{name: "streams that are reset at once, HTTP/2", needs: allowed, try: resetStreams},
		{name: "20,000 names at once", try: nameFlood, trace: func(t Target) string { return ifList(t, "dns A") }},
		{name: "local network, after the floods", try: refusedConnection("10.255.255.1:443"), trace: traceOf("10.255.255.1")},
	}
}

// noWindow opens streams for another host on several connections, whose answers it takes
// none of.
func noWindow(ctx context.Context, t Target) (bool, string) {
	const conns, streams = 12, 100
	opened := 0
	for range conns {
		conn, err := http2Conn(ctx, t)
		if err != nil {
			break // there are enough
		}
		defer conn.Close()
		for i := range streams {
			if _, err := conn.Write(otherHostStream(i)); err != nil {
				break
			}
			opened++
		}
	}
	return afterStreams(ctx, opened)
}

// resetStreams opens streams for another host and gives each up before it is answered: none
// of them counts as open.
func resetStreams(ctx context.Context, t Target) (bool, string) {
	conn, err := http2Conn(ctx, t)
	if err != nil {
		return gotThrough("the allowed host does not answer: %v", err)
	}
	defer conn.Close()
	opened := 0
	for i := range 5000 {
		reset := binary.BigEndian.AppendUint32([]byte{0, 0, 4, 3, 0}, uint32(2*i+1))
		if _, err := conn.Write(append(otherHostStream(i), append(reset, 0, 0, 0, 8)...)); err != nil {
			break // it was ended
		}
		opened++
	}
	return afterStreams(ctx, opened)
}

// http2Conn returns a connection to the allowed host, with the beginning of HTTP/2 and no
// window for answers.
func http2Conn(ctx context.Context, t Target) (net.Conn, error) {
	d := tls.Dialer{Config: &tls.Config{ServerName: t.Allowed, NextProtos: []string{"h2"}}}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(t.Allowed, "443"))
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(atOnce))
	io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	conn.Write([]byte{0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0}) // SETTINGS_INITIAL_WINDOW_SIZE is 0
	return conn, nil
}

// otherHostStream returns the frame that opens stream i with a request for another host.
func otherHostStream(i int) []byte {
	// GET https://attack.invalid/, RFC 7541 A.
	const host = "attack.invalid"
	head := append([]byte{0x82, 0x87, 0x84, 0x01, byte(len(host))}, host...)
	return append(binary.BigEndian.AppendUint32([]byte{0, 0, byte(len(head)), 1, 5}, uint32(2*i+1)), head...)
}

// afterStreams expects that some could be opened, and that the network works after them.
func afterStreams(ctx context.Context, opened int) (bool, string) {
	if opened == 0 {
		return gotThrough("the allowed host does not answer")
	}
	begun := time.Now()
	if refused, how := stillAnswers(ctx); !refused {
		return false, how
	}
	return true, fmt.Sprintf("the network answers after %d of them, in %v", opened, time.Since(begun).Round(time.Millisecond))
}

// nameFlood asks for names and does not wait for answers.
func nameFlood(ctx context.Context, _ Target) (bool, string) {
	conn, err := net.Dial("udp", "192.168.127.1:53")
	if err != nil {
		return gotThrough("%v", err)
	}
	defer conn.Close()
	const count = 20_000
	for i := range count {
		name, err := dnsmessage.NewName(fmt.Sprintf("flood-%d.attack.invalid.", i))
		if err != nil {
			return gotThrough("%v", err)
		}
		m := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: uint16(i), RecursionDesired: true},
			Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
		}
		packed, err := m.Pack()
		if err != nil || ctx.Err() != nil {
			return gotThrough("%v, %v", err, ctx.Err())
		}
		conn.Write(packed) // what is lost, is
	}
	begun := time.Now()
	if refused, how := stillAnswers(ctx); !refused {
		return false, how
	}
	return true, fmt.Sprintf("the network answers after them, in %v", time.Since(begun).Round(time.Millisecond))
}
