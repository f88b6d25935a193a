package network

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/dial"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// webProxy is a proxy as most are: it makes requests without TLS itself, and connects to
// the port of TLS only. It answers with what it was asked for.
type webProxy struct {
	mu    sync.Mutex
	asked []string
}

func (p *webProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.RequestURI)
	p.mu.Unlock()
	_, port, _ := net.SplitHostPort(r.Host)
	switch {
	case r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("user:pass word")):
		w.Header().Set("Proxy-Authenticate", "Basic")
		w.WriteHeader(http.StatusProxyAuthRequired)
	case r.Method == http.MethodConnect && port != "443":
		http.Error(w, "only the port of TLS", http.StatusForbidden)
	case r.Method == http.MethodConnect:
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n\r\nat %s\n", r.RequestURI)
		io.Copy(conn, rw)
	case r.URL.Path == "/missing": // a page that shows what was sent, as Squid's have
		was := "Proxy-Authorization: " + r.Header.Get("Proxy-Authorization")
		w.Header().Set("X-Request", was)
		http.Error(w, was+"\n"+url.QueryEscape(was), http.StatusServiceUnavailable)
	case !r.URL.IsAbs():
		http.Error(w, "no address", http.StatusBadRequest)
	default:
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s for %s: %s", r.Method, r.RequestURI, r.Host, body)
	}
}

// taken returns what was asked for since the last call.
func (p *webProxy) taken() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.asked
	p.asked = nil
	return asked
}

// proxiedNetwork returns a network behind a proxy, with a kernel of a machine and the path
// of its record.
func proxiedNetwork(t *testing.T, p plan.Network, proxy string) (*Network, *kernel, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit")
	log, err := audit.Open(path, "m")
	if err != nil {
		t.Fatal(err)
	}
	proxies, err := dial.NewProxies(proxy, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	n, err := New(Config{Plan: p, Proxies: proxies, Audit: log, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Close()
		log.Close()
	})
	return n, newKernel(t, n), path
}

// dialKernel connects from a machine, with a deadline for all that follows.
func dialKernel(t *testing.T, k *kernel, to netip.AddrPort) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := k.dial(ctx, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return conn
}

// ask sends a request as it is, and returns the status and the body of its answer.
func ask(t *testing.T, conn net.Conn, request string) (int, string) {
	t.Helper()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// Requests without TLS leave through a proxy as requests, and what the policy says of them
// holds as without one.
func TestWebProxy(t *testing.T) {
	var p webProxy
	server := httptest.NewServer(&p)
	defer server.Close()
	secure := httptest.NewTLSServer(&p)
	defer secure.Close()
	own := plan.Authority{Subject: "test", Certificate: secure.Certificate().Raw}
	address := func(s *httptest.Server) string { return strings.Replace(s.URL, "://", "://user:pass%20word@", 1) }
	for what, proxy := range map[string]string{"http": address(server), "https": address(secure)} {
		n, k, path := proxiedNetwork(t, plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressPublic, Authorities: []plan.Authority{own}}, proxy)
		const addr = "93.184.216.34"
		web := netip.MustParseAddrPort(addr + ":80")
		conn := dialKernel(t, k, web)
		// The port in Host would be the proxy's to connect to.
		for _, host := range []string{addr, addr + ":80", addr + ":25"} {
			request := "POST /a?b=c HTTP/1.1\r\nHost: " + host + "\r\nProxy-Authorization: Basic guess\r\nContent-Length: 2\r\n\r\nhi"
			if status, body := ask(t, conn, request); status != 200 || body != "POST http://"+addr+"/a?b=c for "+addr+": hi" {
				t.Errorf("%s: the request for %s: %d %q", what, host, status, body)
			}
		}
		if status, body := ask(t, conn, "GET http://other.example/ HTTP/1.1\r\nHost: "+addr+"\r\n\r\n"); status != 421 {
			t.Errorf("%s: a request for another host: %d %q", what, status, body)
		}
		password := base64.StdEncoding.EncodeToString([]byte("user:pass word"))
		status, body := ask(t, conn, "GET /missing HTTP/1.1\r\nHost: "+addr+"\r\n\r\n")
		if status != 503 || !strings.Contains(body, "Proxy-Authorization: Basic **") || strings.Contains(body, password[:12]) {
			t.Errorf("%s: a page of the proxy's own: %d %q", what, status, body)
		}
		p.taken()
		// A proxy may answer TRACE itself, with its password.
		ask(t, dialKernel(t, k, web), "TRACE / HTTP/1.1\r\nHost: "+addr+"\r\nMax-Forwards: 0\r\n\r\n")
		if asked := p.taken(); len(asked) != 1 || asked[0] != "CONNECT "+addr+":80" {
			t.Errorf("%s: TRACE: %q", what, asked)
		}
		// TLS, and all other ports, by a connection.
		tls := dialKernel(t, k, netip.MustParseAddrPort(addr+":443"))
		if line, err := bufio.NewReader(tls).ReadString('\n'); line != "at "+addr+":443\n" || err != nil {
			t.Errorf("%s: port 443: %q, %v", what, line, err)
		}
		if asked := p.taken(); len(asked) != 1 || asked[0] != "CONNECT "+addr+":443" {
			t.Errorf("%s: port 443: %q", what, asked)
		}
		// No proxy is asked for what is not public, nor for names that only a local
		// network can have.
		refused := map[string]bool{"10.1.2.3": false, "169.254.169.254": false, "168.63.129.16": false, "wiki.corp": false}
		for host := range refused {
			to, err := netip.ParseAddr(host)
			if err != nil {
				to = n.names.Pool.Addr(host)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			conn, err := k.dial(ctx, netip.AddrPortFrom(to, 80))
			cancel()
			if err == nil {
				conn.Close()
				t.Errorf("%s: %s: connected; want a refusal", what, host)
			}
		}
		// A connection that is there already is judged again.
		n.Deny(plan.Rule{Host: addr, Port: 80})
		conn.SetDeadline(time.Now().Add(time.Minute))
		if rest, err := io.ReadAll(conn); len(rest) > 0 || os.IsTimeout(err) {
			t.Errorf("%s: a connection to a host that is denied now: %q, %v; want its end", what, rest, err)
		}
		if asked := p.taken(); len(asked) != 0 {
			t.Errorf("%s: the proxy was asked for %q", what, asked)
		}
		n.Close()
		n.audit.Close()
		requests := 0
		if err := audit.Read(path, func(e audit.Event) error {
			if e.Addr == "127.0.0.1" {
				t.Errorf("%s: the record has the proxy's address: %v", what, e)
			}
			if e.Kind == audit.Request && e.Verdict == audit.Allow && e.Method != http.MethodTrace && e.Path != "/missing" {
				requests++
			}
			for _, host := range []string{e.Addr, e.Name} {
				if _, ok := refused[host]; ok && e.Verdict == audit.Deny {
					refused[host] = true
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for host, recorded := range refused {
			if !recorded {
				t.Errorf("%s: the refusal of %s is not recorded", what, host)
			}
		}
		if requests != 3 {
			t.Errorf("%s: %d requests are recorded; want 3", what, requests)
		}
	}
	// A password that is wrong is the host's business.
	_, k, _ := proxiedNetwork(t, plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressPublic}, server.URL)
	conn := dialKernel(t, k, netip.MustParseAddrPort("93.184.216.34:80"))
	if status, body := ask(t, conn, "GET / HTTP/1.1\r\nHost: 93.184.216.34\r\n\r\n"); status != 502 || !strings.Contains(body, "it answers 407") {
		t.Errorf("a proxy that wants a password: %d %q", status, body)
	}
}

// A connection by an address is for the host that it names in TLS: it ends when that is denied,
// also where nothing was denied when it was made.
func TestDenyEndsTunnels(t *testing.T) {
	var p webProxy
	server := httptest.NewServer(&p)
	defer server.Close()
	n, k, path := proxiedNetwork(t, plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressPublic}, strings.Replace(server.URL, "://", "://user:pass%20word@", 1))
	web := netip.MustParseAddrPort("93.184.216.34:443")
	open := func(name string) (net.Conn, *bufio.Reader) {
		conn := dialKernel(t, k, web)
		r := bufio.NewReader(conn)
		if line, err := r.ReadString('\n'); err != nil {
			t.Fatalf("%q, %v", line, err)
		}
		first := hello(t, name)
		conn.Write(first)
		if _, err := io.ReadFull(r, make([]byte, len(first))); err != nil {
			t.Fatalf("TLS for %s: %v", name, err)
		}
		return conn, r
	}
	_, denied := open("denied.example")
	conn, other := open("other.example")
	n.Deny(plan.Rule{Host: "denied.example"})
	if b, err := denied.ReadByte(); err == nil || os.IsTimeout(err) {
		t.Errorf("a connection for a host that is denied now: %d, %v; want its end", b, err)
	}
	conn.Write([]byte{23, 3, 3, 0, 1, 7})
	if b, err := other.ReadByte(); b != 23 || err != nil {
		t.Errorf("a connection for another host: %d, %v; want it to go on", b, err)
	}
	n.SetEgress(plan.EgressAllowlist)
	other.Discard(5)
	if b, err := other.ReadByte(); err == nil || os.IsTimeout(err) {
		t.Errorf("a connection that no rule allows now: %d, %v; want its end", b, err)
	}
	n.Close()
	n.audit.Close()
	cuts := 0
	if err := audit.Read(path, func(e audit.Event) error {
		if e.Verdict == audit.Cut && e.Kind == audit.Flow {
			cuts++
		}
		return nil
	}); err != nil || cuts != 2 {
		t.Errorf("%d connections are recorded as cut, %v; want 2", cuts, err)
	}
}
