// Package intercept ends the TLS of a machine's connections, to see and to change the
// requests in them.
//
// A connection flows in that the guest believes to be one to a host with a certain name.
// Each HTTP request on it is compared with the policy, gets the secrets that it may have,
// and flows out over a connection to that host, made by a function of the caller's: no
// socket is opened here. Responses flow back as they come. What is not for the name of the
// connection, or not allowed, is answered in one line.
//
// The guest trusts an authority that exists for one machine, and whose key is nowhere but
// in this process's memory.
package intercept

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayfly-vm/mayfly/internal/budget"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/policy"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
)

// ErrDenied is wrapped by the errors of Config.Dial that are the policy's.
var ErrDenied = errors.New("denied")

// Config is what a Proxy is made of.
type Config struct {
	// Policy returns the policy in force. Each request asks.
	Policy func() *policy.Set
	// Secrets are those of the machine; nil for none.
	Secrets *secret.Table
	// Dial makes a TCP connection to a port of the host with this name, and has
	// checked its address.
	Dial func(ctx context.Context, name string, port uint16) (net.Conn, error)
	// WebProxy returns the proxy that makes requests without TLS to a host, of which it
	// has checked whether they may be made; nil for none. DialProxy connects to it.
	// Without them there is none.
	WebProxy  func(ctx context.Context, name string, port uint16) (*url.URL, error)
	DialProxy func(ctx context.Context, proxy *url.URL) (net.Conn, error)
	// Denied returns why no request may go to the host with this name at an address, ""
	// if one may; nil for no reason. Dial has asked as well, but a connection may take long.
	Denied func(name string, to netip.AddrPort) string
	// Roots are who is believed of hosts; nil for those of this computer.
	Roots *x509.CertPool
	// Record takes the line of a request. It fills in number, time and machine.
	Record func(audit.Event)
	// HeaderTimeout bounds a handshake of TLS, and the headers of a request; 0 for
	// the usual 20 seconds.
	HeaderTimeout time.Duration
	// StallTimeout bounds the time in which nothing of an answer is read; 0 for the
	// usual two minutes.
	StallTimeout time.Duration
	// Budget is what the machine may make us hold; nil for one of the proxy's own.
	Budget *budget.Budget
}

// Bounds of what a guest can make us hold.
const (
	firstTimeout   = time.Minute // Java takes half of it to begin its first handshake where the CPU is emulated
	headerTimeout  = 20 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 256 << 10
	maxStreams     = 100  // requests at once on a connection of HTTP/2
	maxRequests    = 1024 // at once on all connections
	maxIdle        = 32   // connections to hosts that wait for a request
	maxRespHeaders = 64 << 10
	copyBuffer     = 32 << 10
	hostBuffer     = 16 << 10 // each of two, of a connection to a host
)

// Proxy intercepts the connections of one machine. Its methods may be called from several
// goroutines.
type Proxy struct {
	cfg       Config
	authority *authority
	server    *http.Server
	transport atomic.Pointer[transport] // another one after each change of the policy
	proxy     *httputil.ReverseProxy
	conns     chan net.Conn // for server
	closed    chan struct{}
	once      sync.Once
	serving   sync.WaitGroup
	handling  sync.WaitGroup // of requests; added to under mu, unless ended

	mu       sync.Mutex
	requests map[*exchange]struct{} // under way
	ended    bool

	scrubbers map[string]*scrubber // by the names of their secrets
}

// New returns a proxy with an authority of its own.
func New(cfg Config) (*Proxy, error) {
	if cfg.HeaderTimeout == 0 {
		cfg.HeaderTimeout = headerTimeout
	}
	if cfg.StallTimeout == 0 {
		cfg.StallTimeout = stallTimeout
	}
	if cfg.Budget == nil {
		cfg.Budget = budget.New(budget.Default)
	}
	a, err := newAuthority()
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		cfg: cfg, authority: a,
		conns: make(chan net.Conn), closed: make(chan struct{}),
		requests: make(map[*exchange]struct{}), scrubbers: make(map[string]*scrubber),
	}
	silent := log.New(io.Discard, "", 0) // all there is to say is in the record
	p.transport.Store(p.newTransport())
	p.proxy = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      roundTripper{p},
		ModifyResponse: modifyResponse,
		ErrorHandler:   p.failed,
		ErrorLog:       silent,
		BufferPool:     newBuffers(),
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	p.server = &http.Server{
		Handler:           http.HandlerFunc(p.serveHTTP),
		Protocols:         protocols,
		HTTP2:             serverHTTP2(),
		ReadHeaderTimeout: cfg.HeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return withConn(ctx, c) },
		ConnState:         p.connState,
		ErrorLog:          silent,
		// An answer by itself to "OPTIONS *" would be one of ours.
		DisableGeneralOptionsHandler: true,
	}
	p.serving.Go(func() { p.server.Serve((*listener)(p)) })
	return p, nil
}

// Authority returns the certificate that the guest is to trust, in PEM.
func (p *Proxy) Authority() []byte { return p.authority.text() }

// Serve takes over conn, which the guest made to port of the host name, and returns at
// its end or that of ctx.
func (p *Proxy) Serve(ctx context.Context, conn net.Conn, name string, port uint16) {
	c := &clientConn{
		Conn: conn, proxy: p, name: name, port: port, done: make(chan struct{}),
		held: held{budget: p.cfg.Budget}, head: held{budget: p.cfg.Budget},
	}
	defer c.Close()
	if !c.held.take(connCost, 0) {
		c.deny(overBudget)
		return
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	conn.SetReadDeadline(time.Now().Add(firstTimeout))
	if err := c.peek(); err != nil {
		return
	}
	conn.SetReadDeadline(time.Time{})
	var toServer net.Conn = c
	if c.isTLS {
		toServer = tls.Server(c, &tls.Config{
			NextProtos:         []string{"h2", "http/1.1"},
			GetCertificate:     c.certificate,
			GetConfigForClient: c.protocols,
		})
	}
	select {
	case p.conns <- toServer:
		select {
		case <-c.done:
		case <-p.closed:
		}
	case <-p.closed:
	case <-c.done:
	}
}

// Close ends all connections, and waits for those who serve them and until the requests
// that were under way are recorded.
func (p *Proxy) Close() {
	// First, for that to be the reason and not the error that comes of it.
	p.mu.Lock()
	p.ended = true
	for e := range p.requests {
		e.end(audit.Allow, "the machine ended")
		e.abort()
	}
	p.mu.Unlock()
	p.once.Do(func() { close(p.closed) })
	p.server.Close()
	p.serving.Wait()
	p.handling.Wait()
	p.transport.Load().closeIdle()
}

// Recheck ends the requests under way that the policy no longer lets pass.
func (p *Proxy) Recheck() {
	set := p.cfg.Policy()
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := range p.requests {
		if v := set.Request(e.conn.name, e.conn.port, e.method, e.path); !v.Allow {
			e.cut(v.Reason)
		}
	}
	// The addresses of others were checked by the policy of before: no request that
	// comes now goes over a connection that was made then, though one is in use.
	p.transport.Swap(p.newTransport()).closeIdle()
}

// Cut ends the requests under way for which why gives a reason: to the host with this name,
// at this address.
func (p *Proxy) Cut(why func(name string, to netip.AddrPort) string) {
	p.mu.Lock()
	under := slices.Collect(maps.Keys(p.requests))
	p.mu.Unlock()
	for _, e := range under {
		text := e.addr.Load()
		if text == nil {
			continue
		}
		addr, err := netip.ParseAddr(*text)
		if err != nil {
			continue
		}
		if reason := why(e.conn.name, netip.AddrPortFrom(addr, e.conn.port)); reason != "" {
			p.mu.Lock()
			if _, ok := p.requests[e]; ok {
				e.cut(reason)
			}
			p.mu.Unlock()
		}
	}
}

// begin takes e into the table of requests. The reason is why not, "" for none.
func (p *Proxy) begin(e *exchange) (reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.ended:
		return "the machine has ended"
	case len(p.requests) >= maxRequests:
		return fmt.Sprintf("more than %d requests at once", maxRequests)
	}
	e.held.budget = p.cfg.Budget
	if !e.held.take(requestCost, 0) {
		return overBudget
	}
	p.handling.Add(1)
	p.requests[e] = struct{}{}
	return ""
}

// finish takes e out again, when it is recorded.
func (p *Proxy) finish(e *exchange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.requests, e)
	e.held.give(true)
	p.handling.Done()
}

// left ends the requests of a connection that is gone: one that waits for its host to
// read does not see it.
func (p *Proxy) left(c *clientConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := range p.requests {
		if e.conn == c {
			e.cancel()
		}
	}
}

func (p *Proxy) dial(ctx context.Context, _, address string) (net.Conn, error) {
	if via := proxyOf(ctx); via != nil {
		return p.cfg.DialProxy(ctx, via)
	}
	name, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, err
	}
	return p.cfg.Dial(ctx, name, uint16(port))
}

// listener gives the server its connections.
type listener Proxy

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return &net.TCPAddr{} }

// buffers are for bodies that are copied.
type buffers struct{ pool sync.Pool }

func newBuffers() *buffers {
	return &buffers{sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }}}
}

func (b *buffers) Get() []byte  { return *b.pool.Get().(*[]byte) }
func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
