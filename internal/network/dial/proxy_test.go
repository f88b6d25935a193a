package dial

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	golog "log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
)

// behindProxy is a host that answers with what it was asked for, and echoes.
func behindProxy(conn net.Conn, target string) {
	fmt.Fprintf(conn, "at %s\n", target)
	io.Copy(conn, conn)
}

// serveProxy serves each connection with handle, and returns the address.
func serveProxy(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn)
			}()
		}
	}()
	return l.Addr().String()
}

// httpProxy is a proxy that wants a user and a password.
func httpProxy(conn net.Conn) {
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil || req.Method != http.MethodConnect {
		io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
		return
	}
	if req.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("user:pass word")) {
		io.WriteString(conn, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
		return
	}
	// The host speaks first, and in the same packet.
	fmt.Fprintf(conn, "HTTP/1.1 200 Connection established\r\n\r\nat %s\n", req.Host)
	io.Copy(conn, conn)
}

// socksProxy is one by RFC 1928, with passwords by RFC 1929.
func socksProxy(conn net.Conn) {
	b := make([]byte, 512)
	read := func(n int) []byte {
		if _, err := io.ReadFull(conn, b[:n]); err != nil {
			return make([]byte, n)
		}
		return b[:n]
	}
	methods := int(read(2)[1])
	if !bytes.Contains(read(methods), []byte{2}) {
		conn.Write([]byte{5, 0xff})
		return
	}
	conn.Write([]byte{5, 2})
	user := string(read(int(read(2)[1])))
	password := string(read(int(read(1)[0])))
	if user != "user" || password != "pass word" {
		conn.Write([]byte{1, 1})
		return
	}
	conn.Write([]byte{1, 0})
	host := ""
	switch read(4)[3] {
	case 1:
		addr, _ := netip.AddrFromSlice(read(4))
		host = addr.String()
	case 3:
		host = string(read(int(read(1)[0])))
	}
	port := read(2)
	conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	behindProxy(conn, fmt.Sprintf("%s:%d", host, int(port[0])<<8|int(port[1])))
}

func none(string) string { return "" }

// proxiedDialer returns a dialer behind a proxy, whose host knows some names.
func proxiedDialer(t *testing.T, proxy string, env map[string]string) *Dialer {
	t.Helper()
	p, err := NewProxies(proxy, func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	d := New()
	d.SetProxies(p)
	for name, addr := range map[string]string{"inside.example.": "10.1.2.3", "inside.example": "10.1.2.3", "loop.example.": "127.0.0.1", "outside.example.": "93.184.216.34"} {
		d.names.put(name, []netip.Addr{netip.MustParseAddr(addr)})
	}
	d.names.put("unknown.example.", nil)
	d.names.put("intranet.", nil)
	d.names.put("wiki.corp.", nil)
	return d
}

func TestProxies(t *testing.T) {
	http, socks := serveProxy(t, httpProxy), serveProxy(t, socksProxy)
	for what, proxy := range map[string]string{
		"http": "http://user:pass%20word@" + http, "socks5": "socks5://user:pass%20word@" + socks, "socks5h": "socks5h://user:pass%20word@" + socks,
	} {
		for how, env := range map[string]map[string]string{
			"by HTTPS_PROXY": {"HTTPS_PROXY": proxy}, "by https_proxy": {"https_proxy": proxy}, "by all_proxy": {"all_proxy": proxy},
		} {
			d := proxiedDialer(t, "", env)
			for name, want := range map[string]string{"unknown.example": "unknown.example:443", "outside.example": "outside.example:443", "": "93.184.216.34:443"} {
				var conn net.Conn
				var err error
				if name == "" {
					conn, err = d.DialAddr(t.Context(), netip.MustParseAddrPort("93.184.216.34:443"), false)
				} else {
					conn, err = d.Dial(t.Context(), name, 443, false)
				}
				if err != nil {
					t.Errorf("%s %s: %s: %v", what, how, name, err)
					continue
				}
				if what == "socks5" && name == "outside.example" {
					want = "93.184.216.34:443" // the address that was checked
				}
				conn.SetDeadline(time.Now().Add(time.Minute))
				io.WriteString(conn, "hello\n")
				conn.(interface{ CloseWrite() error }).CloseWrite()
				got, err := io.ReadAll(conn)
				if string(got) != "at "+want+"\nhello\n" || err != nil || conn.RemoteAddr().String() != want {
					t.Errorf("%s %s: %s: %q, %v, %v", what, how, name, got, err, conn.RemoteAddr())
				}
				conn.Close()
			}
			// The policy decides before the proxy is asked.
			for _, name := range []string{"inside.example", "loop.example", "intranet", "wiki.corp"} {
				_, err := d.Dial(t.Context(), name, 443, false)
				if _, ok := errors.AsType[*AddressError](err); !ok {
					t.Errorf("%s %s: %s: %v; want an AddressError", what, how, name, err)
				}
			}
			if conn, err := d.Dial(t.Context(), "inside.example", 443, true); err != nil {
				t.Errorf("%s %s: a rule for private addresses: %v", what, how, err)
			} else {
				conn.Close()
			}
			for _, addr := range []string{"10.1.2.3:443", "169.254.169.254:80", "127.0.0.1:443"} {
				_, err := d.DialAddr(t.Context(), netip.MustParseAddrPort(addr), false)
				if _, ok := errors.AsType[*AddressError](err); !ok {
					t.Errorf("%s %s: %s: %v; want an AddressError", what, how, addr, err)
				}
			}
		}
	}
}

// What a proxy refuses is said in one line, without its password.
func TestProxyFails(t *testing.T) {
	silent := serveProxy(t, func(conn net.Conn) { io.Copy(io.Discard, conn) })
	odd := serveProxy(t, func(conn net.Conn) {
		io.WriteString(conn, "SSH-2.0-odd\r\n")
		io.Copy(io.Discard, conn)
	})
	http, socks := serveProxy(t, httpProxy), serveProxy(t, socksProxy)
	for proxy, want := range map[string]string{
		"http://user:s3cret@" + http:    "the proxy " + http + ": it answers 407 Proxy Authentication Required",
		"http://" + http:                "the proxy " + http + ": it answers 407 Proxy Authentication Required",
		"socks5://user:s3cret@" + socks: "the proxy " + socks + ": ",
		"socks5://" + socks:             "the proxy " + socks + ": ",
		"http://" + odd:                 "the proxy " + odd + ": its answer is not one of HTTP",
		"http://s3cret@127.0.0.1:1":     "the proxy 127.0.0.1:1: ",
		"http://s3cret@" + silent:       "the proxy " + silent + ": context deadline exceeded",
	} {
		patience := time.Minute
		if strings.HasSuffix(proxy, silent) {
			patience = time.Second
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := proxiedDialer(t, proxy, nil).Dial(ctx, "unknown.example", 443, false)
		cancel()
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want %q", proxy, err, want)
		}
	}
	for _, bad := range []string{"ftp://s3cret@proxy.example", "http://", "http://s3cret@%zz"} {
		if _, err := NewProxies(bad, none); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("NewProxies(%s) = %v; want an error without the password", bad, err)
		}
	}
}

// A proxy that is reached by TLS has a certificate that this host, or its user, trusts.
func TestProxyByTLS(t *testing.T) {
	var log bytes.Buffer
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n\r\nat %s\n", r.RequestURI)
		io.Copy(conn, conn)
	}))
	server.Config.ErrorLog = golog.New(&log, "", 0)
	server.StartTLS()
	defer server.Close()
	d := proxiedDialer(t, server.URL, nil)
	if _, err := d.Dial(t.Context(), "outside.example", 443, false); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a proxy that nobody knows: %v; want an error of its certificate", err)
	}
	d.Roots = x509.NewCertPool()
	d.Roots.AddCert(server.Certificate())
	conn, err := d.Dial(t.Context(), "outside.example", 443, false)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(conn, "hello\n")
	conn.(interface{ CloseWrite() error }).CloseWrite()
	if got, err := io.ReadAll(conn); string(got) != "at outside.example:443\nhello\n" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// NO_PROXY is read as curl and Go's programs read it.
func TestNoProxy(t *testing.T) {
	for _, test := range []struct{ no, with, without string }{
		{"*", "", "a.example:443 10.1.2.3:80 [2001:db8::1]:443"},
		{"corp.example", "a.example:443 xcorp.example:443 corp.example.org:80", "corp.example:443 a.corp.example:80"},
		{".corp.example", "corp.example:443", "a.corp.example:443 b.a.corp.example:80"},
		{"*.corp.example", "corp.example:443", "a.corp.example:443"},
		{"CORP.example", "a.example:80", "corp.example:443 a.corp.example:443"},
		{"corp.example:8443", "corp.example:443 corp.example:80", "corp.example:8443"},
		{"10.0.0.0/8", "11.1.2.3:443 ten.example:443", "10.1.2.3:443 10.255.0.1:22"},
		{"192.168.1.5", "192.168.1.6:443", "192.168.1.5:443"},
		{"2001:db8::/32", "[2001:db9::1]:443", "[2001:db8::1]:443"},
		{" a.example , b.example,, ", "c.example:443", "a.example:443 b.example:80"},
	} {
		for how, env := range map[string]map[string]string{
			"NO_PROXY":              {"ALL_PROXY": "http://p.example:3128", "NO_PROXY": test.no},
			"no_proxy":              {"http_proxy": "p.example:3128", "https_proxy": "http://p.example:3128", "no_proxy": test.no},
			"NO_PROXY over its own": {"HTTPS_PROXY": "http://p.example:3128", "HTTP_PROXY": "http://p.example:3128", "NO_PROXY": test.no, "no_proxy": "other.example"},
		} {
			p, err := NewProxies("", func(name string) string { return env[name] })
			if err != nil {
				t.Fatal(err)
			}
			d := New()
			d.SetProxies(p)
			for want, list := range map[bool]string{true: test.with, false: test.without} {
				for _, target := range strings.Fields(list) {
					host, text, err := net.SplitHostPort(target)
					if err != nil {
						t.Fatal(err)
					}
					port, err := strconv.ParseUint(text, 10, 16)
					if err != nil {
						t.Fatal(err)
					}
					u, err := d.proxyOf(host, uint16(port))
					if err != nil || (u != nil) != want || (d.WebProxy(host, uint16(port)) != nil) != want {
						t.Errorf("%s=%q: the proxy of %s is %v, %v; want one: %v", how, test.no, target, u, err, want)
					}
				}
			}
		}
	}
}

// Requests without TLS are for proxies of HTTP, whatever their port; SOCKS makes connections.
func TestWebProxyFor(t *testing.T) {
	for proxy, want := range map[string]bool{
		"http://p.example:3128": true, "https://p.example": true, "socks5://p.example": false, "socks5h://p.example": false, "none": false,
	} {
		p, err := NewProxies(proxy, none)
		if err != nil {
			t.Fatal(err)
		}
		d := New()
		d.SetProxies(p)
		for _, port := range []uint16{80, 8080} {
			if got := d.WebProxy("a.example", port) != nil; got != want {
				t.Errorf("%s: port %d: %v; want %v", proxy, port, got, want)
			}
		}
	}
}

func TestProxyFor(t *testing.T) {
	env := map[string]string{"HTTP_PROXY": "http://web.example:3128", "https_proxy": "tls.example:3128", "NO_PROXY": "direct.example,10.0.0.0/8,.sub.example"}
	for _, test := range []struct {
		proxy, host string
		port        uint16
		want        string
	}{
		{"", "a.example", 80, "web.example:3128"},
		{"", "a.example", 443, "tls.example:3128"},
		{"", "a.example", 22, "tls.example:3128"},
		{"", "direct.example", 443, ""},
		{"", "x.direct.example", 443, ""},
		{"", "x.sub.example", 80, ""},
		{"", "10.1.2.3", 443, ""},
		{"", "localhost", 443, ""},
		{"none", "a.example", 443, ""},
		{"socks5://s.example:1080", "a.example", 80, "s.example:1080"},
		{"socks5://s.example:1080", "direct.example", 80, ""},
	} {
		p, err := NewProxies(test.proxy, func(name string) string { return env[name] })
		if err != nil {
			t.Fatal(err)
		}
		d := New()
		d.SetProxies(p)
		u, err := d.proxyOf(test.host, test.port)
		got := ""
		if u != nil {
			got = u.Host
		}
		if got != test.want || err != nil {
			t.Errorf("%q: the proxy of %s:%d is %q, %v; want %q", test.proxy, test.host, test.port, got, err, test.want)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v", Proxies{HTTP: "s3cret"}, Proxies{HTTP: "s3cret"}, Proxies{HTTP: "s3cret"}); strings.Contains(text, "s3cret") {
		t.Errorf("proxies are printed as %s", text)
	}
}

func FuzzReadProxyAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\nhello"))
	f.Add([]byte("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 5\r\n\r\nhello"))
	f.Add([]byte("HTTP/1.0 200\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rest, err := readProxyAnswer(bytes.NewReader(data))
		if err == nil && !bytes.HasSuffix(data, rest) && len(data) < maxProxyAnswer {
			t.Errorf("%q leaves %q", data, rest)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\r\n\x1b") {
			t.Errorf("%q is refused with %q", data, err)
		}
	})
}
