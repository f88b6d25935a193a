package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// Version is the version of the conversation over a machine's socket. Both ends are
// the same program, so that a difference means that one was replaced.
const Version = 1

// Op is what a connection to a supervisor is for.
type Op string

// The operations.
const (
	OpGuest   Op = "guest"   // becomes a stream to the guest's agent
	OpStop    Op = "stop"    // ends the machine, the polite way first
	OpNetwork Op = "network" // changes the machine's network, and tells its state
	OpWatch   Op = "watch"   // becomes a stream of Events, one JSON object a line
	// OpCondition tells how the machine does.
	OpCondition Op = "condition"
)

// Request is what a client asks a supervisor for.
type Request struct {
	Version int   `json:"version"`
	Op      Op    `json:"op"`
	Token   token `json:"token,omitempty"` // set by who connects
	// Answers says that as long as the connection is there, so is somebody who is told of
	// events and can answer the machine's questions. It is for OpGuest and OpWatch.
	Answers bool           `json:"answers,omitempty"`
	Change  *NetworkChange `json:"change,omitempty"`
}

// Check returns an error if a supervisor cannot grant r. A machine of another version
// can still be stopped.
func (r Request) Check() error {
	switch r.Op {
	case OpStop:
		return nil
	case OpGuest, OpNetwork, OpWatch, OpCondition:
		if r.Version != Version {
			return errVersion(r.Version)
		}
		return nil
	}
	return fmt.Errorf("unknown request %q", r.Op)
}

// errVersion is the error of either end when the other is of another version.
func errVersion(theirs int) error {
	return fault.New(fault.MachineVersion, nil, "it was started by another version of mayfly, which speaks version %d of the protocol and not %d", theirs, Version)
}

// Response is what the supervisor answers. Fields are only added.
type Response struct {
	Version int           `json:"version"`
	Error   string        `json:"error,omitempty"`
	Code    fault.Code    `json:"code,omitempty"`
	Args    fault.Args    `json:"args,omitempty"`
	Network *NetworkState `json:"network,omitempty"`
	// Condition answers OpCondition.
	Condition *Condition `json:"condition,omitempty"`
}

// Granted returns the response of a supervisor that does what was asked for.
func Granted() Response { return Response{Version: Version} }

// Refuse returns the response that reports err.
func Refuse(err error) Response {
	r := Response{Version: Version, Error: err.Error()}
	if f, ok := fault.Of(err); ok {
		r.Code, r.Args = f.Code, f.Args
	}
	return r
}

// err returns the error that Refuse was given, as far as it was told.
func (r Response) err() error {
	err := errors.New(r.Error)
	if r.Code != "" {
		err = fault.Wrap(err, r.Code, r.Args)
	}
	return err
}

func socketPath(dir *os.File) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), state.SocketFile)
}

// dial connects to the supervisor of m and returns its answer. The end of ctx ends the
// wait for it.
func dial(ctx context.Context, m state.Machine, req Request) (net.Conn, Response, error) {
	dir, err := os.Open(m.Dir)
	if err != nil {
		return nil, Response{}, fmt.Errorf("reach machine %s: %w", m.Name, err)
	}
	defer dir.Close()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socketPath(dir))
	if ctx.Err() != nil {
		if err == nil {
			conn.Close()
		}
		return nil, Response{}, context.Cause(ctx)
	}
	if err != nil {
		why := "it does not run"
		if m.Status().Phase == state.Stopping {
			why = "it is being stopped"
		}
		return nil, Response{}, fault.New(fault.MachineNotRunning, fault.Args{"name": m.Name}, "reach machine %s: %s", m.Name, why)
	}
	if req.Token, err = readToken(dir); err != nil {
		conn.Close()
		return nil, Response{}, fmt.Errorf("reach machine %s: %w", m.Name, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	answer, err := ask(conn, req)
	if !stop() {
		return nil, answer, context.Cause(ctx)
	}
	if code := fault.CodeOf(err); code == fault.MachineVersion || code == fault.MachineForbidden {
		err = fault.Wrap(err, code, fault.Args{"name": m.Name})
	}
	if err != nil {
		conn.Close()
		return nil, answer, fmt.Errorf("machine %s: %w", m.Name, err)
	}
	return conn, answer, nil
}

// ask sends req and returns the answer to it, or the error that is in that.
func ask(conn net.Conn, req Request) (answer Response, err error) {
	req.Version = Version
	if err := wire.WriteMessage(conn, req); err != nil {
		return answer, fmt.Errorf("reach its supervisor: %w", err)
	}
	if err := wire.ReadMessage(conn, &answer); err != nil {
		return answer, fmt.Errorf("reach its supervisor: %w", err)
	}
	switch {
	case answer.Version != Version && req.Op != OpStop:
		return answer, errVersion(answer.Version)
	case answer.Error != "":
		return answer, answer.err()
	}
	return answer, nil
}

// answerTimeout is the time in which a supervisor answers that works: it has to ask nobody.
const answerTimeout = 20 * time.Second

var errSilent = errors.New("the machine's supervisor does not answer")

// answerContext bounds the wait for an answer that nobody else bounds.
func answerContext() (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.Background(), answerTimeout, errSilent)
}

// OpenGuest returns a stream to the agent in the running machine m. The end of ctx ends
// the wait for it, and not the stream.
func OpenGuest(ctx context.Context, m state.Machine) (net.Conn, error) {
	conn, _, err := dial(ctx, m, Request{Op: OpGuest})
	return conn, err
}

// OpenAttended is OpenGuest for who is told of events, and can answer questions, until the
// stream ends.
func OpenAttended(ctx context.Context, m state.Machine) (net.Conn, error) {
	conn, _, err := dial(ctx, m, Request{Op: OpGuest, Answers: true})
	return conn, err
}

// ErrLost is the error of a watcher that was too slow.
var ErrLost = errors.New("too slow: events were lost")

// Watch calls seen with the present state of the machine m and then with what happens
// to it, until its end. An error of seen ends it, and so does ctx.
func Watch(ctx context.Context, m state.Machine, seen func(Event) error) error {
	return watch(ctx, m, Request{Op: OpWatch}, seen)
}

// Attend is Watch for who can answer questions.
func Attend(ctx context.Context, m state.Machine, seen func(Event) error) error {
	return watch(ctx, m, Request{Op: OpWatch, Answers: true}, seen)
}

func watch(ctx context.Context, m state.Machine, req Request, seen func(Event) error) error {
	conn, _, err := dial(ctx, m, req)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	for events := readEvents(conn); ; {
		e, err := events.next()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("watch machine %s: its supervisor ended unexpectedly", m.Name)
		case e.Lost:
			return fmt.Errorf("watch machine %s: %w", m.Name, ErrLost)
		}
		if err := seen(e); err != nil || e.Ended {
			return err
		}
	}
}

// Stop ends the running machine m and waits until it has. One that is ending is only
// waited for.
func Stop(m state.Machine) error {
	ctx, cancel := answerContext()
	defer cancel()
	return stop(ctx, m)
}

// stop is Stop with a bound of the wait for the supervisor's answer.
func stop(ctx context.Context, m state.Machine) error {
	ending := m.Status()
	conn, _, err := dial(ctx, m, Request{Op: OpStop})
	if err == nil {
		// Its end is the end of the supervisor.
		io.Copy(io.Discard, conn)
		conn.Close()
	} else if ending = m.Status(); ending.Phase != state.Stopping {
		return err
	}
	if err := awaitEnd(m, ending.Supervisor); err != nil {
		return err
	}
	return finish(m)
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
	return fault.New(fault.MachineStuck, fault.Args{"name": m.Name}, "machine %s does not end", m.Name)
}
