package intercept

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/credential"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/policy"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// host is the name of the certificate of package httptest.
const host = "example.com"

const (
	value       = "sk-live-R3alS3cretValue0123456789"
	placeholder = "sk-live-Pl4ceH0lderText9876543210"
)

// lab is a proxy between a guest's clients and a server that says what it got.
type lab struct {
	t      *testing.T
	proxy  *Proxy
	server *httptest.Server
	front  net.Listener
	set    atomic.Pointer[policy.Set]
	name   atomic.Pointer[string] // that connections are made to
	port   atomic.Uint32

	mu     sync.Mutex
	events []audit.Event
}

// newLab serves with handler behind a proxy. Connections are TLS to example.com:443
// unless changed.
func newLab(t *testing.T, handler http.HandlerFunc, rules []plan.Rule, secrets ...secret.Secret) *lab {
	t.Helper()
	return newTimedLab(t, 2*time.Second, 0, handler, rules, secrets...)
}

// newTimedLab is newLab with other bounds of time.
func newTimedLab(t *testing.T, header, stall time.Duration, handler http.HandlerFunc, rules []plan.Rule, secrets ...secret.Secret) *lab {
	t.Helper()
	l := &lab{t: t}
	l.port.Store(443)
	name := host
	l.name.Store(&name)
	n := plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressAllowlist, Allow: rules}
	l.set.Store(policy.New(n))
	l.server = httptest.NewUnstartedServer(handler)
	l.server.EnableHTTP2 = true
	l.server.StartTLS()
	t.Cleanup(l.server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(l.server.Certificate())
	var err error
	l.proxy, err = New(Config{
		Policy:  l.set.Load,
		Secrets: secret.NewTable(secrets),
		Roots:   roots,
		Dial: func(ctx context.Context, name string, port uint16) (net.Conn, error) {
			if name == "refused.example" {
				return nil, fmt.Errorf("%w: it is not public", ErrDenied)
			}
			var d net.Dialer
			return d.DialContext(ctx, "tcp", l.server.Listener.Addr().String())
		},
		Record: func(e audit.Event) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.events = append(l.events, e)
		},
		HeaderTimeout: header,
		StallTimeout:  stall,
	})
	if err != nil {
		t.Fatal(err)
	}
	l.front, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.front.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { l.proxy.Serve(t.Context(), conn, *l.name.Load(), uint16(l.port.Load())) })
		}
	})
	t.Cleanup(func() {
		l.front.Close()
		l.proxy.Close()
		serving.Wait()
	})
	return l
}

// client returns a client of the guest's that speaks proto.
func (l *lab) client(proto string) *http.Client {
	l.t.Helper()
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(l.proxy.Authority()) {
		l.t.Fatal("the authority is none")
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(proto == "HTTP/1.1")
	protocols.SetHTTP2(proto == "HTTP/2.0")
	tr := &http.Transport{
		Protocols: protocols, TLSClientConfig: &tls.Config{RootCAs: trusted}, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", l.front.Addr().String())
		},
	}
	l.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 3 * time.Minute} // an upload of 100 MiB, too
}

// recorded waits until ok of the events so far, and returns them.
func (l *lab) recorded(what string, ok func([]audit.Event) bool) []audit.Event {
	l.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		l.mu.Lock()
		events := slices.Clone(l.events)
		l.mu.Unlock()
		if ok(events) {
			return events
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("%s is not recorded: %+v", what, events)
		}
	}
}

// do makes a request and returns status and body.
func do(t *testing.T, c *http.Client, method, url string, change func(*http.Request)) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(req)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return resp.StatusCode, string(body), resp.Header
}

// seen is a request as it came to the server.
type seen struct {
	Method, Host, URI string
	Header            http.Header
}

// tell answers with what was received.
func tell(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Echo", r.Header.Get("Authorization"))
	json.NewEncoder(w).Encode(seen{r.Method, r.Host, r.RequestURI, r.Header})
}

var protocols = []string{"HTTP/1.1", "HTTP/2.0"}

func TestRequests(t *testing.T) {
	var arrived []seen
	var mu sync.Mutex
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		arrived = append(arrived, seen{r.Method, r.Host, r.RequestURI, r.Header.Clone()})
		mu.Unlock()
		tell(w, r)
	}, []plan.Rule{{Host: host, Methods: []string{"GET", "POST"}, Paths: []string{"/a/"}}, {Host: "other.example"}})
	for _, proto := range protocols {
		c := l.client(proto)
		for _, test := range []struct {
			name, method, path string
			change             func(*http.Request)
			status             int
			body               string // of a refusal
		}{
			{"allowed", "GET", "/a/b?c=d%20e&f", nil, 200, ""},
			{"method", "DELETE", "/a/b", nil, 403, "mayfly: the method DELETE is not allowed here\n"},
			{"path", "GET", "/b", nil, 403, "mayfly: this path is not allowed\n"},
			{"path that is two", "GET", "/a/%2e%2e/b", nil, 403, "mayfly: a path that servers may understand in more than one way\n"},
			{"another host on this connection", "GET", "/a/b", func(r *http.Request) { r.Host = "evil.example" }, 421,
				"mayfly: this connection is to example.com, and the request for evil.example\n"},
			{"another allowed host", "GET", "/a/b", func(r *http.Request) { r.Host = "other.example" }, 421,
				"mayfly: this connection is to example.com, and the request for other.example\n"},
			{"the host written otherwise", "GET", "/a/b", func(r *http.Request) { r.Host = "EXAMPLE.com.:443" }, 200, ""},
			{"DNS", "POST", "/a/dns-query", func(r *http.Request) { r.Header.Set("Content-Type", "application/dns-message") }, 403,
				"mayfly: DNS over HTTPS is not allowed: the resolver of this machine answers\n"},
			{"DNS by GET", "GET", "/a/dns-query?dns=AAAB", nil, 403,
				"mayfly: DNS over HTTPS is not allowed: the resolver of this machine answers\n"},
		} {
			mu.Lock()
			arrived = nil
			mu.Unlock()
			status, body, _ := do(t, c, test.method, "https://"+host+test.path, test.change)
			if status != test.status || test.body != "" && body != test.body {
				t.Errorf("%s, %s: %d %q; want %d %q", proto, test.name, status, body, test.status, test.body)
			}
			mu.Lock()
			if got := len(arrived); (got == 1) != (test.status == 200) {
				t.Errorf("%s, %s: %d requests arrived", proto, test.name, got)
			} else if got == 1 {
				if uri := arrived[0].URI; uri != test.path {
					t.Errorf("%s, %s: %s arrived; want %s", proto, test.name, uri, test.path)
				}
				for name := range arrived[0].Header {
					if strings.HasPrefix(name, "X-Forwarded") || name == "Via" || name == "Forwarded" {
						t.Errorf("%s, %s: the header %s was added", proto, test.name, name)
					}
				}
			}
			mu.Unlock()
		}
	}
	events := l.recorded("each request", func(e []audit.Event) bool { return len(e) >= 18 })
	for _, e := range events {
		if e.Kind != audit.Request || e.Name != host || e.Port != 443 || e.Status == 0 || (e.Verdict == audit.Deny) != (e.Status >= 400) {
			t.Errorf("a line %+v", e)
		}
	}
}

func lend(hosts ...string) secret.Secret {
	return secret.Secret{
		Name: "TOKEN", Value: secret.NewValue(value), Placeholder: placeholder, Hosts: hosts,
		Places: []credential.Place{
			credential.Bearer, credential.InHeader("x-api-key"), credential.InQuery("key"), {Kind: credential.Basic, Name: "me"},
		},
	}
}

func TestSecrets(t *testing.T) {
	l := newLab(t, tell, []plan.Rule{{Host: host}, {Host: "*.example.com"}}, lend(host))
	// A certificate of httptest's is also for any name below example.com.
	for _, proto := range protocols {
		for _, test := range []struct {
			name   string
			host   string
			change func(*http.Request)
			status int
			want   func(got seen) string // what is wrong, "" for nothing
		}{
			{"bearer", host, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+placeholder) }, 200,
				func(got seen) string { return differs(got.Header.Get("Authorization"), "Bearer "+value) }},
			{"own header", host, func(r *http.Request) { r.Header.Set("X-Api-Key", placeholder) }, 200,
				func(got seen) string { return differs(got.Header.Get("X-Api-Key"), value) }},
			{"basic", host, func(r *http.Request) { r.SetBasicAuth("me", placeholder) }, 200,
				func(got seen) string {
					r := http.Request{Header: got.Header}
					user, password, _ := r.BasicAuth()
					return differs(user+":"+password, "me:"+value)
				}},
			{"query", host, func(r *http.Request) { r.URL.RawQuery = "x=%20y&key=" + placeholder + "&z" }, 200,
				func(got seen) string { return differs(got.URI, "/?x=%20y&key="+value+"&z") }},
			{"somebody else's", host, func(r *http.Request) {
				r.Header.Set("Authorization", "Bearer attackers")
				r.Header.Set("Cookie", "session=attackers")
				r.SetBasicAuth("me", "attackers")
				r.URL.RawQuery = "q=1"
			}, 200, func(got seen) string {
				return differs(got.Header.Get("Authorization")+got.Header.Get("Cookie")+got.URI, "/?q=1")
			}},
			{"a part of the answer", host, func(r *http.Request) {
				r.Header.Set("X-Api-Key", placeholder)
				r.Header.Set("Range", "bytes=0-10")
			}, 200, func(got seen) string { return differs(got.Header.Get("Range"), "") }},
			{"somebody else's in the query", host, func(r *http.Request) { r.URL.RawQuery = "key=attackers&q=1" }, 403, nil},
			{"a header that is no credential", host, func(r *http.Request) { r.Header.Set("Anthropic-Version", "1") }, 200,
				func(got seen) string { return differs(got.Header.Get("Anthropic-Version"), "1") }},
			{"a header of which nothing is known", host, func(r *http.Request) { r.Header.Set("X-Other", "1") }, 200,
				func(got seen) string { return differs(got.Header.Get("X-Other"), "") }},
			{"path", host, func(r *http.Request) { r.URL.Path = "/bot" + placeholder }, 403, nil},
			{"another host", "www.example.com", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+placeholder) }, 403, nil},
			{"another host, basic", "www.example.com", func(r *http.Request) { r.SetBasicAuth("me", placeholder) }, 403, nil},
			{"another host, query", "www.example.com", func(r *http.Request) { r.URL.RawQuery = "q=a" + url.QueryEscape(placeholder) }, 403, nil},
			{"foreign at another host", "www.example.com", func(r *http.Request) { r.Header.Set("Authorization", "Bearer own") }, 200,
				func(got seen) string { return differs(got.Header.Get("Authorization"), "Bearer own") }},
		} {
			l.name.Store(&test.host)
			var raw string
			var arrived seen
			l.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				arrived = seen{r.Method, r.Host, r.RequestURI, r.Header.Clone()}
				tell(w, r)
			})
			c := l.client(proto)
			status, body, header := do(t, c, "GET", "https://"+test.host+"/", test.change)
			raw = body + fmt.Sprint(header)
			c.CloseIdleConnections()
			if status != test.status {
				t.Errorf("%s, %s: %d %s; want %d", proto, test.name, status, body, test.status)
				continue
			}
			if strings.Contains(raw, value) {
				t.Errorf("%s, %s: the guest learns the secret: %s", proto, test.name, raw)
			}
			if test.want != nil {
				if wrong := test.want(arrived); wrong != "" {
					t.Errorf("%s, %s: arrived: %s", proto, test.name, wrong)
				}
			}
		}
	}
	events := l.recorded("each request", func(e []audit.Event) bool { return len(e) >= 28 })
	text, err := json.Marshal(events)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte(value)) {
		t.Error("the secret is recorded")
	}
	if !bytes.Contains(text, []byte(`"secrets":["TOKEN"]`)) || !bytes.Contains(text, []byte("stripped Authorization")) {
		t.Errorf("neither that the secret was used nor what was stripped is recorded: %s", text)
	}
}

func differs(got, want string) string {
	if got == want {
		return ""
	}
	return fmt.Sprintf("%q; want %q", got, want)
}

// A secret does not go out on a connection that all can read.
func TestSecretUnencrypted(t *testing.T) {
	l := newLab(t, tell, []plan.Rule{{Host: host}}, lend(host))
	l.port.Store(80)
	status, body, _ := do(t, l.client("HTTP/1.1"), "GET", "http://"+host+"/", func(r *http.Request) { r.Header.Set("X-Api-Key", placeholder) })
	if want := "mayfly: the secret TOKEN does not go out unencrypted\n"; status != 403 || body != want {
		t.Errorf("%d %q; want 403 %q", status, body, want)
	}
}

// The name in TLS must be that of the connection, and nobody is dialed before.
func TestServerName(t *testing.T) {
	l := newLab(t, tell, []plan.Rule{{Host: host}})
	for _, name := range []string{"evil.example", ""} {
		cfg := &tls.Config{ServerName: name, InsecureSkipVerify: true}
		if name == "" {
			cfg.ServerName = "192.0.2.1" // which is not sent
		}
		if conn, err := tls.Dial("tcp", l.front.Addr().String(), cfg); err == nil {
			conn.Close()
			t.Errorf("the name %q in TLS is taken", name)
		}
	}
	l.recorded("both names", func(e []audit.Event) bool {
		return len(e) == 2 && e[0].Reason == "the name in TLS is evil.example" && e[1].Reason == "TLS without a host's name" && e[0].Verdict == audit.Deny
	})
}

// raw sends text on a TLS connection and returns the answer's first line.
func (l *lab) raw(text string) string {
	l.t.Helper()
	conn, err := tls.Dial("tcp", l.front.Addr().String(), &tls.Config{ServerName: host, InsecureSkipVerify: true})
	if err != nil {
		l.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(conn, text)
	line, _ := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(line)
}

func TestRawRequests(t *testing.T) {
	l := newLab(t, tell, []plan.Rule{{Host: host}})
	for name, test := range map[string]struct{ text, want string }{
		"CONNECT":           {"CONNECT evil.example:443 HTTP/1.1\r\nHost: example.com\r\n\r\n", "403"},
		"CONNECT to itself": {"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", "403"},
		"another's address": {"GET https://evil.example/ HTTP/1.1\r\nHost: example.com\r\n\r\n", "421"},
		"no host":           {"GET / HTTP/1.0\r\n\r\n", "421"},
		"two hosts":         {"GET / HTTP/1.1\r\nHost: example.com\r\nHost: evil.example\r\n\r\n", "400"},
		"h2c":               {"GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", "403"},
		"options of all":    {"OPTIONS * HTTP/1.1\r\nHost: example.com\r\n\r\n", ""},
	} {
		_, status, _ := strings.Cut(l.raw(test.text), " ")
		if !strings.HasPrefix(status, test.want) {
			t.Errorf("%s: %q; want %s", name, status, test.want)
		}
	}
}

// Headers that do not end, or take too long, end the connection.
func TestHeaders(t *testing.T) {
	l := newLab(t, tell, []plan.Rule{{Host: host}})
	if got := l.raw("GET / HTTP/1.1\r\nHost: example.com\r\nX: " + strings.Repeat("a", 2*maxHeaderBytes) + "\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 431") && got != "" {
		t.Errorf("headers of half a MiB: %q; want 431", got)
	}
	begun := time.Now()
	if got := l.raw("GET / HTTP/1.1\r\nHost: example.com\r\nX: "); got != "" {
		t.Errorf("headers without an end: %q; want none", got)
	}
	if took := time.Since(begun); took > 50*time.Second {
		t.Errorf("headers without an end end after %v; want 2 s", took)
	}
	l.recorded("both", func(e []audit.Event) bool {
		n := 0
		for _, e := range e {
			if e.Verdict == audit.Deny && strings.Contains(e.Reason, "headers") {
				n++
			}
		}
		return n == 2
	})
}

// What the host behind it does not let pass is said in the answer.
func TestDialRefused(t *testing.T) {
	l := newLab(t, tell, []plan.Rule{{Host: "refused.example"}})
	name := "refused.example"
	l.name.Store(&name)
	status, body, _ := do(t, l.client("HTTP/2.0"), "GET", "https://refused.example/", nil)
	if status != http.StatusBadGateway || !strings.Contains(body, "it is not public") {
		t.Errorf("%d %q; want 502 and why", status, body)
	}
	l.recorded("the refusal", func(e []audit.Event) bool { return len(e) == 1 && e[0].Verdict == audit.Deny })
}

// Events come as they are sent, one by one, also with a secret in the request.
func TestEventStream(t *testing.T) {
	next := make(chan struct{})
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			<-next
		}
	}, []plan.Rule{{Host: host}}, lend(host))
	for _, proto := range protocols {
		req, err := http.NewRequest("GET", "https://"+host+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Api-Key", placeholder)
		resp, err := l.client(proto).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(resp.Body)
		for i := range 3 {
			line, err := r.ReadString('\n')
			if want := fmt.Sprintf("data: %d\n", i); line != want || err != nil {
				t.Fatalf("%s: %q, %v; want %q before the next is sent", proto, line, err, want)
			}
			r.ReadString('\n')
			next <- struct{}{}
		}
		resp.Body.Close()
	}
}

// A connection that was upgraded goes both ways.
func TestWebSocket(t *testing.T) {
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := upgrade(w)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.Copy(conn, rw)
	}, []plan.Rule{{Host: host}})
	conn, r := l.upgraded()
	for _, text := range []string{"one\n", "two\n"} {
		io.WriteString(conn, text)
		if got, err := r.ReadString('\n'); got != text || err != nil {
			t.Errorf("%q, %v; want %q back", got, err, text)
		}
	}
	// It is one request, which a change of the policy ends.
	l.proxy.Recheck()
	io.WriteString(conn, "three\n")
	if got, err := r.ReadString('\n'); got != "three\n" || err != nil {
		t.Errorf("after a change that leaves its rule: %q, %v", got, err)
	}
	l.set.Store(policy.New(plan.Network{Egress: plan.EgressAllowlist}))
	l.proxy.Recheck()
	if got, err := r.ReadString('\n'); err == nil || os.IsTimeout(err) {
		t.Errorf("after a change that takes its rule: %q, %v; want its end", got, err)
	}
	l.recorded("the socket", func(e []audit.Event) bool { return len(e) == 1 && e[0].Status == 101 && e[0].Verdict == audit.Cut })
}

// The end of a connection that was upgraded is recorded though the server has ended its half
// before and the guest leaves its own open.
func TestWebSocketHalfClosed(t *testing.T) {
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := upgrade(w)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		conn.(*tls.Conn).CloseWrite()
		io.Copy(io.Discard, rw)
	}, []plan.Rule{{Host: host}})
	_, r := l.upgraded()
	if got, err := r.ReadString('\n'); err != io.EOF {
		t.Fatalf("%q, %v; want the end of the server's half", got, err)
	}
	l.set.Store(policy.New(plan.Network{Egress: plan.EgressAllowlist}))
	l.proxy.Recheck()
	l.recorded("the socket", func(e []audit.Event) bool { return len(e) == 1 && e[0].Status == 101 && e[0].Verdict == audit.Cut })
}

// upgrade answers a request for a WebSocket and returns the connection.
func upgrade(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	return conn, rw, err
}

// upgraded returns a guest's end of a WebSocket.
func (l *lab) upgraded() (net.Conn, *bufio.Reader) {
	l.t.Helper()
	conn, err := tls.Dial("tcp", l.front.Addr().String(), &tls.Config{ServerName: host, InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		l.t.Fatalf("%v, %v; want 101", resp, err)
	}
	return conn, r
}

// A request ends that is under way to an address which is denied now, whatever its name.
func TestCut(t *testing.T) {
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begin\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}, []plan.Rule{{Host: host}})
	resp, err := l.client("HTTP/2.0").Get("https://" + host + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r := bufio.NewReader(resp.Body)
	if line, err := r.ReadString('\n'); line != "begin\n" || err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	var asked []string
	l.proxy.Cut(func(name string, to netip.AddrPort) string {
		asked = append(asked, fmt.Sprint(name, " ", to.Addr()))
		return "the address is denied"
	})
	if !slices.Equal(asked, []string{host + " 127.0.0.1"}) {
		t.Errorf("asked for %q", asked)
	}
	if _, err := r.ReadString('\n'); err == nil {
		t.Error("the response went on")
	}
	l.recorded("the cut", func(e []audit.Event) bool {
		return len(e) == 1 && e[0].Verdict == audit.Cut && e[0].Reason == "the address is denied"
	})
}

// A request ends whose host answers when its address is denied already.
func TestDeniedMeanwhile(t *testing.T) {
	var heard atomic.Int64
	l := newLab(t, func(_ http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		heard.Add(n)
	}, []plan.Rule{{Host: host}})
	l.proxy.cfg.Denied = func(name string, to netip.AddrPort) string {
		if name != host || to.String() != "127.0.0.1:443" {
			t.Errorf("asked for %s at %v", name, to)
		}
		return "the address is denied"
	}
	resp, err := l.client("HTTP/1.1").Post("https://"+host+"/", "text/plain", io.LimitReader(zeros{}, 1<<20))
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("the request passed: %s", resp.Status)
		}
	}
	if n := heard.Load(); n == 1<<20 {
		t.Error("the host has got all of the request")
	}
	l.recorded("the cut", func(e []audit.Event) bool {
		return len(e) == 1 && e[0].Verdict == audit.Cut && e[0].Reason == "the address is denied"
	})
}

// zeros is without an end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// Bodies of any size pass in constant memory.
func TestUpload(t *testing.T) {
	const size = 100 << 20
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	}, []plan.Rule{{Host: host}})
	for _, proto := range protocols {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var most uint64
		body := io.LimitReader(readerFunc(func(b []byte) (int, error) {
			runtime.ReadMemStats(&after)
			if after.HeapInuse > most {
				most = after.HeapInuse
			}
			return len(b), nil
		}), size)
		resp, err := l.client(proto).Post("https://"+host+"/", "", body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := fmt.Sprint(size, "<nil>"); strings.ReplaceAll(string(got), " ", "") != strings.ReplaceAll(want, " ", "") || err != nil {
			t.Errorf("%s: %s, %v arrived; want %s", proto, got, err, want)
		}
		if grown := int64(most) - int64(before.HeapInuse); grown > 40<<20 {
			t.Errorf("%s: the heap grew by %d MiB", proto, grown>>20)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// A request that is no longer allowed ends.
func TestRecheck(t *testing.T) {
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begin\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}, []plan.Rule{{Host: host}})
	for _, proto := range protocols {
		resp, err := l.client(proto).Get("https://" + host + "/")
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(resp.Body)
		if line, err := r.ReadString('\n'); line != "begin\n" || err != nil {
			t.Fatalf("%s: %q, %v", proto, line, err)
		}
		old := l.set.Load()
		l.set.Store(policy.New(plan.Network{Egress: plan.EgressAllowlist}))
		l.proxy.Recheck()
		if _, err := r.ReadString('\n'); err == nil || errors.Is(err, io.EOF) && proto == "HTTP/2.0" {
			t.Errorf("%s: the response went on, or ended well: %v", proto, err)
		}
		resp.Body.Close()
		l.set.Store(old)
	}
	l.recorded("both cuts", func(e []audit.Event) bool {
		return len(e) == 2 && e[0].Verdict == audit.Cut && e[1].Verdict == audit.Cut
	})
}

// The programs that people use believe the authority, and no certificate for an address.
func TestClients(t *testing.T) {
	l := newLab(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello\n") }, []plan.Rule{{Host: host}})
	file := filepath.Join(t.TempDir(), "authority.pem")
	if err := os.WriteFile(file, l.proxy.Authority(), 0o644); err != nil {
		t.Fatal(err)
	}
	port := l.front.Addr().(*net.TCPAddr).Port
	for program, args := range map[string][]string{
		"curl": {"-sS", "--cacert", file, "--connect-to", fmt.Sprintf("%s:443:127.0.0.1:%d", host, port), "https://" + host + "/"},
		"python3": {"-c", fmt.Sprintf(`import socket, ssl
c = ssl.create_default_context(cafile=%q).wrap_socket(socket.create_connection(("127.0.0.1", %d)), server_hostname=%q)
c.sendall(b"GET / HTTP/1.0\r\nHost: %s\r\n\r\n")
print(c.makefile().read().splitlines()[-1])`, file, port, host, host)},
		"node": {"-e", fmt.Sprintf(`require("https").get({host: "127.0.0.1", port: %d, servername: %q, headers: {host: %q}, ca: require("fs").readFileSync(%q)}, r => r.pipe(process.stdout))`, port, host, host, file)},
	} {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Logf("not tried: %v", err)
			continue
		}
		out, err := exec.Command(path, args...).CombinedOutput()
		if err != nil || string(out) != "hello\n" {
			t.Errorf("%s: %v, %s; want hello", program, err, out)
		}
	}
	if openssl, err := exec.LookPath("openssl"); err == nil {
		out, err := exec.Command(openssl, "x509", "-noout", "-hash", "-in", file).Output()
		if got := strings.TrimSpace(string(out)); got != SubjectHash || err != nil {
			t.Errorf("openssl x509 -hash = %s, %v; want SubjectHash, %s", got, err, SubjectHash)
		}
	}
	if _, err := l.proxy.authority.cert.Verify(x509.VerifyOptions{Roots: l.server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}); err == nil {
		t.Error("another authority's word is taken for this one")
	}
}
