package sshd

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
)

// connection is a client that was let in.
type connection struct {
	server *Server
	conn   *ssh.ServerConn
	slots  slots // one for each channel
	wg     sync.WaitGroup

	noSessions atomic.Bool // the client wants no more of them
}

// channels serves the channels that the client opens, until it is gone.
func (c *connection) channels(channels <-chan ssh.NewChannel) {
	for ch := range channels {
		serve := map[string]func(ssh.NewChannel){
			"session":      c.session,
			"direct-tcpip": c.directTCPIP,
		}[ch.ChannelType()]
		switch {
		case serve == nil:
			ch.Reject(ssh.UnknownChannelType, fmt.Sprintf("%.64q is not supported", ch.ChannelType()))
		case ch.ChannelType() == "session" && c.noSessions.Load():
			ch.Reject(ssh.Prohibited, "no more sessions, as was asked")
		case !c.slots.take():
			ch.Reject(ssh.ResourceShortage, fmt.Sprintf("there are %d channels already", maxChannels))
		default:
			c.wg.Go(func() {
				defer c.slots.give()
				serve(ch)
			})
		}
	}
}

// requests serves what the client asks for beside channels, until it is gone.
func (c *connection) requests(requests <-chan *ssh.Request) {
	f := forwards{c: c, open: make(map[address][]closer)}
	defer f.closeAll()
	for req := range requests {
		var answer []byte
		ok := false
		switch req.Type {
		case "tcpip-forward":
			answer, ok = f.listen(req.Payload)
		case "cancel-tcpip-forward":
			ok = f.cancel(req.Payload)
		case "no-more-sessions@openssh.com":
			c.noSessions.Store(true)
			ok = true
		}
		// keepalive@openssh.com, among others, only wants an answer.
		if req.WantReply {
			req.Reply(ok, answer)
		}
	}
}

// openSSH reports whether the client knows the requests that OpenSSH invented.
func (c *connection) openSSH() bool {
	return strings.Contains(string(c.conn.ClientVersion()), "OpenSSH")
}
