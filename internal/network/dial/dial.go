// Package dial opens the sockets that mayfly has on the host's network for a
// machine: no other package may, and a test of the sources sees to it.
//
// Whatever was decided by name, the address at which a connection ends is checked
// here, on the socket itself and immediately before it connects. A name that means
// one thing when it is looked up and another when it is dialed gains nothing.
package dial

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/mayfly-vm/mayfly/internal/ipaddr"
)

// Bounds of a connection attempt.
const (
	lookupTimeout = 10 * time.Second
	dialTimeout   = 20 * time.Second
)

// maxAddrs bounds the addresses of a name. An answer by TCP has room for thousands.
const maxAddrs = 16

// AddressError is the error for an address at which no connection may end.
type AddressError struct {
	Name string // that has the address, if it has a name
	Addr netip.Addr
	Why  string
}

func (e *AddressError) Error() string {
	if !e.Addr.IsValid() {
		return fmt.Sprintf("%s is %s", e.Name, e.Why)
	}
	if e.Name == "" {
		return fmt.Sprintf("%v is %s", e.Addr, e.Why)
	}
	return fmt.Sprintf("%s has the address %v, which is %s", e.Name, e.Addr, e.Why)
}

// ErrNotFound is wrapped by the error for a name that does not exist.
var ErrNotFound = errors.New("no such name")

// Dialer connects to hosts. Its methods may be called from several goroutines.
type Dialer struct {
	// Forbid, if it is not nil, returns why no connection for name ("" for none) may
	// end at an address, "" if one may.
	Forbid func(name string, to netip.AddrPort) string
	// Roots are who is believed of proxies; nil for those of this computer.
	Roots *x509.CertPool

	resolver net.Resolver
	names    cache

	interfaces func() ([]net.Addr, error) // net.InterfaceAddrs
	routes     func() ([]route, error)    // hostRoutes

	proxyFor func(*url.URL) (*url.URL, error) // nil for none

	mu        sync.Mutex
	own       map[netip.Addr]struct{} // this host's addresses
	attached  []netip.Prefix          // the networks that it is in
	localTime time.Time               // of both
}

// New returns a dialer that uses the host's resolver.
func New() *Dialer {
	d := &Dialer{resolver: net.Resolver{PreferGo: true, Dial: newKnown(resolverFile).dial}, interfaces: net.InterfaceAddrs, routes: hostRoutes}
	d.names.max = 512
	return d
}

// Lookup returns the addresses of name as the host knows them. Without a rule for
// private addresses, private, that is the name in the internet's tree.
func (d *Dialer) Lookup(ctx context.Context, name string, private bool) ([]netip.Addr, error) {
	full := name
	if !private {
		// The dot keeps the host's search domains, and so the names of its
		// own network, out of it.
		full += "."
	}
	if addrs, ok := d.names.get(full); ok {
		if len(addrs) == 0 {
			return nil, fmt.Errorf("look up %s: %w", name, ErrNotFound)
		}
		return addrs, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := d.resolver.LookupNetIP(ctx, "ip", full)
	if err != nil {
		if dnsErr, ok := errors.AsType[*net.DNSError](err); ok && dnsErr.IsNotFound {
			return nil, fmt.Errorf("look up %s: %w", name, ErrNotFound)
		}
		return nil, fmt.Errorf("look up %s: %w", name, err)
	}
	addrs = slices.Clone(addrs[:min(len(addrs), maxAddrs)])
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	d.names.put(full, addrs)
	return addrs, nil
}

// Check returns an error unless a connection may end at one of addrs. private is
// that of policy.Verdict.
func (d *Dialer) Check(name string, addrs []netip.Addr, private bool) error {
	var err error
	for _, addr := range addrs {
		if err = d.check(name, addr, private); err == nil {
			return nil
		}
	}
	return err
}

func (d *Dialer) check(name string, addr netip.Addr, private bool) error {
	addr = addr.Unmap()
	bad := func(why string) error { return &AddressError{name, addr, why} }
	own, attached, err := d.local(addr)
	switch {
	case err != nil:
		return err
	case own || addr.IsLoopback() || addr.IsUnspecified():
		return bad("this computer's own")
	case addr.IsLinkLocalUnicast():
		return bad("link-local")
	case ipaddr.Metadata(addr):
		// Also with a rule: nobody means to give it away.
		return bad("a cloud's metadata service")
	case addr.IsMulticast(), addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return bad("no single host's")
	case !private && !ipaddr.Public(addr):
		return bad("not public")
	}
	for _, in := range ipaddr.Embedded(addr) {
		if err, ok := errors.AsType[*AddressError](d.check(name, in, true)); ok {
			return bad("another form of " + in.String() + ", which is " + err.Why)
		}
	}
	switch {
	case !private && attached:
		// A local network may have addresses that are public, and with IPv6
		// it usually does.
		return bad("in a network that this computer is in")
	}
	return nil
}

// Dial connects to a port of the host with this name.
func (d *Dialer) Dial(ctx context.Context, name string, port uint16, private bool) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	switch proxy, err := d.proxyOf(name, port); {
	case err != nil:
		return nil, err
	case proxy != nil:
		return d.dialProxied(ctx, proxy, name, port, private)
	}
	addrs, err := d.Lookup(ctx, name, private)
	if err != nil {
		return nil, err
	}
	var refused, failed error
	for i, addr := range addrs {
		// One that does not answer leaves time for the others.
		deadline, _ := ctx.Deadline()
		each, cancel := context.WithTimeout(ctx, max(2*time.Second, time.Until(deadline)/time.Duration(len(addrs)-i)))
		conn, err := d.connect(each, name, netip.AddrPortFrom(addr, port), private)
		cancel()
		if err == nil {
			return conn, nil
		}
		if _, ok := errors.AsType[*AddressError](err); ok {
			refused = err
		} else {
			failed = err
		}
	}
	if failed != nil {
		return nil, failed
	}
	return nil, refused
}

// DialAddr connects to an address.
func (d *Dialer) DialAddr(ctx context.Context, to netip.AddrPort, private bool) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return d.connect(ctx, "", to, private)
}

// mayEnd returns an error unless a connection for name, "" for none, may end at an address.
func (d *Dialer) mayEnd(name string, to netip.AddrPort, private bool) error {
	if d.Forbid != nil {
		if why := d.Forbid(name, to); why != "" {
			return &AddressError{name, to.Addr(), why}
		}
	}
	return d.check(name, to.Addr(), private)
}

func (d *Dialer) connect(ctx context.Context, name string, to netip.AddrPort, private bool) (net.Conn, error) {
	if err := d.mayEnd(name, to, private); err != nil {
		return nil, err // without a socket
	}
	if name == "" {
		switch proxy, err := d.proxyOf(to.Addr().String(), to.Port()); {
		case err != nil:
			return nil, err
		case proxy != nil:
			return d.throughProxy(ctx, proxy, to.Addr().String(), to.Port())
		}
	}
	dialer := net.Dialer{ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		final, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return d.mayEnd(name, final, private)
	}}
	return dialer.DialContext(ctx, "tcp", to.String())
}

// DialLoopback connects to a service on this computer's loopback interface, for a
// rule that names it.
func (d *Dialer) DialLoopback(ctx context.Context, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port).String())
	if err != nil {
		if v6, v6Err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(netip.IPv6Loopback(), port).String()); v6Err == nil {
			return v6, nil
		}
	}
	return conn, err
}

// Listen listens on an address of this host, for what is no machine's port.
func Listen(addr netip.AddrPort) (net.Listener, error) {
	return net.Listen("tcp", addr.String())
}

// cacheTime is how long an answer of the resolver is used: long enough for the
// connection that follows a question.
const cacheTime = 10 * time.Second

// cache holds the answers of the host's resolver.
type cache struct {
	mu    sync.Mutex
	max   int
	names map[string]cached
}

type cached struct {
	addrs []netip.Addr
	time  time.Time
}

func (c *cache) get(name string) ([]netip.Addr, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.names[name]
	if !ok || time.Since(e.time) > cacheTime {
		return nil, false
	}
	return e.addrs, true
}

func (c *cache) put(name string, addrs []netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.names == nil || len(c.names) >= c.max {
		// All at once: they are ten seconds old at most.
		c.names = make(map[string]cached)
	}
	c.names[name] = cached{addrs, time.Now()}
}
