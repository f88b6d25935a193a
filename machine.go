package mayfly

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/engine"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Machine is a machine that runs.
type Machine struct {
	m     engine.Machine
	owned *engine.Owned // nil for one that somebody else has started
}

// Start starts a machine and returns when it can be used. It ends with this process,
// however that ends, unless [Machine.Keep] is called.
func (c *Client) Start(ctx context.Context, s Spec) (*Machine, error) {
	spec, err := s.internal()
	if err != nil {
		return nil, err
	}
	o, err := c.e.Start(ctx, spec)
	if err != nil {
		return nil, public(err)
	}
	return &Machine{o.Machine, o}, nil
}

// DryRun is what [Client.Start] would do.
type DryRun struct {
	Plan    Plan     `json:"plan"`
	Command document `json:"command"` // of the engine (VMM)
	Shell   string   `json:"shell"`   // the command as one line
}

// DryRun returns what Start would do. It makes and fetches nothing.
func (c *Client) DryRun(ctx context.Context, s Spec) (DryRun, error) {
	spec, err := s.internal()
	if err != nil {
		return DryRun{}, err
	}
	d, err := c.e.DryRun(ctx, spec)
	if err != nil {
		return DryRun{}, public(err)
	}
	return DryRun{newPlan(d.Plan), newDocument(d.Command), d.Shell}, nil
}

// Machine returns the machine name, which runs or has left something. One that another
// command starts is waited for.
func (c *Client) Machine(ctx context.Context, name string) (*Machine, error) {
	m, err := c.e.Machine(ctx, name)
	if err != nil {
		return nil, public(err)
	}
	return &Machine{m: m}, nil
}

// Running returns the machine name, which runs: one that is defined is started if it does
// not.
func (c *Client) Running(ctx context.Context, name string) (*Machine, error) {
	m, err := c.e.Running(ctx, name)
	if err != nil {
		return nil, public(err)
	}
	return &Machine{m: m}, nil
}

// Name returns the machine's name.
func (m *Machine) Name() string { return m.m.Name() }

// Plan returns how the machine was started.
func (m *Machine) Plan() Plan { return newPlan(m.m.Plan()) }

// Alive reports whether the machine runs, or is being started or stopped. One that this
// process has started is not alive when it has just ended: that is waited for, some seconds
// at most.
func (m *Machine) Alive() bool {
	if m.owned != nil {
		return m.owned.Alive()
	}
	return m.m.Alive()
}

// Keep lets a machine outlive the process that has started it.
func (m *Machine) Keep() error {
	if m.owned == nil {
		return nil
	}
	return public(m.owned.Keep())
}

// Close ends a machine that this process has started, with everything in it, and returns
// when nothing is left. It does nothing to a machine that was kept, or that somebody else
// has started, and may be called again.
func (m *Machine) Close() {
	if m.owned != nil {
		m.owned.Close()
	}
}

// Discard ends a machine that this process has started, with everything in it, also one
// that was kept meanwhile, and returns when nothing is left.
func (m *Machine) Discard() error {
	if m.owned == nil {
		return errNotOwned
	}
	return public(m.owned.Discard())
}

// errNotOwned is the error of what only who has started a machine can ask.
var errNotOwned = errors.New("the machine was not started by this process")

// Wait waits for the end of a machine that this process has started and kept, and returns
// why it ended: nil if somebody asked for it.
func (m *Machine) Wait(ctx context.Context) error {
	if m.owned == nil {
		return errNotOwned
	}
	return public(m.owned.Wait(ctx))
}

// Stop ends a machine: its programs are asked to end, then the machine is, and what does
// not within seconds is killed.
func (m *Machine) Stop() error { return public(m.m.Stop()) }

// Lost returns why a machine that this process has started ended under a command. It
// waits some seconds for the reason.
func (m *Machine) Lost() error {
	if m.owned == nil {
		return errNotOwned
	}
	return public(m.owned.Lost())
}

// Cmd is a command in a machine.
type Cmd struct {
	// Argv is the program with its arguments. Empty for the user's shell.
	Argv []string
	// Dir is the directory, in the machine, in which it starts. Empty for the workspace.
	Dir string
	// Env are variables, KEY=VALUE, beside the machine's.
	Env []string
	// The standard streams; nil for an empty input, and for output that is dropped.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Signals are sent to the command by their numbers.
	Signals <-chan byte
	// Terminal makes a terminal the command's standard streams; Stderr is not used.
	Terminal *Terminal
	// Attended says that somebody sees the events while it runs, and can answer the
	// questions of the machine: see [NetworkState].
	Attended bool
}

// Terminal is the terminal of a command.
type Terminal struct {
	Size   Size
	Resize <-chan Size // its new sizes
	// Name is TERM, and Info its compiled description of terminfo(5), for an image that
	// does not know it.
	Name string
	Info []byte
}

// Size is that of a terminal.
type Size struct{ Rows, Cols uint16 }

// Exec runs a command and returns its exit code, or 128 and the number of the signal that
// ended it. The end of ctx breaks the conversation off.
func (m *Machine) Exec(ctx context.Context, cmd Cmd) (int, error) {
	req, stdio, end := cmd.internal()
	defer end()
	code, err := m.attendedBy(cmd).Exec(ctx, req, stdio)
	return code, public(err)
}

// attendedBy returns the engine's machine for cmd.
func (m *Machine) attendedBy(cmd Cmd) engine.Machine {
	if cmd.Attended {
		return m.m.Answering()
	}
	return m.m
}

func (c Cmd) internal() (*wire.Exec, client.Stdio, func()) {
	req := &wire.Exec{Argv: c.Argv, Dir: c.Dir, Env: c.Env}
	stdio := client.Stdio{Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr, Signals: c.Signals}
	t := c.Terminal
	if t == nil {
		return req, stdio, func() {}
	}
	size := wire.Winsize(t.Size)
	req.TTY = &size
	if t.Name != "" {
		req.Env = append(slices.Clip(req.Env), "TERM="+t.Name)
	}
	if t.Info != nil {
		req.Terminfo = &wire.Terminfo{Name: t.Name, Data: t.Info}
	}
	sizes := make(chan wire.Winsize)
	stdio.Resize = sizes
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s, ok := <-t.Resize:
				if !ok {
					return // it keeps its size
				}
				select {
				case sizes <- wire.Winsize(s):
				case <-done:
					return
				}
			case <-done:
				return
			}
		}
	}()
	return req, stdio, func() { close(done) }
}

// Session is a program that goes on in a machine without a terminal. What it says of
// itself is the guest's word.
type Session struct {
	Name    string `json:"name"`
	Viewers int    `json:"viewers"`
	Waiting bool   `json:"waiting"`       // it seems to wait for an answer
	Why     string `json:"why,omitempty"` // how that is known: hook, notice, bell or quiet
	Exited  bool   `json:"exited"`
	Code    int    `json:"code"`
	Title   string `json:"title,omitempty"`
	Stopped bool   `json:"stopped,omitempty"` // it goes on when something is typed

	// State is what the program does, since when, and the last that it said about that.
	State SessionState `json:"state"`
	Since time.Time    `json:"since,omitzero"`
	Last  string       `json:"last,omitempty"`

	// New says that the call has begun it.
	New bool `json:"-"`
}

// SessionState is what the program of a session does.
type SessionState string

// The states of a session.
const (
	SessionNeedsAnswer     = SessionState(wire.StateAnswer)
	SessionNeedsPermission = SessionState(wire.StatePermission)
	SessionWorks           = SessionState(wire.StateWorks)
	SessionIdle            = SessionState(wire.StateIdle)    // nobody has asked it for anything, or it was interrupted
	SessionDone            = SessionState(wire.StateDone)    // with what it was asked for, or it has ended well
	SessionStopped         = SessionState(wire.StateStopped) // by itself; it goes on when something is typed
	SessionOutOfMemory     = SessionState(wire.StateMemory)  // the guest's kernel has ended it
	SessionCrashed         = SessionState(wire.StateCrashed) // ended by a signal that does not ask
	SessionFailed          = SessionState(wire.StateFailed)  // ended with another exit code than 0
)

func newSession(i wire.SessionInfo) Session {
	s := Session{
		i.Name, i.Viewers, i.Waiting, string(i.Why), i.Exited, i.Code, termsafe.Line(i.Title), i.Stopped,
		SessionState(i.State), time.Time{}, termsafe.Line(i.Last), i.New,
	}
	if i.Since > 0 {
		s.Since = time.Unix(0, i.Since)
	}
	if s.State == "" {
		s.State = olderState(i)
	}
	return s
}

// olderState is the state of a session of which the guest tells none: a machine goes on
// with the guest agent that it was started with.
func olderState(i wire.SessionInfo) SessionState {
	switch {
	case i.Exited && i.Code == 0:
		return SessionDone
	case i.Exited:
		return SessionFailed
	case i.Stopped:
		return SessionStopped
	case i.Waiting:
		return SessionNeedsAnswer
	}
	return SessionWorks
}

// Sessions lists the sessions of a machine.
func (m *Machine) Sessions(ctx context.Context) ([]Session, error) {
	infos, err := m.m.Sessions(ctx)
	return newSessions(infos), public(err)
}

func newSessions(infos []wire.SessionInfo) []Session {
	var list []Session
	for _, i := range infos {
		list = append(list, newSession(i))
	}
	return list
}

// PickSession returns the name of the session that is meant where none is named: the only
// one that runs, or else the only one.
func (m *Machine) PickSession(ctx context.Context) (string, error) {
	infos, err := m.m.Sessions(ctx)
	if err != nil {
		return "", public(err)
	}
	name, err := m.m.PickSession(infos)
	return name, public(err)
}

// View is how a session is begun, looked at or ended.
type View struct {
	Name     string
	Cmd      Cmd  // with Argv, the session is begun if there is none
	New      bool // one more session, though there is one of the name
	Detached bool // do not look at it
	ReadOnly bool
	End      bool // end it
}

// View shows a session until its program ends, and returns the exit code. begun is called
// once, when the session is there. The end of ctx leaves the session to itself.
func (m *Machine) View(ctx context.Context, v View, begun func(Session)) (int, error) {
	exec, stdio, end := v.Cmd.internal()
	defer end()
	req := &wire.Session{Name: v.Name, New: v.New, Detached: v.Detached, ReadOnly: v.ReadOnly, End: v.End, TTY: exec.TTY}
	if len(v.Cmd.Argv) > 0 {
		req.Exec = exec
	}
	code, err := m.attendedBy(v.Cmd).Session(ctx, req, stdio, func(i wire.SessionInfo) { begun(newSession(i)) })
	return code, public(err)
}

// CodingAgent is a coding agent, ready to be started in a machine.
type CodingAgent struct {
	Name string
	Cmd  Cmd
	// Continue are arguments with which it goes on with its last conversation.
	Continue []string
	spec     codingagent.Spec
}

// CodingAgent returns how a coding agent is started in the machine's workspace, without
// questions for permission: the machine is its wall. Without a name it is the only one of
// the machine's image. args are arguments of its own.
func (m *Machine) CodingAgent(name string, args ...string) (CodingAgent, error) {
	spec, err := m.m.CodingAgent(name, args)
	if err != nil {
		return CodingAgent{}, public(err)
	}
	return newCodingAgent(spec), nil
}

func newCodingAgent(spec codingagent.Spec) CodingAgent {
	return CodingAgent{spec.Agent, Cmd{Argv: spec.Argv, Dir: spec.Dir, Env: spec.Env}, spec.Continue, spec}
}

// OneShot is CodingAgent for one that reads a prompt from its standard input, which is no
// terminal, does what that says, and ends.
func (m *Machine) OneShot(name string) (CodingAgent, error) {
	spec, err := m.m.OneShot(name)
	if err != nil {
		return CodingAgent{}, public(err)
	}
	return newCodingAgent(spec), nil
}

// Deliver puts a prompt into the machine and returns how the agent a, of OneShot, is started
// with it in a session, whose standard input is a terminal. No list of processes shows it.
func (m *Machine) Deliver(ctx context.Context, a CodingAgent, prompt string) (CodingAgent, error) {
	spec, err := m.m.Deliver(ctx, a.spec, prompt)
	if err != nil {
		return CodingAgent{}, public(err)
	}
	return newCodingAgent(spec), nil
}

// ExpectAgent finds out before [Client.Running] builds and starts much what cannot be
// right: the name of an agent that there is not, or without a name a machine whose image
// has none, or several. It reports false for one that the image of a machine that does not
// run lacks: it is not found, unless it comes into the machine in another way.
func (c *Client) ExpectAgent(machine, agent string) (inImage bool, err error) {
	inImage, err = c.e.ExpectAgent(machine, agent)
	return inImage, public(err)
}

// ExpectWorkspace finds out before [Client.Running] builds and starts much whether the machine
// has a workspace. It reports false for one that does not run and will have none.
func (c *Client) ExpectWorkspace(machine string) (bool, error) {
	has, err := c.e.ExpectWorkspace(machine)
	return has, public(err)
}

// Prepare writes the settings that the coding agent is to find when it starts. It reports
// whether the agent has had a conversation in the machine, with which it could go on.
func (m *Machine) Prepare(ctx context.Context, a CodingAgent) (earlier bool, err error) {
	earlier, err = m.m.Prepare(ctx, a.spec)
	return earlier, public(err)
}

// Explain says how a machine comes to have a coding agent, if err says that it has not.
func (m *Machine) Explain(err error, a CodingAgent) error {
	return public(m.m.MissingAgent(err, a.Name))
}

// CopyIn copies a file or directory of the host into the machine. A target that is a
// directory gets the source inside of it; one that is relative, or begins with
// "~/", is below the home of the machine's user.
func (m *Machine) CopyIn(ctx context.Context, source, target string) error {
	return public(m.m.CopyIn(ctx, source, target))
}

// CopyOut copies a file or directory of the machine to the host. Nothing is written
// outside of the target; links that lead out of it and devices are left out, and returned,
// fit to be printed.
func (m *Machine) CopyOut(ctx context.Context, source, target string) (skipped []string, err error) {
	skipped, err = m.m.CopyOut(ctx, source, target)
	return skipped, public(err)
}

// SSH joins in and out with the machine's SSH server, for ssh's ProxyCommand. term is as
// in [Terminal], nil for none.
func (m *Machine) SSH(ctx context.Context, term *Terminal, in io.Reader, out io.Writer) error {
	var info *wire.Terminfo
	if term != nil && term.Info != nil {
		info = &wire.Terminfo{Name: term.Name, Data: term.Info}
	}
	return public(m.m.SSH(ctx, info, in, out))
}

// Reached is a host that a machine has asked for.
type Reached struct {
	Rule    Rule
	Refused string // why; empty for one that it reached
}

// Reached returns the hosts that the machine has reached, and then those that it was
// refused.
func (m *Machine) Reached() ([]Reached, error) {
	all, err := m.m.Reached()
	return convert(all, func(r engine.Reached) Reached { return Reached{Rule(r.Rule), r.Refused} }), public(err)
}
