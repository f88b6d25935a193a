package intercept

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
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

	held held         // until its end
	head held         // for headers, until the end of their request
	read atomic.Int64 // bytes since the last request that was known

	// What the server says: active is set from the first byte of a request, and
	// handled when its headers are there.
	active, handled atomic.Bool
}

// errNoHello is the error for TLS whose beginning servers may understand in more than
// one way.
var errNoHello = errors.New("TLS that does not begin with its first message")

// peek finds out whether the connection is TLS.
func (c *clientConn) peek() error {
	c.first = make([]byte, 1)
	if _, err := io.ReadFull(c.Conn, c.first); err != nil {
		return err
	}
	c.isTLS = c.first[0] == recordHandshake
	if isTLS(c.first[0]) && !c.isTLS {
		c.deny(errNoHello.Error())
		return errNoHello
	}
	return nil
}

func (c *clientConn) Read(b []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	n, err := c.Conn.Read(b)
	if !c.handled.Load() && !c.keep(int64(n)) {
		return 0, errOverBudget
	}
	return n, err
}

// errOverBudget ends a connection whose beginning, or next request, is too long for what
// the machine has left.
var errOverBudget = errors.New(overBudget)

// keep counts n bytes of which it is not known yet what they are: the beginning of TLS, or
// headers.
func (c *clientConn) keep(n int64) bool {
	more := min(n, c.read.Add(n)-freeHead)
	return more <= 0 || c.head.take(headFactor*more, 0)
}

// known is called when all that was read belongs to a request that is known.
func (c *clientConn) known() {
	c.handled.Store(true)
	c.read.Store(0)
}

func (c *clientConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		close(c.done)
		c.proxy.left(c)
		c.held.give(true)
		c.head.give(true)
	})
	return err
}

// protocols is tls.Config.GetConfigForClient. Connections of HTTP/2 are dear: where there are
// many, others speak HTTP/1.1.
func (c *clientConn) protocols(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	next := []string{"http/1.1"}
	if slices.Contains(hello.SupportedProtos, "h2") && c.held.take(http2Cost, spareHTTP2) {
		next = []string{"h2", "http/1.1"}
	}
	return &tls.Config{NextProtos: next, GetCertificate: c.certificate}, nil
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
