package control

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// What a connection to a supervisor is for.
const (
	OpGuest   = "guest"   // becomes a stream to the guest's agent
	OpStop    = "stop"    // ends the machine, the polite way first
	OpNetwork = "network" // changes the machine's network, and tells its state
)

// Request is what a client asks a supervisor for.
type Request struct {
	Op     string         `json:"op"`
	Change *NetworkChange `json:"change,omitempty"`
}

// Response is what the supervisor answers. Fields are only added.
type Response struct {
	Error   string        `json:"error,omitempty"`
	Code    fault.Code    `json:"code,omitempty"`
	Args    fault.Args    `json:"args,omitempty"`
	Hint    string        `json:"hint,omitempty"`
	Network *NetworkState `json:"network,omitempty"`
}

// Refuse returns the response that reports err.
func Refuse(err error) Response {
	r := Response{Error: err.Error(), Hint: hint.Of(err)}
	if f, ok := fault.Of(err); ok {
		r.Code, r.Args = f.Code, f.Args
	}
	return r
}

// err returns the error that Refuse was given, as far as it was told.
func (r Response) err() error {
	err := errors.New(r.Error)
	if r.Hint != "" {
		err = hint.Errorf(r.Hint, "%s", r.Error)
	}
	if r.Code != "" {
		err = fault.Wrap(err, r.Code, r.Args)
	}
	return err
}

// Listen makes the machine's socket. The directory's descriptor stands in for
// its path, which may be longer than the 108 bytes of sockaddr_un.
func Listen(m state.Machine) (*net.UnixListener, error) {
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

func dial(m state.Machine, req Request) (net.Conn, Response, error) {
	dir, err := os.Open(m.Dir)
	if err != nil {
		return nil, Response{}, fmt.Errorf("reach machine %s: %w", m.Name, err)
	}
	defer dir.Close()
	conn, err := net.Dial("unix", socketPath(dir))
	if err != nil {
		why := "it does not run"
		if m.Status().Phase == state.Stopping {
			why = "it is being stopped"
		}
		return nil, Response{}, hint.Errorf("mayfly ls", "reach machine %s: %s", m.Name, why)
	}
	var answer Response
	if err = wire.WriteMessage(conn, req); err == nil {
		err = wire.ReadMessage(conn, &answer)
	}
	if err != nil {
		err = fmt.Errorf("reach machine %s: %w", m.Name, err)
	} else if answer.Error != "" {
		err = fmt.Errorf("machine %s: %w", m.Name, answer.err())
	}
	if err != nil {
		conn.Close()
		return nil, answer, err
	}
	return conn, answer, nil
}

// OpenGuest returns a stream to the agent in the running machine m.
func OpenGuest(m state.Machine) (net.Conn, error) {
	conn, _, err := dial(m, Request{Op: OpGuest})
	return conn, err
}

// Stop ends the running machine m and waits until it has. One that is ending is only
// waited for.
func Stop(m state.Machine) error {
	ending := m.Status()
	conn, _, err := dial(m, Request{Op: OpStop})
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
