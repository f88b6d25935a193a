package supervisor

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/network"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// What a connection to a supervisor is for.
const (
	opGuest   = "guest"   // becomes a stream to the guest's agent
	opStop    = "stop"    // ends the machine, the polite way first
	opNetwork = "network" // changes the machine's network, and tells its state
)

type request struct {
	Op     string         `json:"op"`
	Change *NetworkChange `json:"change,omitempty"`
}

type response struct {
	Error   string        `json:"error,omitempty"`
	Hint    string        `json:"hint,omitempty"`
	Network *NetworkState `json:"network,omitempty"`
}

// listen makes the machine's socket. The directory's descriptor stands in for
// its path, which may be longer than the 108 bytes of sockaddr_un.
func listen(m state.Machine) (*net.UnixListener, error) {
	dir, err := os.Open(m.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socketPath(dir)})
	if err != nil {
		return nil, fmt.Errorf("listen for commands: %w", err)
	}
	l.SetUnlinkOnClose(false) // the name is gone by then; the directory's end is the socket's
	return l, nil
}

func socketPath(dir *os.File) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), state.SocketFile)
}

func dial(m state.Machine, req request) (net.Conn, response, error) {
	dir, err := os.Open(m.Dir)
	if err != nil {
		return nil, response{}, fmt.Errorf("reach machine %s: %w", m.Name, err)
	}
	defer dir.Close()
	conn, err := net.Dial("unix", socketPath(dir))
	if err != nil {
		why := "it does not run"
		if m.Status().Phase == state.Stopping {
			why = "it is being stopped"
		}
		return nil, response{}, hint.Errorf("mayfly ls", "reach machine %s: %s", m.Name, why)
	}
	var answer response
	if err = wire.WriteMessage(conn, req); err == nil {
		err = wire.ReadMessage(conn, &answer)
	}
	if err != nil {
		err = fmt.Errorf("reach machine %s: %w", m.Name, err)
	} else if answer.Error != "" {
		err = hint.Errorf(answer.Hint, "machine %s: %s", m.Name, answer.Error)
	}
	if err != nil {
		conn.Close()
		return nil, answer, err
	}
	return conn, answer, nil
}

// OpenGuest returns a stream to the agent in the running machine m.
func OpenGuest(m state.Machine) (net.Conn, error) {
	conn, _, err := dial(m, request{Op: opGuest})
	return conn, err
}

// Stop ends the running machine m and waits until it has. One that is ending is only
// waited for.
func Stop(m state.Machine) error {
	ending := m.Status()
	conn, _, err := dial(m, request{Op: opStop})
	if err == nil {
		// Its end is the end of the supervisor.
		io.Copy(io.Discard, conn)
		conn.Close()
	} else if ending = m.Status(); ending.Phase != state.Stopping {
		return err
	}
	return awaitEnd(m, ending.Supervisor)
}

// maxEnd is longer than the end of a machine takes in which each step takes what it may.
const maxEnd = 30 * time.Second

// AwaitEnd waits until the machine m, which is ending, has ended.
func AwaitEnd(m state.Machine) error { return awaitEnd(m, m.Status().Supervisor) }

// awaitEnd waits for the end of a supervisor of m. Another may follow at once.
func awaitEnd(m state.Machine, supervisor state.Process) error {
	for deadline := time.Now().Add(maxEnd); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if st := m.Status(); st.Phase == state.Dead || st.Supervisor != supervisor {
			return nil
		}
	}
	return hint.Errorf("mayfly rm --force "+m.Name, "machine %s does not end", m.Name)
}

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
	var req request
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if err := wire.ReadMessage(conn, &req); err != nil {
		return
	}
	conn.SetReadDeadline(time.Time{})
	switch req.Op {
	case opGuest:
		stream, err := s.guest()
		if err != nil {
			wire.WriteMessage(conn, response{Error: err.Error()})
			return
		}
		if wire.WriteMessage(conn, response{}) == nil {
			join(conn, stream)
		}
		stream.Close()
	case opNetwork:
		wire.WriteMessage(conn, s.changeNetwork(req.Change))
	case opStop:
		wire.WriteMessage(conn, response{})
		s.stop()
		// Held open until the process ends.
		io.Copy(io.Discard, conn)
	default:
		wire.WriteMessage(conn, response{Error: fmt.Sprintf("unknown request %q", req.Op)})
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
