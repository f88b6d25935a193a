package dial

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
	"golang.org/x/net/proxy"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Proxies says through which proxies connections leave the host, as the variables of the
// same names do. An address may hold a password: a value goes from process to process in
// a pipe, and is not printed.
type Proxies struct {
	HTTP  string `json:"http,omitempty"`  // for port 80
	HTTPS string `json:"https,omitempty"` // for all other ports
	No    string `json:"no,omitempty"`    // hosts that are reached without
}

func (Proxies) String() string   { return "REDACTED" }
func (Proxies) GoString() string { return "REDACTED" }

// NewProxies returns the proxies of a host: those of its environment, or proxy, the
// address of one; "none" stands for none.
func NewProxies(proxy string, getenv func(string) string) (Proxies, error) {
	env := func(name string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return getenv(strings.ToLower(name))
	}
	var p Proxies
	switch proxy {
	case "none":
		return p, nil
	case "":
		all := env("ALL_PROXY")
		p = Proxies{HTTP: env("HTTP_PROXY"), HTTPS: env("HTTPS_PROXY"), No: env("NO_PROXY")}
		if p.HTTP == "" {
			p.HTTP = all
		}
		if p.HTTPS == "" {
			p.HTTPS = all
		}
	default:
		p = Proxies{HTTP: proxy, HTTPS: proxy, No: env("NO_PROXY")}
	}
	for _, text := range []string{p.HTTP, p.HTTPS} {
		if text == "" {
			continue
		}
		if _, err := parseProxy(text); err != nil {
			return Proxies{}, err
		}
	}
	return p, nil
}

// parseProxy reads the address of a proxy. Its text is in no error: it may hold a
// password.
func parseProxy(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if !strings.Contains(text, "://") {
		// As curl and Go's net/http have it: HTTP_PROXY=proxy.example:3128.
		u, err = url.Parse("http://" + text)
	}
	if err != nil || u.Hostname() == "" {
		return nil, errors.New("the address of a proxy is none: want http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT")
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
		return u, nil
	}
	return nil, fmt.Errorf("a proxy has the scheme %s: want http, https or socks5", termsafe.Line(termsafe.Clip(u.Scheme, 20)))
}

// SetProxies lets connections leave the host through proxies. It is to be called before
// the dialer is used.
func (d *Dialer) SetProxies(p Proxies) {
	if p.HTTP == "" && p.HTTPS == "" {
		return
	}
	cfg := httpproxy.Config{HTTPProxy: p.HTTP, HTTPSProxy: p.HTTPS, NoProxy: p.No}
	d.proxyFor = cfg.ProxyFunc()
}

// proxyOf returns the proxy for a port of a host, nil for none.
func (d *Dialer) proxyOf(host string, port uint16) (*url.URL, error) {
	if d.proxyFor == nil {
		return nil, nil
	}
	u := &url.URL{Scheme: "https", Host: net.JoinHostPort(host, strconv.Itoa(int(port)))}
	if port == 80 {
		u.Scheme = "http"
	}
	return d.proxyFor(u)
}

// WebProxy returns the proxy for requests of HTTP without TLS to a port of a host, which it
// wants with the address of the host in them; nil for none. A proxy of SOCKS is none: to it
// they are as other connections.
func (d *Dialer) WebProxy(host string, port uint16) *url.URL {
	if d.proxyFor == nil {
		return nil
	}
	u, err := d.proxyFor(&url.URL{Scheme: "http", Host: net.JoinHostPort(host, strconv.Itoa(int(port)))})
	if err != nil || u == nil || isSOCKS(u) {
		return nil
	}
	return u
}

func isSOCKS(u *url.URL) bool { return strings.HasPrefix(u.Scheme, "socks5") }

// DialProxy connects to a proxy of WebProxy.
func (d *Dialer) DialProxy(ctx context.Context, u *url.URL) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := d.connectProxy(ctx, u)
	if err != nil {
		return nil, proxyError(u, err)
	}
	return &proxied{Conn: conn, to: "a host"}, nil
}

// Proxied reports whether a name is reached through a proxy, on one of the web's ports:
// its addresses are the proxy's business, then.
func (d *Dialer) Proxied(name string) bool {
	for _, port := range []uint16{443, 80} {
		if u, err := d.proxyOf(name, port); err == nil && u != nil {
			return true
		}
	}
	return false
}

// ownLookup bounds the look-up of a name whose connection a proxy makes: many hosts
// behind a proxy know no names of the internet.
const ownLookup = time.Second

// CheckProxied returns an error for a name that no proxy is to be asked for: one that
// leads to where the machine may not go, as far as this host knows, or one that only a
// local network can have. An address is one, too.
func (d *Dialer) CheckProxied(ctx context.Context, name string, port uint16, private bool) error {
	if addr, err := netip.ParseAddr(name); err == nil {
		return d.mayEnd("", netip.AddrPortFrom(addr, port), private)
	}
	_, err := d.lookupProxied(ctx, name, port, private)
	return err
}

// lookupProxied is CheckProxied for a name. It returns its addresses, if this host knows
// them, at each of which a connection may end.
func (d *Dialer) lookupProxied(ctx context.Context, name string, port uint16, private bool) ([]netip.Addr, error) {
	each, cancel := context.WithTimeout(ctx, ownLookup)
	defer cancel()
	addrs, err := d.Lookup(each, name, private)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil && !private && LocalName(name):
		return nil, &AddressError{Name: name, Why: "a name of a local network"}
	case err != nil:
		// For as long as an answer: it would take as long each time.
		full := name
		if !private {
			full += "."
		}
		d.names.put(full, nil)
		return nil, nil
	}
	for _, addr := range addrs {
		// Each, for nobody knows which one the proxy takes.
		if err := d.mayEnd(name, netip.AddrPortFrom(addr, port), private); err != nil {
			return nil, err
		}
	}
	return addrs, nil
}

// dialProxied connects to a port of the host with this name through a proxy. Proxies of
// HTTP get the name: many decide by it, and know more names than this host. So do those of
// socks5h. To socks5 this host says the address that was checked, if it knows one.
func (d *Dialer) dialProxied(ctx context.Context, u *url.URL, name string, port uint16, private bool) (net.Conn, error) {
	addrs, err := d.lookupProxied(ctx, name, port, private)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "socks5" || len(addrs) == 0 {
		return d.throughProxy(ctx, u, name, port)
	}
	var conn net.Conn
	for i, addr := range addrs {
		deadline, _ := ctx.Deadline()
		each, cancel := context.WithTimeout(ctx, max(2*time.Second, time.Until(deadline)/time.Duration(len(addrs)-i)))
		conn, err = d.throughProxy(each, u, addr.String(), port)
		cancel()
		if err == nil {
			break
		}
	}
	return conn, err
}

// LocalName reports whether a name is one that the internet does not have, RFC 6761,
// RFC 8375, and ICANN's decision on internal.
func LocalName(name string) bool {
	if !strings.Contains(name, ".") {
		return true
	}
	for _, top := range []string{".localhost", ".local", ".internal", ".intranet", ".private", ".corp", ".home", ".lan", ".home.arpa", ".localdomain"} {
		if strings.HasSuffix(name, top) {
			return true
		}
	}
	return false
}

// proxyError is the error for a connection that a proxy did not make. It names no more of
// the proxy than its host.
func proxyError(u *url.URL, err error) error { return fmt.Errorf("the proxy %s: %w", u.Host, err) }

// throughProxy connects to a port of host, a name or an address, through a proxy.
func (d *Dialer) throughProxy(ctx context.Context, u *url.URL, host string, port uint16) (net.Conn, error) {
	target := net.JoinHostPort(host, strconv.Itoa(int(port)))
	conn, err := d.askFor(ctx, u, target)
	if err != nil {
		return nil, proxyError(u, err)
	}
	return &proxied{Conn: conn, to: proxiedAddr(target)}, nil
}

// withConn is what proxy.SOCKS5 returns.
type withConn interface {
	DialWithConn(ctx context.Context, conn net.Conn, network, address string) (net.Addr, error)
}

// connectProxy connects to a proxy itself.
func (d *Dialer) connectProxy(ctx context.Context, u *url.URL) (net.Conn, error) {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "http":
		port = "80"
	case u.Scheme == "https":
		port = "443"
	default:
		port = "1080"
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil || u.Scheme != "https" {
		return conn, err
	}
	secure := tls.Client(conn, &tls.Config{ServerName: u.Hostname(), NextProtos: []string{"http/1.1"}, RootCAs: d.Roots})
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

// askFor lets a proxy connect to target.
func (d *Dialer) askFor(ctx context.Context, u *url.URL, target string) (net.Conn, error) {
	conn, err := d.connectProxy(ctx, u)
	if err != nil {
		return nil, err
	}
	if isSOCKS(u) {
		var auth *proxy.Auth
		if u.User != nil {
			password, _ := u.User.Password()
			auth = &proxy.Auth{User: u.User.Username(), Password: password}
		}
		socks, err := proxy.SOCKS5("tcp", u.Host, auth, nil)
		if err != nil {
			conn.Close()
			return nil, err
		}
		// The connection that its own method returns hides that half of it can be closed.
		if _, err := socks.(withConn).DialWithConn(ctx, conn, "tcp", target); err != nil {
			conn.Close()
			return nil, err
		}
		return conn, nil
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	first, err := askProxy(conn, u.User, target)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return &begun{Conn: conn, first: first}, nil
}

// maxProxyAnswer bounds the headers of a proxy's answer, in bytes.
const maxProxyAnswer = 64 << 10

// askProxy asks for a connection, RFC 9110 9.3.6, and returns what the host has sent
// already.
func askProxy(conn net.Conn, user *url.Userinfo, target string) ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", target, target)
	if user != nil {
		password, _ := user.Password()
		fmt.Fprintf(&b, "Proxy-Authorization: Basic %s\r\n", base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	b.WriteString("\r\n")
	if _, err := io.WriteString(conn, b.String()); err != nil {
		return nil, err
	}
	return readProxyAnswer(conn)
}

// readProxyAnswer reads the answer to CONNECT, and returns what came behind it.
func readProxyAnswer(r io.Reader) ([]byte, error) {
	br := bufio.NewReader(io.LimitReader(r, maxProxyAnswer))
	resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return nil, errors.New("its answer is not one of HTTP")
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("it answers %s", termsafe.Line(termsafe.Clip(resp.Status, 100)))
	}
	first := make([]byte, br.Buffered())
	io.ReadFull(br, first)
	return first, nil
}

// begun is a connection of which something was read.
type begun struct {
	net.Conn
	first []byte
}

func (c *begun) Read(b []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

func (c *begun) CloseWrite() error { return closeWrite(c.Conn) }

// proxied is a connection through a proxy. Its other end is what it was made to: the
// proxy's address is of no interest.
type proxied struct {
	net.Conn
	to proxiedAddr
}

func (c *proxied) RemoteAddr() net.Addr { return c.to }
func (c *proxied) CloseWrite() error    { return closeWrite(c.Conn) }

type proxiedAddr string

func (proxiedAddr) Network() string  { return "tcp" }
func (a proxiedAddr) String() string { return string(a) }

func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
