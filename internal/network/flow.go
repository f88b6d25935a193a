package network

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/dial"
	"github.com/mayfly-vm/mayfly/internal/network/dns"
	"github.com/mayfly-vm/mayfly/internal/network/intercept"
	"github.com/mayfly-vm/mayfly/internal/network/policy"
	"github.com/mayfly-vm/mayfly/internal/network/vnet"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// flow is a connection that the guest has made, or is making.
type flow struct {
	network *Network
	cancel  context.CancelFunc
	begun   time.Time

	name string // "" for an address that is no name's
	dst  netip.AddrPort
	rule string

	once bool // it passes by a rule for those that waited

	// moved is when it carried something last, in ns since 1970, and blocked since when
	// it waits for the host to take something; 0 if it does not.
	moved, blocked atomic.Int64

	// Guarded by Network.mu.
	decided     bool // whether it may pass, by the policy in force; else it may wait for an answer
	intercepted bool
	guest       net.Conn       // nil until it is accepted
	host        netip.AddrPort // what it was passed on to, once it is
	said        string         // the name in TLS, if it is not for its name alone
	reason      string         // why it was ended by us
}

// decide returns what the policy says of the flow.
func (f *flow) decide(p *policy.Set) policy.Verdict {
	if f.name != "" {
		return p.Connect(f.name, f.dst.Port())
	}
	if dns.Range.Contains(f.dst.Addr()) {
		return policy.Verdict{Reason: "an address that belongs to no name"}
	}
	return p.Addr(f.dst.Addr(), f.dst.Port())
}

// web reports whether the flow is one of requests that a proxy of the host's makes: many
// connect to the port of TLS only.
func (f *flow) web() bool {
	const port = 80
	return f.dst.Port() == port && f.network.webProxyOf(f.target(), port) != nil
}

// target returns the name that the flow is to, or the address.
func (f *flow) target() string { return cmp.Or(f.name, f.dst.Addr().String()) }

// endLocked ends the flow at once, for a reason of ours.
func (f *flow) endLocked(reason string) {
	if f.reason != "" {
		return
	}
	f.reason = reason
	f.cancel()
	if f.guest != nil {
		vnet.Abort(f.guest)
	}
}

// cutReason begins the reason of a flow that the policy has ended.
const cutReason = "cut: "

// recheck ends the flows, and the requests in them, that the policy no longer lets
// pass.
func (n *Network) recheck() {
	p := n.policy.Load()
	n.mu.Lock()
	for f := range n.flows {
		if !f.decided {
			continue // it will be, by p
		}
		switch v := f.decide(p); {
		case !v.Allow:
			f.endLocked(cutReason + v.Reason)
		case v.Intercept && !f.intercepted:
			f.endLocked(cutReason + "its requests are to be seen now")
		case !v.Bound && f.said != "":
			if v := p.Says(f.target(), f.said, f.dst.Port()); !v.Allow {
				f.endLocked(cutReason + v.Reason)
			}
		}
	}
	n.mu.Unlock()
	if n.proxy != nil {
		n.proxy.Recheck()
	}
	n.closePrivate()
}

// tcp answers the first packet of a connection.
func (n *Network) tcp(ctx context.Context, a *vnet.Attempt) {
	if isQuestion(a.Dst) {
		n.answerQuestions(ctx, a)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := &flow{network: n, cancel: cancel, begun: time.Now(), dst: a.Dst}
	f.moved.Store(f.begun.UnixNano())
	f.name, _ = n.names.Pool.Name(a.Dst.Addr())
	defer func() {
		if f.once {
			n.endOnce(f.about()) // when it is out of the table, or it would be cut
		}
	}()
	// In the table first, and then the policy is asked: no change of it can
	// fall in between.
	n.mu.Lock()
	n.flows[f] = struct{}{}
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		delete(n.flows, f)
		n.mu.Unlock()
	}()
	v := f.decide(n.policy.Load())
	why := ""
	if isOpen(v) {
		why = f.hold(ctx)
	}
	n.mu.Lock()
	v = f.decide(n.policy.Load())
	f.decided, f.intercepted = true, v.Allow && v.Intercept
	n.mu.Unlock()
	f.rule = v.Rule
	switch {
	case why != "":
		v.Allow, v.Reason = false, why
	case isOpen(v) && !f.once:
		v.Allow, v.Reason = false, "the answer was taken back" // by a change just now
	}
	if !v.Allow {
		a.Reject()
		n.record(f, audit.Deny, v.Reason, nil)
		return
	}
	switch {
	case v.Intercept:
		f.intercept(ctx, a)
	case f.web():
		f.request(ctx, a, v)
	default:
		f.pass(ctx, a, v)
	}
}

// record writes the line of a flow. t is nil for one that carried nothing.
func (n *Network) record(f *flow, verdict audit.Verdict, reason string, t *traffic) {
	e := audit.Event{
		Kind: audit.Flow, Verdict: verdict, Proto: "tcp", Name: f.name, Addr: f.dst.Addr().String(), Port: int(f.dst.Port()),
		Millis: time.Since(f.begun).Milliseconds(), Rule: f.rule, Reason: reason,
	}
	if f.name != "" {
		e.Addr = "" // only the machine's own
	}
	if t != nil {
		e.Up, e.Down = t.up, t.down
		if t.addr != "" {
			e.Addr = t.addr
		}
	}
	n.audit.Record(e)
}

// accept takes the connection, unless the flow was ended meanwhile.
func (f *flow) accept(a *vnet.Attempt) (net.Conn, error) {
	conn, err := a.Accept()
	if err != nil {
		return nil, err
	}
	n := f.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if f.reason != "" {
		vnet.Abort(conn)
		return nil, errors.New(f.reason)
	}
	f.guest = conn
	// A guest that is gone is seen also while a host does not read.
	vnet.OnReset(conn, f.cancel)
	return conn, nil
}

// Who has no traffic for so long makes room for others, where there is no more.
const (
	idleTime    = time.Minute
	blockedTime = 2 * time.Second // and waits for its host: a program that has ended may be why
)

// makeRoom ends the flow that has had no traffic for longest, and reports whether there
// will be room soon: also where one may be ended in a moment.
func (n *Network) makeRoom() bool {
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	var oldest *flow
	blocked := false
	for f := range n.flows {
		if f.guest == nil || f.reason != "" {
			continue
		}
		since := f.blocked.Load()
		blocked = blocked || since != 0
		if now.Sub(time.Unix(0, f.moved.Load())) < idleTime && (since == 0 || now.Sub(time.Unix(0, since)) < blockedTime) {
			continue
		}
		if oldest == nil || f.moved.Load() < oldest.moved.Load() {
			oldest = f
		}
	}
	if oldest == nil {
		return blocked
	}
	oldest.endLocked("it had no traffic, and made room for another")
	return true
}

// done records the flow at its end.
func (f *flow) done(t *traffic, err error) {
	n := f.network
	n.mu.Lock()
	reason := f.reason
	n.mu.Unlock()
	verdict := audit.Allow
	switch {
	case reason != "":
		if strings.HasPrefix(reason, cutReason) {
			verdict = audit.Cut
		}
	case err != nil:
		reason = err.Error()
		if _, ok := errors.AsType[*dial.AddressError](err); ok {
			verdict = audit.Deny
		} else if _, ok := errors.AsType[*nameError](err); ok {
			verdict = audit.Deny
		}
	}
	n.record(f, verdict, reason, t)
}

// intercept hands the connection to the proxy.
func (f *flow) intercept(ctx context.Context, a *vnet.Attempt) {
	conn, err := f.accept(a)
	if err != nil {
		f.done(nil, err)
		return
	}
	t := &traffic{}
	f.network.proxy.Serve(ctx, &counted{Conn: conn, t: t, f: f}, f.target(), f.dst.Port())
	conn.Close()
	f.done(t.sum(), nil)
}

// request hands the connection to the proxy that sends its requests to the host's own. What
// may not be connected to is refused as without one.
func (f *flow) request(ctx context.Context, a *vnet.Attempt, v policy.Verdict) {
	f.network.learnDenied(ctx)
	if err := f.network.dialer.CheckProxied(ctx, f.target(), f.dst.Port(), v.Private); err != nil {
		f.done(nil, err) // before the guest may end, and the machine with it
		a.Reject()
		return
	}
	f.intercept(ctx, a)
}

// pass connects to the host, accepts the connection only then, and copies.
func (f *flow) pass(ctx context.Context, a *vnet.Attempt, v policy.Verdict) {
	host, err := f.dial(ctx, v)
	if err != nil {
		a.Reject()
		f.done(nil, err)
		return
	}
	defer host.Close()
	if to, err := netip.ParseAddrPort(host.RemoteAddr().String()); err == nil {
		f.reached(to)
	}
	guest, err := f.accept(a)
	if err != nil {
		f.done(nil, err)
		return
	}
	stop := context.AfterFunc(ctx, func() { host.Close() })
	defer stop()
	t := &traffic{addr: remoteAddr(host)}
	var from io.Reader = guest
	switch {
	case v.Bound && f.name != "":
		from = &nameCheck{conn: guest, check: func(h intercept.Hello) error { return checkName(h, f.name) }}
	case !v.Bound && f.name != plan.HostName && f.network.policy.Load().Notes(f.dst.Port()):
		from = &nameCheck{conn: guest, check: f.says}
	}
	f.done(t, t.splice(guest, from, &noted{host, f}, vnet.CopySize(guest)))
}

// noted notes when a host takes and gives something.
type noted struct {
	net.Conn
	f *flow
}

func (c *noted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.f.moved.Store(time.Now().UnixNano())
	return n, err
}

func (c *noted) Write(b []byte) (int, error) {
	c.f.blocked.Store(time.Now().UnixNano())
	n, err := c.Conn.Write(b)
	c.f.moved.Store(time.Now().UnixNano())
	c.f.blocked.Store(0)
	return n, err
}

func (c *noted) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// says checks a connection without a rule, by the policy that is in force then.
func (f *flow) says(h intercept.Hello) error {
	// Known first, and then the policy is asked: no change of it can fall in between.
	f.network.mu.Lock()
	f.said = h.Name
	f.network.mu.Unlock()
	v := f.network.policy.Load().Says(f.target(), h.Name, f.dst.Port())
	if !v.Allow {
		return &nameError{v.Reason}
	}
	return nil
}

func (f *flow) dial(ctx context.Context, v policy.Verdict) (net.Conn, error) {
	d := f.network.dialer
	f.network.learnDenied(ctx)
	switch f.name {
	case plan.HostName:
		return d.DialLoopback(ctx, f.dst.Port())
	}
	var conn net.Conn
	var err error
	if f.name == "" {
		conn, err = d.DialAddr(ctx, f.dst, v.Private)
	} else {
		conn, err = d.Dial(ctx, f.name, f.dst.Port(), v.Private)
	}
	if err == nil && v.Private {
		conn = f.network.keepPrivate(conn, f.decide)
	}
	return conn, err
}

func remoteAddr(conn net.Conn) string {
	if a, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		return a.Addr().String()
	}
	return ""
}

// answerQuestions serves questions for names that come by TCP.
func (n *Network) answerQuestions(ctx context.Context, a *vnet.Attempt) {
	conn, err := a.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	conn.SetDeadline(time.Now().Add(questionTime))
	n.names.Serve(ctx, conn)
}

// questionTime bounds a connection for questions.
const questionTime = time.Minute

// traffic is what a connection has carried.
type traffic struct {
	addr     string // of the host
	mu       sync.Mutex
	up, down int64 // bytes
}

// sum returns a copy that does not change any more.
func (t *traffic) sum() *traffic {
	t.mu.Lock()
	defer t.mu.Unlock()
	return &traffic{addr: t.addr, up: t.up, down: t.down}
}

// copyBuffer holds a packet of the machine's network.
const copyBuffer = 64 << 10

// buffers are for copies.
var buffers = sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }}

// splice copies in both directions until both have ended, or one has failed.
// from is what is read of guest. size is that of the two buffers.
func (t *traffic) splice(guest net.Conn, from io.Reader, host net.Conn, size int) error {
	up := make(chan error, 1)
	go func() {
		n, err := copyHalf(host, from, size)
		t.up = n
		if err != nil {
			// Nobody will get the rest.
			host.Close()
			vnet.Abort(guest)
		}
		up <- err
	}()
	n, err := copyHalf(guest, host, size)
	t.down = n
	if err != nil {
		host.Close()
		vnet.Abort(guest)
	}
	upErr := <-up
	guest.Close()
	if name, ok := errors.AsType[*nameError](upErr); ok {
		return name
	}
	return nil
}

// copyHalf copies one direction, through a buffer of size, and passes its end on.
func copyHalf(dst net.Conn, src io.Reader, size int) (int64, error) {
	var buf []byte
	if size < copyBuffer {
		buf = make([]byte, size)
	} else {
		pooled := buffers.Get().(*[]byte)
		defer buffers.Put(pooled)
		buf = *pooled
	}
	// Neither end has a better way than our buffer, though both seem to.
	n, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, buf)
	if half, ok := dst.(interface{ CloseWrite() error }); ok && err == nil {
		err = half.CloseWrite()
		if errors.Is(err, net.ErrClosed) || isNotConnected(err) {
			err = nil // it has ended both directions already
		}
	}
	return n, err
}

// counted counts what a connection carries.
type counted struct {
	net.Conn
	t *traffic
	f *flow
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.t.mu.Lock()
	c.t.up += int64(n)
	c.t.mu.Unlock()
	c.f.moved.Store(time.Now().UnixNano())
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.t.mu.Lock()
	c.t.down += int64(n)
	c.t.mu.Unlock()
	c.f.moved.Store(time.Now().UnixNano())
	return n, err
}

func (c *counted) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
