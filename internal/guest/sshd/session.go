package sshd

import (
	"fmt"
	"net"
	"strconv"
	"sync"

	"golang.org/x/crypto/ssh"
)

// exitCannot is the exit status of a program that could not be started.
const exitCannot = 126

// session is a channel that runs one program.
type session struct {
	c       *connection
	ch      ssh.Channel
	command Command
	process Process       // nil before it is started
	ended   chan struct{} // closed when the program has ended
	gone    chan struct{} // closed when the client is
	wg      sync.WaitGroup
}

// session serves a session until the client has closed it. That it does at the
// latest after the program's end, or else the connection is what bounds it.
func (c *connection) session(nc ssh.NewChannel) {
	ch, requests, err := nc.Accept()
	if err != nil {
		return
	}
	s := &session{c: c, ch: ch, ended: make(chan struct{}), gone: make(chan struct{})}
	for req := range requests {
		ok := s.request(req)
		if req.WantReply {
			req.Reply(ok, nil)
		}
		if ok && s.process == nil && (req.Type == "shell" || req.Type == "exec" || req.Type == "subsystem") {
			s.start()
		}
	}
	close(s.gone)
	s.wg.Wait()
	ch.Close()
}

// request serves one request of a session, and reports whether it is granted. What
// it says of a program it only notes down.
func (s *session) request(req *ssh.Request) bool {
	if s.process != nil {
		return s.control(req)
	}
	var err error
	switch req.Type {
	case "env":
		kv, ok := parseEnv(req.Payload)
		if !ok || len(s.command.Env) >= maxEnv {
			return false
		}
		s.command.Env = append(s.command.Env, kv)
	case "pty-req":
		s.command.Terminal, err = parsePTY(req.Payload)
	case "window-change":
		if s.command.Terminal == nil {
			return false
		}
		s.command.Terminal.Size, err = parseSize(req.Payload)
	case "shell":
	case "exec":
		s.command.Line, err = parseText(req.Payload)
		// The shell is what takes it, as after a login.
	case "subsystem":
		var name string
		name, err = parseText(req.Payload)
		if err == nil && name != "sftp" {
			return false
		}
		s.command.SFTP, s.command.Terminal = true, nil
	default:
		return false // x11-req and auth-agent-req@openssh.com among them
	}
	return err == nil
}

// control serves a request for the program that runs.
func (s *session) control(req *ssh.Request) bool {
	select {
	case <-s.ended:
		return false // its number may be another's
	default:
	}
	switch req.Type {
	case "window-change":
		size, err := parseSize(req.Payload)
		if err != nil || s.command.Terminal == nil {
			return false
		}
		s.process.Resize(size)
	case "signal":
		sig, err := parseSignal(req.Payload)
		if err != nil {
			return false
		}
		s.process.Signal(sig)
	default:
		return false
	}
	return true
}

// start starts the program.
func (s *session) start() {
	s.command.Env = append(s.command.Env, s.peer()...)
	p, err := s.c.server.cfg.Start(s.command)
	if err != nil {
		fmt.Fprintf(s.ch.Stderr(), "mayfly: %v\n", err)
		s.end("exit-status", ssh.Marshal(struct{ Code uint32 }{exitCannot}))
		close(s.ended)
		s.process = failed{}
		return
	}
	s.process = p
	s.wg.Go(func() {
		// It ends with the channel, or with the program.
		if err := p.Input(s.ch); err != nil && s.c.openSSH() {
			s.ch.SendRequest("eow@openssh.com", false, nil)
		}
	})
	s.wg.Go(func() {
		ws := p.Wait(s.ch, s.ch.Stderr(), s.gone)
		close(s.ended)
		s.end(exit(ws))
	})
}

// failed is a program that could not be started. It is asked nothing.
type failed struct{ Process }

// end tells the client how the program ended, and closes the channel.
func (s *session) end(request string, payload []byte) {
	s.ch.CloseWrite()
	s.ch.SendRequest(request, false, payload)
	s.ch.Close()
}

// peer are the variables by which a program knows that it runs behind SSH. Where
// there are no addresses they are what OpenSSH says then.
func (s *session) peer() []string {
	split := func(addr net.Addr) (host, port string) {
		if tcp, ok := addr.(*net.TCPAddr); ok {
			return tcp.IP.String(), strconv.Itoa(tcp.Port)
		}
		return "UNKNOWN", "65535"
	}
	from, fromPort := split(s.c.conn.RemoteAddr())
	to, toPort := split(s.c.conn.LocalAddr())
	return []string{
		fmt.Sprintf("SSH_CLIENT=%s %s %s", from, fromPort, toPort),
		fmt.Sprintf("SSH_CONNECTION=%s %s %s %s", from, fromPort, to, toPort),
	}
}
