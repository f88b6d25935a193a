package sshd

import (
	"io"
	"net"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"
)

// linger is how long a connection takes what a client sent before it was gone.
const linger = 10 * time.Second

// directTCPIP connects the client to a port that the machine reaches.
func (c *connection) directTCPIP(nc ssh.NewChannel) {
	msg, err := parseForwarded(nc.ExtraData())
	if err != nil {
		nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	conn, err := c.server.cfg.Dial(msg.Host, int(msg.Port))
	if err != nil {
		nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer conn.Close()
	ch, requests, err := nc.Accept()
	if err != nil {
		return
	}
	c.join(ch, requests, conn)
}

// join copies between a channel and a connection until both directions have
// ended, or one of the two is gone. It closes both.
func (c *connection) join(ch ssh.Channel, requests <-chan *ssh.Request, conn net.Conn) {
	toConn := make(chan struct{})
	c.wg.Go(func() {
		defer close(toConn)
		if _, err := io.Copy(conn, ch); err != nil {
			conn.Close()
			return
		}
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
	})
	c.wg.Go(func() {
		ssh.DiscardRequests(requests)
		// The client takes nothing any more, but what it sent is still on its
		// way.
		conn.SetWriteDeadline(time.Now().Add(linger))
		<-toConn
		conn.Close()
	})
	if _, err := io.Copy(ch, conn); err == nil {
		ch.CloseWrite()
		<-toConn
	}
	ch.Close()
	<-toConn
	conn.Close()
}

// address is what a client asked to listen on, in its words.
type address struct {
	host string
	port uint32
}

type closer interface{ Close() error }

// forwards are the ports that are listened on for one connection. One goroutine
// has them.
type forwards struct {
	c    *connection
	open map[address][]closer
}

// listen answers tcpip-forward. Whatever address it names, the port is the
// loopback interface's: what is behind it is the user's host.
func (f *forwards) listen(payload []byte) (answer []byte, ok bool) {
	msg, err := parseForward(payload)
	if err != nil || len(f.open) >= maxForwards {
		return nil, false
	}
	if msg.Port != 0 && msg.Port < 1024 {
		return nil, false // they are root's, and the user is not root
	}
	if _, taken := f.open[address{msg.Host, msg.Port}]; taken {
		return nil, false
	}
	listeners, err := f.c.server.cfg.Listen(int(msg.Port))
	if err != nil || len(listeners) == 0 {
		return nil, false
	}
	if msg.Port == 0 {
		msg.Port = portOf(listeners[0].Addr())
		answer = ssh.Marshal(struct{ Port uint32 }{msg.Port})
	}
	at := address{msg.Host, msg.Port}
	for _, l := range listeners {
		f.open[at] = append(f.open[at], l)
		f.c.wg.Go(func() { f.c.accept(l, at) })
	}
	return answer, true
}

func (f *forwards) cancel(payload []byte) bool {
	msg, err := parseForward(payload)
	if err != nil {
		return false
	}
	at := address{msg.Host, msg.Port}
	listeners, ok := f.open[at]
	for _, l := range listeners {
		l.Close()
	}
	delete(f.open, at)
	return ok
}

func (f *forwards) closeAll() {
	for _, listeners := range f.open {
		for _, l := range listeners {
			l.Close()
		}
	}
}

// accept hands connections of l to the client until l is closed.
func (c *connection) accept(l net.Listener, at address) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		if !c.slots.take() {
			conn.Close()
			continue
		}
		c.wg.Go(func() {
			defer c.slots.give()
			defer conn.Close()
			from, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			ch, requests, err := c.conn.OpenChannel("forwarded-tcpip", ssh.Marshal(forwarded{
				Host: at.host, Port: at.port, From: from, FromPort: portOf(conn.RemoteAddr()),
			}))
			if err != nil {
				return
			}
			c.join(ch, requests, conn)
		})
	}
}

func portOf(addr net.Addr) uint32 {
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(port, 10, 16)
	return uint32(n)
}
