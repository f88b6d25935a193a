package intercept

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mayfly-vm/mayfly/internal/network/audit"
)

// clientConn is a connection of the guest's.
type clientConn struct {
	net.Conn
	proxy *Proxy
	name  string // of the host that it was made to
	port  uint16
	isTLS bool
	first []byte // what was read of it and is to be read again

	once sync.Once
	done chan struct{} // closed with the connection

	// What the server says: active is set from the first byte of a request, and
	// handled when its headers are there.
	active, handled atomic.Bool
}

// peek finds out whether the connection is TLS.
func (c *clientConn) peek() error {
	c.first = make([]byte, 1)
	if _, err := io.ReadFull(c.Conn, c.first); err != nil {
		return err
	}
	c.isTLS = c.first[0] == recordHandshake
	return nil
}

func (c *clientConn) Read(b []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

func (c *clientConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.done) })
	return err
}

// CloseWrite ends one direction, for protocols that a request was upgraded to.
func (c *clientConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// certificate is tls.Config.GetCertificate. The name in TLS must be that of the
// connection.
func (c *clientConn) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if strings.ToLower(hello.ServerName) != c.name {
		said := "TLS without a host's name"
		if hello.ServerName != "" {
			said = "the name in TLS is " + printable(hello.ServerName)
		}
		c.deny(said)
		return nil, fmt.Errorf("%s; this connection is to %s", said, c.name)
	}
	return c.proxy.authority.certificate(c.name)
}

// deny records that the connection was refused.
func (c *clientConn) deny(reason string) {
	proto := "tcp"
	if c.isTLS {
		proto = "tls"
	}
	c.proxy.cfg.Record(audit.Event{
		Kind: audit.Flow, Verdict: audit.Deny, Proto: proto, Name: c.name, Port: int(c.port), Reason: reason,
	})
}

// connState is http.Server.ConnState. A connection that ends between the first byte of a
// request and the last of its headers was ended by us, more often than not.
func (p *Proxy) connState(conn net.Conn, state http.ConnState) {
	c := clientOf(conn)
	switch state {
	case http.StateActive:
		c.handled.Store(false)
		c.active.Store(true)
	case http.StateIdle, http.StateHijacked:
		c.active.Store(false)
	case http.StateClosed:
		if c.active.Load() && !c.handled.Load() {
			c.deny("headers that are too large, too slow or none")
		}
	}
}

// clientOf returns the clientConn below what the server has.
func clientOf(conn net.Conn) *clientConn {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	return conn.(*clientConn)
}

type connKey struct{}

func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, clientOf(conn))
}
