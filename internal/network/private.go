package network

import (
	"net"
	"net/netip"
	"sync"

	"github.com/mayfly-vm/mayfly/internal/network/policy"
)

// privateConn is a connection to a host whose address only a rule that says private allows.
// It may serve many requests, and wait for others: it is closed when that rule goes.
type privateConn struct {
	net.Conn
	addr   netip.Addr
	decide func(*policy.Set) policy.Verdict
	forget func()
}

func (c *privateConn) Close() error {
	err := c.Conn.Close()
	c.forget()
	return err
}

func (c *privateConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// keepPrivate returns conn as one that is closed once decide no longer lets it be private.
func (n *Network) keepPrivate(conn net.Conn, decide func(*policy.Set) policy.Verdict) net.Conn {
	at, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return conn
	}
	c := &privateConn{Conn: conn, addr: at.Addr(), decide: decide}
	c.forget = sync.OnceFunc(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.private, c)
	})
	n.mu.Lock()
	n.private[c] = struct{}{}
	n.mu.Unlock()
	// The policy may have changed since it was asked.
	if !n.mayStay(c, n.policy.Load()) {
		c.Close()
	}
	return c
}

// mayStay reports whether p still allows c.
func (n *Network) mayStay(c *privateConn, p *policy.Set) bool {
	v := c.decide(p)
	return v.Allow && (v.Private || n.dialer.Check("", []netip.Addr{c.addr}, false) == nil)
}

// closePrivate closes the connections that the policy no longer allows.
func (n *Network) closePrivate() {
	p := n.policy.Load()
	n.mu.Lock()
	var gone []*privateConn
	for c := range n.private {
		if !n.mayStay(c, p) {
			gone = append(gone, c)
		}
	}
	n.mu.Unlock()
	for _, c := range gone {
		c.Close()
	}
}
