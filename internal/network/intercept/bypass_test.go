package intercept

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/credential"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// What could be taken for a request to another host, or asks for a name, reaches nobody.
func TestTargets(t *testing.T) {
	const question = "AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB" // RFC 8484 4.1.1
	for name, test := range map[string]struct{ text, want string }{
		"a target that is another's address": {"GET x:http://evil.example/data HTTP/1.1\r\nHost: example.com", "421"},
		"a target that is no path":           {"GET x:" + placeholder + " HTTP/1.1\r\nHost: example.com", "421"},
		"a host in brackets":                 {"GET / HTTP/1.1\r\nHost: [example.com]:443", "421"},
		"a port that is none":                {"GET / HTTP/1.1\r\nHost: example.com:evil", "421"},
		"two ports":                          {"GET / HTTP/1.1\r\nHost: example.com:443:443", "421"},
		"a question on any path":             {"GET /abc?dns=" + question + " HTTP/1.1\r\nHost: example.com", "403"},
		"a word for dns":                     {"GET /abc?dns=some-provider-of-names HTTP/1.1\r\nHost: example.com", "200"},
		"an address of the host's":           {"GET https://example.com/a HTTP/1.1\r\nHost: example.com", "200"},
		"a port":                             {"GET / HTTP/1.1\r\nHost: Example.com.:443", "200"},
	} {
		l := newLab(t, tell, []plan.Rule{{Host: host}}, lend("elsewhere.example"))
		var dialed atomic.Int64
		dial := l.proxy.cfg.Dial
		l.proxy.cfg.Dial = func(ctx context.Context, name string, port uint16) (net.Conn, error) {
			dialed.Add(1)
			return dial(ctx, name, port)
		}
		_, status, _ := strings.Cut(l.raw(test.text+"\r\n\r\n"), " ")
		if !strings.HasPrefix(status, test.want) || (dialed.Load() > 0) != (test.want == "200") {
			t.Errorf("%s: %q, %d connections to the host; want %s", name, status, dialed.Load(), test.want)
		}
	}
}

// exchangeRaw sends a request with a secret on a connection of its own, and returns all that
// comes back.
func (l *lab) exchangeRaw(header string) string {
	l.t.Helper()
	conn, err := tls.Dial("tcp", l.front.Addr().String(), &tls.Config{ServerName: host, InsecureSkipVerify: true})
	if err != nil {
		l.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: example.com\r\nTE: trailers\r\nX-Api-Key: %s\r\n%s\r\n\r\n", placeholder, header)
	all, err := io.ReadAll(conn)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(all)
}

// Wherever in a response a server repeats the secret, the guest gets the placeholder.
func TestScrubEverywhere(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter, v string){
		"a header": func(w http.ResponseWriter, v string) { w.Header().Set("X-Echo", v) },
		"a header before the response": func(w http.ResponseWriter, v string) {
			w.Header().Set("Link", v)
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
		},
		"a body that claims to be encoded": func(w http.ResponseWriter, v string) {
			w.Header().Set("Content-Encoding", "identity")
			io.WriteString(w, v)
		},
		"a trailer": func(w http.ResponseWriter, v string) {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			w.Header().Set(http.TrailerPrefix+"X-Echo", v)
		},
	} {
		l := newLab(t, func(w http.ResponseWriter, r *http.Request) { answer(w, r.Header.Get("X-Api-Key")) }, []plan.Rule{{Host: host}}, lend(host))
		if got := l.exchangeRaw("Connection: close"); strings.Contains(got, value) || !strings.Contains(got, placeholder) {
			t.Errorf("%s: %q; want the placeholder and not the secret", name, got)
		}
	}
}

// A server may keep what it was sent and tell it when it is asked again, for a part of it, too,
// or without TLS.
func TestScrubLaterAnswers(t *testing.T) {
	var stored atomic.Value
	noted := lend(host)
	noted.Places = []credential.Place{credential.InQuery("note")}
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		if note := r.URL.Query().Get("note"); note != "" {
			stored.Store(note)
			return
		}
		http.ServeContent(w, r, "note.txt", time.Time{}, strings.NewReader(stored.Load().(string)))
	}, []plan.Rule{{Host: host}}, noted)
	for _, proto := range protocols {
		c := l.client(proto)
		do(t, c, "GET", "https://"+host+"/?note="+placeholder, nil)
		if stored.Load() != value {
			t.Fatalf("%s: stored is %q; want the secret", proto, stored.Load())
		}
		for _, part := range []string{"", "bytes=0-9", "bytes=10-"} {
			_, body, _ := do(t, c, "GET", "https://"+host+"/", func(r *http.Request) {
				if part != "" {
					r.Header.Set("Range", part)
				}
			})
			if body != placeholder {
				t.Errorf("%s, %q: the guest gets %q; want the placeholder", proto, part, body)
			}
		}
	}
}

// A request that was refused has used no secret, whatever it held.
func TestRefusedUsesNoSecret(t *testing.T) {
	other := secret.Secret{Name: "OTHER", Value: secret.NewValue("v"), Placeholder: "mayfly-0123456789abcdef0123456789abcdef", Hosts: []string{"b.example"}}
	l := newLab(t, tell, []plan.Rule{{Host: host}}, lend(host), other)
	do(t, l.client("HTTP/1.1"), "GET", "https://"+host+"/?q="+other.Placeholder, func(r *http.Request) { r.Header.Set("X-Api-Key", placeholder) })
	l.recorded("the refusal", func(e []audit.Event) bool { return len(e) == 1 && e[0].Status == 403 && e[0].Secrets == nil })
}

// Names in TLS have no case.
func TestServerNameCase(t *testing.T) {
	l := newLab(t, tell, []plan.Rule{{Host: host}})
	conn, err := tls.Dial("tcp", l.front.Addr().String(), &tls.Config{ServerName: "Example.COM", InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// After Close nothing goes on, and what was under way is recorded.
func TestClose(t *testing.T) {
	for _, proto := range protocols {
		l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "begin\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, []plan.Rule{{Host: host}})
		record := l.proxy.cfg.Record
		l.proxy.cfg.Record = func(e audit.Event) {
			time.Sleep(50 * time.Millisecond) // a slow disk; Close must not be quicker
			record(e)
		}
		resp, err := l.client(proto).Get("https://" + host + "/")
		if err != nil {
			t.Fatal(err)
		}
		l.proxy.Close()
		l.mu.Lock()
		if len(l.events) != 1 || l.events[0].Reason != "the machine ended" {
			t.Errorf("%s: recorded at the end of Close: %+v; want the request", proto, l.events)
		}
		l.mu.Unlock()
		resp.Body.Close()
	}
}

// A machine cannot make us serve any number of requests at once.
func TestTooManyRequests(t *testing.T) {
	l := newLab(t, tell, []plan.Rule{{Host: host}})
	var all []*exchange
	for range maxRequests {
		e := &exchange{conn: &clientConn{name: host, port: 443}, method: "GET", path: "/", cancel: func() {}}
		if reason := l.proxy.begin(e); reason != "" {
			t.Fatal(reason)
		}
		all = append(all, e)
	}
	c := l.client("HTTP/2.0")
	if resp, err := c.Get("https://" + host + "/"); err == nil {
		resp.Body.Close()
		t.Errorf("one more than %d: %s; want the end of the connection", maxRequests, resp.Status)
	}
	l.recorded("the reason", func(e []audit.Event) bool {
		return len(e) > 0 && e[0].Verdict == audit.Deny && strings.HasPrefix(e[0].Reason, "more than")
	})
	for _, e := range all {
		l.proxy.finish(e)
	}
	if status, body, _ := do(t, c, "GET", "https://"+host+"/", nil); status != 200 {
		t.Errorf("after their end: %d %q; want 200", status, body)
	}
}

// What a rule limits is not given another way: by a header, a trailer or a parameter.
func TestOverrides(t *testing.T) {
	limited := []plan.Rule{{Host: host, Methods: []string{"GET"}, Paths: []string{"/a/"}}}
	for _, test := range []struct {
		rules         []plan.Rule
		target, field string
		want          string
	}{
		{limited, "/a/b", "X-Http-Method-Override: DELETE", "403"},
		{limited, "/a/b", "x_original_url: /evil", "403"},
		{limited, "/a/b?x=1&_method=DELETE", "Accept: */*", "403"},
		{limited, "/a/b", "Transfer-Encoding: chunked\r\nTrailer: X-Rewrite-Url", "403"},
		{limited, "/a/b%3fc", "Accept: */*", "403"},
		{limited, "/a/b", "Accept: */*", "200"},
		{[]plan.Rule{{Host: host}}, "/a/b?_method=DELETE", "X-Http-Method-Override: DELETE", "200"},
		{append(limited, plan.Rule{Host: host}), "/a/b", "X-Http-Method-Override: DELETE", "200"},
	} {
		l := newLab(t, tell, test.rules)
		_, status, _ := strings.Cut(l.raw("GET "+test.target+" HTTP/1.1\r\nHost: example.com\r\n"+test.field+"\r\n\r\n0\r\n\r\n"), " ")
		if !strings.HasPrefix(status, test.want) {
			t.Errorf("%s with %q: %q; want %s", test.target, test.field, status, test.want)
		}
	}
}

// TLS that begins with something else is none.
func TestNoHello(t *testing.T) {
	l := newLab(t, tell, []plan.Rule{{Host: host}})
	for _, first := range []byte{20, 21, 23, 24, 0x80, 0xff} {
		conn, err := net.Dial("tcp", l.front.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(time.Minute))
		conn.Write([]byte{first, 3, 1, 0, 2, 1, 0})
		if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("a connection that begins with %d: %d bytes, %v; want its end", first, n, err)
		}
		conn.Close()
	}
	l.recorded("each", func(e []audit.Event) bool {
		return len(e) == 6 && e[0].Reason == errNoHello.Error() && e[5].Verdict == audit.Deny
	})
}
