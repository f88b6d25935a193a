package lab

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strings"
)

// The ports of the servers, at every address of the internet.
const (
	PortEcho    = 7  // sends back what it gets, RFC 862; for connections a second
	PortDiscard = 9  // reads all it gets, RFC 863
	PortSource  = 19 // sends Pattern without end, as RFC 864 does

	portSMTP  = 25 // speaks first
	portHTTP  = 80
	portHTTPS = 443
	portDoT   = 853  // DNS in TLS, RFC 7858
	PortProxy = 3128 // makes requests and connections for everybody, RFC 9110 7.6 and 9.3.6
)

// hostServices are the services on the host itself that no machine may reach.
func hostServices() []netip.AddrPort {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	return []netip.AddrPort{
		netip.AddrPortFrom(loopback, 11434), // HTTP, as a server of models
		netip.AddrPortFrom(loopback, 6379),  // as a database
		netip.AddrPortFrom(Host, 8080),      // HTTP, as a program under development
	}
}

// makeServers starts all that the lab serves but SSH.
func (l *Lab) makeServers() error {
	if err := l.serveDNS(); err != nil {
		return err
	}
	web := l.webHandler()
	config := &tls.Config{GetCertificate: l.authority.certificate}
	for port, serve := range map[int]func(net.Listener){
		PortEcho:    func(ln net.Listener) { l.serve(ln, func(c net.Conn) { io.Copy(c, c) }) },
		PortDiscard: func(ln net.Listener) { l.serve(ln, func(c net.Conn) { io.Copy(io.Discard, c) }) },
		PortSource:  func(ln net.Listener) { l.serve(ln, func(c net.Conn) { io.Copy(c, Pattern(math.MaxInt64)) }) },
		portSMTP:    func(ln net.Listener) { l.serve(ln, serveSMTP) },
		portHTTP:    func(ln net.Listener) { l.serveHTTP(ln, web, nil) },
		portHTTPS:   func(ln net.Listener) { l.serveHTTP(ln, web, config) },
		portDoT:     func(ln net.Listener) { l.serve(tls.NewListener(ln, config), l.resolver.answerStream) },
		PortProxy:   func(ln net.Listener) { l.serveHTTP(ln, http.HandlerFunc(l.serveProxy), nil) },
	} {
		ln, err := l.inet.listen(fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		serve(ln)
	}
	for _, at := range hostServices() {
		ln, err := l.host.listen(at.String())
		if err != nil {
			return err
		}
		if at.Port() == 6379 {
			l.serve(ln, serveDatabase)
		} else {
			l.serveHTTP(ln, web, nil)
		}
	}
	// Where HTTP/3 would be: it takes what comes, which Reached shows, and no
	// client learns at once that there is none.
	return l.inet.do(func() error {
		socket, err := net.ListenPacket("udp4", fmt.Sprintf(":%d", portHTTPS))
		if err == nil {
			l.keep(socket)
		}
		return err
	})
}

// serve hands each connection to handle in a goroutine, and closes it afterwards and
// at the end of the lab.
func (l *Lab) serve(ln net.Listener, handle func(net.Conn)) {
	l.keep(ln)
	l.start(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			ok := l.start(func() {
				defer l.closeAtEnd(conn)()
				handle(conn)
			})
			if !ok {
				conn.Close()
			}
		}
	})
}

// closeAtEnd closes conn at the end of the lab, and when the function that it
// returns is called.
func (l *Lab) closeAtEnd(conn net.Conn) func() {
	stop := context.AfterFunc(l.ctx, func() { conn.Close() })
	return func() {
		stop()
		conn.Close()
	}
}

// Pattern returns n bytes that anyone can check: 0, 1, …, 250, 0, …
func Pattern(n int64) io.Reader { return &pattern{left: n} }

type pattern struct {
	left int64
	next byte
}

func (p *pattern) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.left)]
	for i := range b {
		b[i] = p.next
		if p.next++; p.next == 251 {
			p.next = 0
		}
	}
	p.left -= int64(len(b))
	return len(b), nil
}

// serveSMTP greets, and says yes to everything.
func serveSMTP(conn net.Conn) {
	fmt.Fprint(conn, "220 mail ESMTP\r\n")
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if strings.HasPrefix(strings.ToUpper(lines.Text()), "QUIT") {
			fmt.Fprint(conn, "221 bye\r\n")
			return
		}
		fmt.Fprint(conn, "250 ok\r\n")
	}
}

// serveDatabase answers a line as Redis does a PING.
func serveDatabase(conn net.Conn) {
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		fmt.Fprint(conn, "+PONG\r\n")
	}
}

// serveProxy makes requests for whoever asks, and connects them with whatever they name, as
// most proxies not with the port of requests without TLS.
func (l *Lab) serveProxy(w http.ResponseWriter, r *http.Request) {
	l.record(r)
	switch {
	case r.URL.IsAbs():
		forward := httputil.ReverseProxy{
			Rewrite:   func(pr *httputil.ProxyRequest) {},
			Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, _, address string) (net.Conn, error) { return l.dialInternet(address) }},
		}
		forward.ServeHTTP(w, r)
		return
	case r.Method != http.MethodConnect:
		http.Error(w, "this proxy wants the address of a resource", http.StatusBadRequest)
		return
	case strings.HasSuffix(r.Host, ":80"):
		http.Error(w, "this proxy does not connect with port 80", http.StatusForbidden)
		return
	}
	server, err := l.dialInternet(r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer l.closeAtEnd(server)()
	client, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer l.closeAtEnd(client)()
	fmt.Fprint(client, "HTTP/1.1 200 Connection established\r\n\r\n")
	l.start(func() {
		io.Copy(server, rw)
		server.(*net.TCPConn).CloseWrite()
	})
	io.Copy(client, server)
}

// dialInternet connects to host:port from a host on the internet.
func (l *Lab) dialInternet(hostport string) (net.Conn, error) {
	host, service, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	addr, err := l.resolver.address(host)
	if err != nil {
		return nil, err
	}
	at, err := netip.ParseAddrPort(net.JoinHostPort(addr.String(), service))
	if err != nil {
		return nil, err
	}
	var conn net.Conn
	err = l.inet.do(func() (err error) {
		conn, err = net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(at))
		return err
	})
	return conn, err
}
