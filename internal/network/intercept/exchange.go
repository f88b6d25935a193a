package intercept

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/policy"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// exchange is one request and its response.
type exchange struct {
	conn         *clientConn
	method, path string
	cancel       context.CancelFunc
	begun        time.Time
	response     *response
	used         []*secret.Secret // that were put into the request

	held  held
	large bool // the host may send largeWindow ahead

	up   atomic.Int64 // bytes of the request's body
	addr atomic.Pointer[string]

	mu      sync.Mutex
	notes   []string // for the record
	reason  string   // why it was refused, or failed
	verdict audit.Verdict
}

// cut ends the exchange, which the policy no longer lets pass.
func (e *exchange) cut(reason string) {
	e.end(audit.Cut, reason)
	e.abort()
}

// abort ends the exchange also where it waits for the guest to read.
func (e *exchange) abort() {
	e.cancel()
	if e.response != nil {
		e.response.abort()
	}
}

// end keeps the first reason.
func (e *exchange) end(v audit.Verdict, reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.reason == "" {
		e.verdict, e.reason = v, reason
	}
}

// note adds to what the record says of a request that passes.
func (e *exchange) note(text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !slices.Contains(e.notes, text) {
		e.notes = append(e.notes, text)
	}
}

type exchangeKey struct{}

func exchangeOf(r *http.Request) *exchange { return r.Context().Value(exchangeKey{}).(*exchange) }

// serveHTTP is the server's handler.
func (p *Proxy) serveHTTP(rw http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(connKey{}).(*clientConn)
	c.known()
	defer c.head.give(false)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	e := &exchange{
		conn: c, method: r.Method, path: r.URL.EscapedPath(), cancel: cancel, begun: time.Now(), verdict: audit.Allow,
	}
	w := &response{ResponseWriter: rw}
	w.stall = stall{after: p.cfg.StallTimeout, fired: func() {
		e.end(audit.Allow, "the machine did not read the answer")
		e.abort()
	}}
	e.response = w
	if reason := p.begin(e); reason != "" {
		p.close(e, r, reason)
	}
	defer p.finish(e)
	defer w.over()
	// Known first, and then the policy is asked: no change of it can fall in between.
	v := p.cfg.Policy().Request(c.name, c.port, e.method, e.path)
	defer func() { p.record(e, r, v.Rule) }()
	status, reason := check(c, r)
	switch {
	case reason != "":
	case !v.Allow:
		status, reason = http.StatusForbidden, v.Reason
	case v.Limited:
		if what := policy.Override(r.Header, r.Trailer, r.URL.RawQuery); what != "" {
			status, reason = http.StatusForbidden, fmt.Sprintf("%s may give the request another method or path, and these are limited here", what)
		}
	}
	if reason == "" {
		status = http.StatusForbidden
		r = r.WithContext(context.WithValue(traced(ctx, e), exchangeKey{}, e))
		r, reason = p.addSecrets(e, r)
	}
	if reason != "" {
		e.used = nil // they did not go out
		e.end(audit.Deny, reason)
		refuse(w, c.name, status, reason)
		w.flush(r)
		return
	}
	if !e.held.take(forwardCost, 0) {
		e.used = nil
		e.end(audit.Deny, overBudget)
		c.Close()
		panic(http.ErrAbortHandler)
	}
	e.large = e.held.take(largeWindow, spareWindow)
	// Not only of a request that carries one: a server may tell later what it was sent
	// before.
	if own := p.cfg.Secrets.For(c.name); len(own) > 0 {
		w.scrubber = p.scrubberFor(own)
	}
	if r.Body != nil {
		r.Body = &countedBody{r.Body, &e.up}
	}
	p.proxy.ServeHTTP(w, r)
	w.flush(r)
}

// overBudget is why a guest is refused that makes us hold too much.
const overBudget = "the machine's connections and requests take too much memory"

// close ends the connection of a request that is one too many. An answer would have to be
// kept until the guest reads it.
func (p *Proxy) close(e *exchange, r *http.Request, reason string) {
	e.end(audit.Deny, reason)
	p.record(e, r, "")
	e.conn.Close()
	panic(http.ErrAbortHandler)
}

// refuse answers in one line that people and agents understand, and for the API of a
// provider in the form that its clients show.
func refuse(w http.ResponseWriter, host string, status int, reason string) {
	kind, text := "text/plain; charset=utf-8", "mayfly: "+printable(reason)
	body := codingagent.Refusal(host, status, text)
	if body == nil {
		body = []byte(text + "\n")
	} else {
		kind = "application/json"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(body)
}

// check refuses what is for another host than the connection, or a way around what is
// decided of names. The reason is "" for what may pass.
func check(c *clientConn, r *http.Request) (status int, reason string) {
	host, ok := hostName(r.Host)
	switch {
	case r.Method == http.MethodConnect:
		return http.StatusForbidden, "CONNECT is not allowed: connect to the host itself"
	case !ok:
		return http.StatusMisdirectedRequest, "servers may understand the host of the request in more than one way"
	case host != c.name:
		return http.StatusMisdirectedRequest, fmt.Sprintf("this connection is to %s, and the request for %s", c.name, host)
	case r.URL.Opaque != "":
		// "x:http://other.example/" would go on without its "x:", and such a
		// target counts more than Host: RFC 9112 3.2.2.
		return http.StatusMisdirectedRequest, "the target of the request is neither a path nor an address of HTTP"
	case len(r.Header["Upgrade"]) > 0 && !isWebSocket(r.Header):
		return http.StatusForbidden, "of upgrades only websocket is allowed"
	case isDNS(r):
		return http.StatusForbidden, "DNS over HTTPS is not allowed: the resolver of this machine answers"
	}
	return 0, ""
}

// hostName returns the name in a Host header, RFC 9110 7.2, unless somebody could take it
// for another.
func hostName(host string) (name string, ok bool) {
	name, port, _ := strings.Cut(host, ":")
	if strings.Trim(port, "0123456789") != "" || strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 }) {
		return "", false
	}
	return strings.TrimSuffix(strings.ToLower(name), "."), true
}

func isWebSocket(h http.Header) bool {
	return len(h["Upgrade"]) == 1 && strings.EqualFold(h.Get("Upgrade"), "websocket")
}

// isDNS reports whether a request is one of RFC 8484, or of the kind that some resolvers
// answer with JSON.
func isDNS(r *http.Request) bool {
	for _, name := range []string{"Content-Type", "Accept"} {
		for _, v := range r.Header[name] {
			if v = strings.ToLower(v); strings.Contains(v, "application/dns-") || strings.Contains(v, "application/oblivious-dns-") {
				return true
			}
		}
	}
	query := r.URL.Query()
	return query.Has("dns") && strings.HasSuffix(r.URL.Path, "/dns-query") || slices.ContainsFunc(query["dns"], isQuestion)
}

// isQuestion reports whether text is a question for a name as RFC 8484 writes it: a header
// of 12 bytes, RFC 1035 4.1.1, that is no answer's and counts one question.
func isQuestion(text string) bool {
	m, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	return err == nil && len(m) > 12 && m[2]&0x80 == 0 && m[4] == 0 && m[5] == 1
}

// traced returns a context in which the address that a request goes to is noted.
func traced(ctx context.Context, e *exchange) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if a, err := netip.ParseAddrPort(info.Conn.RemoteAddr().String()); err == nil {
			text := a.Addr().String()
			e.addr.Store(&text)
			// Known first, and then asked: no Cut can fall in between.
			if denied := e.conn.proxy.cfg.Denied; denied != nil {
				if reason := denied(e.conn.name, netip.AddrPortFrom(a.Addr(), e.conn.port)); reason != "" {
					e.cut(reason)
				}
			}
		}
	}})
}

// rewrite is httputil.ReverseProxy.Rewrite: the request goes on as it is.
func rewrite(pr *httputil.ProxyRequest) {
	c := exchangeOf(pr.In).conn
	pr.Out.URL.Scheme = "http"
	if c.isTLS {
		pr.Out.URL.Scheme = "https"
	}
	pr.Out.URL.Host = c.name
	if c.isTLS && c.port != 443 || !c.isTLS && c.port != 80 {
		pr.Out.URL.Host = fmt.Sprintf("%s:%d", c.name, c.port)
	}
	pr.Out.Host = pr.In.Host
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery
}

// failed is httputil.ReverseProxy.ErrorHandler.
func (p *Proxy) failed(w http.ResponseWriter, r *http.Request, err error) {
	e := exchangeOf(r)
	verdict := audit.Allow
	if errors.Is(err, ErrDenied) {
		verdict = audit.Deny
	}
	reason := err.Error()
	if s := e.response.scrubber; s != nil {
		reason = s.text(reason)
	}
	e.end(verdict, reason)
	refuse(w, e.conn.name, http.StatusBadGateway, reason)
}

// record writes the line of an exchange.
func (p *Proxy) record(e *exchange, r *http.Request, rule string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	proto := "http/1.1"
	if r.ProtoMajor == 2 {
		proto = "h2"
	}
	event := audit.Event{
		Kind: audit.Request, Verdict: e.verdict, Proto: proto, Name: e.conn.name, Port: int(e.conn.port),
		Method: printable(e.method), Path: printable(e.path), Status: e.response.status, Up: e.up.Load(), Down: e.response.down.Load(),
		Millis: time.Since(e.begun).Milliseconds(), Rule: rule, Reason: printable(e.reason),
	}
	if e.reason == "" {
		event.Reason = strings.Join(e.notes, ", ")
	}
	if addr := e.addr.Load(); addr != nil {
		event.Addr = *addr
	}
	for _, s := range e.used {
		event.Secrets = append(event.Secrets, s.Name)
	}
	slices.Sort(event.Secrets)
	event.Secrets = slices.Compact(event.Secrets)
	p.cfg.Record(event)
}

// maxPrinted bounds what of the guest's text is said or recorded, in bytes.
const maxPrinted = 200

func printable(s string) string { return termsafe.Line(termsafe.Clip(s, maxPrinted)) }

// countedBody counts what is read of a request's body.
type countedBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}
