package supervisor

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/network"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
)

// server answers connections until its listener is closed.
type server struct {
	guest   func() (net.Conn, error)
	stop    func()
	network *network.Network
	audit   *audit.Log
	wg      sync.WaitGroup
}

func (s *server) serve(l *net.UnixListener) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			break
		}
		s.wg.Go(func() { s.answer(conn) })
	}
}

func (s *server) answer(conn *net.UnixConn) {
	defer conn.Close()
	if err := checkPeer(conn); err != nil {
		return
	}
	var req control.Request
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if err := wire.ReadMessage(conn, &req); err != nil {
		return
	}
	conn.SetReadDeadline(time.Time{})
	switch req.Op {
	case control.OpGuest:
		stream, err := s.guest()
		if err != nil {
			wire.WriteMessage(conn, control.Refuse(err))
			return
		}
		if wire.WriteMessage(conn, control.Response{}) == nil {
			join(conn, stream)
		}
		stream.Close()
	case control.OpNetwork:
		wire.WriteMessage(conn, s.changeNetwork(req.Change))
	case control.OpStop:
		wire.WriteMessage(conn, control.Response{})
		s.stop()
		// Held open until the process ends.
		io.Copy(io.Discard, conn)
	default:
		wire.WriteMessage(conn, control.Refuse(fmt.Errorf("unknown request %q", req.Op)))
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
func checkPeer(conn *net.UnixConn) error {
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
	if int(cred.Uid) != os.Geteuid() && cred.Uid != 0 {
		return fmt.Errorf("user %d may not control this machine", cred.Uid)
	}
	return nil
}
