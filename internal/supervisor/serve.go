package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// service is what can be asked of a machine in one part of its life.
type service interface {
	openGuest() (net.Conn, error)
	changeNetwork(*control.NetworkChange) control.Response
}

// errStarting returns the error of who asks too early.
func errStarting() error { return fault.New(fault.MachineStarting, nil, "it is being started") }

// starting serves a machine that is not ready.
type starting struct{}

func (starting) openGuest() (net.Conn, error) { return nil, errStarting() }

func (starting) changeNetwork(*control.NetworkChange) control.Response {
	return control.Refuse(errStarting())
}

func (m *running) openGuest() (net.Conn, error) {
	stream, err := m.guest.open()
	if err != nil && !m.vm.ended() {
		// The guest's doing: it has ended the conversation, or takes no more of it.
		m.broken(m.guest.why(err))
		return nil, m.condition().Err()
	}
	return stream, err
}

func (m *running) changeNetwork(c *control.NetworkChange) control.Response {
	return m.network.change(c)
}

// server answers connections until its listener is closed.
type server struct {
	events *events
	stop   func()
	user   int // who may connect, beside root: who started the machine

	mu      sync.Mutex // guards service
	service service
}

// newServer returns the server of a machine that is being started. stop asks for its
// end.
func newServer(ev *events, stop func()) *server {
	return &server{events: ev, stop: stop, user: os.Geteuid(), service: starting{}}
}

// offer says what can be asked from now on.
func (s *server) offer(svc service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.service = svc
}

func (s *server) current() service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.service
}

// serve answers until l is closed. The conversations then go on until the machine
// ends, and the process with it.
func (s *server) serve(l *control.Listener) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		go s.answer(conn, l)
	}
}

func (s *server) answer(conn *net.UnixConn, l *control.Listener) {
	defer conn.Close()
	if err := s.checkPeer(conn); err != nil {
		return
	}
	var req control.Request
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if err := wire.ReadMessage(conn, &req); err != nil {
		return
	}
	conn.SetReadDeadline(time.Time{})
	err := l.Admit(req)
	if err == nil {
		err = req.Check()
	}
	if err != nil {
		wire.WriteMessage(conn, control.Refuse(err))
		return
	}
	if req.Answers {
		defer s.events.attend()()
	}
	switch req.Op {
	case control.OpGuest:
		s.joinGuest(conn)
	case control.OpNetwork:
		wire.WriteMessage(conn, s.current().changeNetwork(req.Change))
	case control.OpWatch:
		if wire.WriteMessage(conn, control.Granted()) == nil {
			s.watch(conn)
		}
	case control.OpCondition:
		answer, c := control.Granted(), s.events.how()
		answer.Condition = &c
		wire.WriteMessage(conn, answer)
	case control.OpStop:
		wire.WriteMessage(conn, control.Granted())
		s.stop()
		// Held open until the process ends.
		io.Copy(io.Discard, conn)
	}
}

// joinGuest makes conn a stream to the guest.
func (s *server) joinGuest(conn *net.UnixConn) {
	stream, err := s.current().openGuest()
	if err != nil {
		wire.WriteMessage(conn, control.Refuse(err))
		return
	}
	defer stream.Close()
	if wire.WriteMessage(conn, control.Granted()) == nil {
		join(conn, stream)
	}
}

// watchTimeout is the time that a watcher has to take an event.
const watchTimeout = 10 * time.Second

// watch writes events to conn, until the last one.
func (s *server) watch(conn net.Conn) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		// Who watches says nothing: a read ends with the connection.
		io.Copy(io.Discard, conn)
		cancel()
	}()
	out := json.NewEncoder(conn)
	tell := func(e control.Event) error {
		conn.SetWriteDeadline(time.Now().Add(watchTimeout))
		return out.Encode(e)
	}
	if !s.events.watch(ctx, tell) {
		tell(control.Event{Lost: true})
	}
}

// join copies in both directions until one ends, and closes both.
func join(a, b net.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() {
		io.Copy(a, b)
		a.Close()
	})
	io.Copy(b, a)
	b.Close()
	wg.Wait()
}

// checkPeer refuses other users. The directory's mode does already; a mode is
// easily changed by mistake.
func (s *server) checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return credErr
	}
	if int(cred.Uid) != s.user && cred.Uid != 0 {
		return fmt.Errorf("user %d may not control this machine", cred.Uid)
	}
	return nil
}
