package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// errLost is wrapped by the error for a machine that ended under a command.
var errLost = errors.New("the machine was lost")

// commandError gives the error of a command in a machine its code.
func commandError(err error) error {
	if refused := (*client.GuestError)(nil); errors.As(err, &refused) && fault.CodeOf(err) == "" {
		return fault.Wrap(err, fault.CommandRefused, nil)
	}
	return lostError(err)
}

// lostError gives the error of a conversation that the machine's end, or its guest, broke
// off its code.
func lostError(err error) error {
	if err == nil || fault.CodeOf(err) != "" {
		return err
	}
	_, ofStream := errors.AsType[*net.OpError](err) // else it may be about our own standard output
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrClosed) ||
		ofStream && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)) {
		return fault.Wrap(fmt.Errorf("%w: %w", errLost, err), fault.MachineLost, nil)
	}
	return err
}

// open opens a stream to the guest. The end of ctx closes it.
func (m Machine) open(ctx context.Context) (net.Conn, error) {
	open := control.OpenGuest
	if m.answers {
		open = control.OpenAttended
	}
	conn, err := open(ctx, m.m)
	if err != nil {
		return nil, m.e.aboutVersion(err, m.Name())
	}
	return &stream{conn, context.AfterFunc(ctx, func() { conn.Close() })}, nil
}

// Answering returns the machine for whose commands somebody is there who is told of events and
// can answer questions.
func (m Machine) Answering() Machine {
	m.answers = true
	return m
}

// stream is a connection that the end of a context closes.
type stream struct {
	net.Conn
	stop func() bool
}

func (s *stream) Close() error {
	s.stop()
	return s.Conn.Close()
}

// spoken explains the error of a conversation with the guest. After the end of ctx that is
// the error: what a call says whose stream was closed means nothing to anybody.
func (m Machine) spoken(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err = lostError(err)
	if st := m.m.Status(); fault.CodeOf(err) == fault.MachineLost && (st.Phase == state.Stopping || !exists(m.m.Dir)) {
		return errStopped(m.Name())
	}
	return err
}

// errStopped is the error of what a stop of the machine broke off.
func errStopped(name string) error {
	return fault.New(fault.MachineLost, nil, "%s was stopped meanwhile", name)
}

// converse opens a stream to the guest for talk.
func (m Machine) converse(ctx context.Context, talk func(stream net.Conn) error) error {
	return m.attended(ctx, func(stream net.Conn, _ *attendance) error { return talk(stream) })
}

// attended is converse with what becomes of the machine meanwhile.
func (m Machine) attended(ctx context.Context, talk func(net.Conn, *attendance) error) error {
	attendance := m.attend(ctx)
	defer attendance.end()
	stream, err := m.open(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	return attendance.explain(m.spoken(ctx, talk(stream, attendance)))
}

// Exec runs a command in the machine and returns its exit code. Without a command it is
// the user's shell, without a directory in the workspace. The end of ctx breaks the
// conversation off.
func (m Machine) Exec(ctx context.Context, req *wire.Exec, stdio client.Stdio) (code int, err error) {
	if len(req.Argv) == 0 {
		req.Argv = []string{m.p.Guest.User.Shell}
	}
	if req.Dir == "" {
		req.Dir = m.p.Dir()
	}
	err = m.attended(ctx, func(stream net.Conn, at *attendance) error {
		code, err = client.Exec(stream, req, stdio)
		at.ended(code)
		return commandError(err)
	})
	if agent, ok := codingagent.Find(req.Argv[0]); ok {
		err = m.MissingAgent(err, agent.Name)
	}
	return code, err
}

// Session begins, shows or ends a program that goes on without a terminal, and returns
// its exit code. begun is called when it is there.
func (m Machine) Session(ctx context.Context, req *wire.Session, stdio client.Stdio, begun func(wire.SessionInfo)) (code int, err error) {
	err = m.attended(ctx, func(stream net.Conn, at *attendance) error {
		code, err = client.Session(stream, req, stdio, begun)
		at.ended(code)
		return commandError(err)
	})
	return code, err
}

// How long a guest may take to tell of its sessions.
const (
	glanceTimeout = time.Second      // for a list of machines, which must not wait for one
	askTimeout    = 20 * time.Second // where nothing can be done without
)

// Sessions lists the programs that go on without a terminal. A machine that does not
// answer in time, or lies, is an error.
func (m Machine) Sessions(ctx context.Context) ([]wire.SessionInfo, error) {
	attendance := m.attend(ctx)
	defer attendance.end()
	return m.sessions(ctx, askTimeout)
}

func (m Machine) sessions(ctx context.Context, timeout time.Duration) ([]wire.SessionInfo, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("list the sessions of %s: no answer", m.Name()))
	defer cancel()
	type answer struct {
		sessions []wire.SessionInfo
		err      error
	}
	// A supervisor that is stopped does not even open the stream. Nobody waits for
	// the goroutine then, which ends with the process.
	answers := make(chan answer, 1)
	go func() {
		stream, err := control.OpenGuest(ctx, m.m)
		if err != nil {
			answers <- answer{nil, m.e.aboutVersion(err, m.Name())}
			return
		}
		defer stream.Close()
		stream.SetDeadline(time.Now().Add(timeout))
		sessions, err := client.Sessions(stream)
		answers <- answer{sessions, err}
	}()
	select {
	case got := <-answers:
		return got.sessions, got.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// PickSession chooses the session that is meant where none is named: the only one that
// runs, or else the only one.
func (m Machine) PickSession(sessions []wire.SessionInfo) (string, error) {
	var running, all []string
	for _, s := range sessions {
		all = append(all, s.Name)
		if !s.Exited {
			running = append(running, s.Name)
		}
	}
	switch {
	case len(running) == 1:
		return running[0], nil
	case len(running) == 0 && len(all) == 1:
		return all[0], nil
	case len(all) == 0:
		return "", fault.New(fault.SessionNone, args{"name": m.Name()}, "no agent works in %s", m.Name())
	}
	return "", fault.New(fault.SessionAmbiguous, args{"name": m.Name(), "session": all[0]},
		"%s has several sessions: %s", m.Name(), strings.Join(all, ", "))
}

// CodingAgent returns how a coding agent is started in the machine with extra arguments.
// Without a name it is the only one of the machine's image.
func (m Machine) CodingAgent(agent string, extra []string) (codingagent.Spec, error) {
	agent, err := pickAgent(m.Name(), m.p.Image.Agents, agent)
	if err != nil {
		return codingagent.Spec{}, err
	}
	spec, err := codingagent.Launch(agent, m.p.Place(), extra)
	return spec, inputError(err)
}

// pickAgent returns agent, or without one the only one of the agents of an image.
func pickAgent(machine string, agents []string, agent string) (string, error) {
	switch {
	case agent != "":
		return agent, nil
	case len(agents) == 0:
		return "", fault.New(fault.AgentNone, args{"agent": codingagent.Default}, "the image of %s has no coding agent", machine)
	case len(agents) == 1:
		return agents[0], nil
	}
	return "", fault.New(fault.AgentAmbiguous, args{"name": machine, "agent": agents[0]},
		"the image of %s has several coding agents: %s", machine, strings.Join(agents, ", "))
}

// imageAgents returns the names of the coding agents of an image, sorted.
func imageAgents(cfg config.Config) []string {
	return slices.Compact(slices.Sorted(slices.Values(cfg.Image.Agents)))
}

// ExpectAgent finds out before a long start what cannot be right: an agent that nobody
// knows, or a machine whose image has none. It reports false for an agent that the image
// lacks; its user may have put it into the machine in another way.
func (e *Engine) ExpectAgent(name, agent string) (inImage bool, err error) {
	if agent != "" {
		if _, err := codingagent.Get(agent); err != nil {
			return false, InputError{err}
		}
	}
	cfg, ok, err := e.toStart(name)
	if err != nil || !ok {
		return !ok, err
	}
	agents := imageAgents(cfg)
	agent, err = pickAgent(name, agents, agent)
	return slices.Contains(agents, agent), err
}

// ExpectWorkspace reports false before a long start for a machine that will have no workspace.
func (e *Engine) ExpectWorkspace(name string) (bool, error) {
	cfg, ok, err := e.toStart(name)
	return err == nil && (!ok || cfg.Workspace.Path != ""), err
}

// toStart returns the configuration of a machine that is defined and does not run. It reports
// false for others: nothing will be started.
func (e *Engine) toStart(name string) (config.Config, bool, error) {
	d, err := e.definitions().Get(name)
	if err != nil || e.machines().At(name).Alive() {
		return config.Config{}, false, nil
	}
	file, err := config.ReadFile(d.Path)
	if err != nil {
		return config.Config{}, true, err
	}
	cfg, err := e.loadFile(file)
	return cfg, true, err
}

// MissingAgent explains an error of a command that was to start a coding agent.
func (m Machine) MissingAgent(err error, agent string) error {
	if f, ok := fault.Of(err); ok && f.Code == fault.CommandNotFound && !slices.Contains(m.p.Image.Agents, agent) {
		return fault.New(fault.AgentMissing, args{"agent": agent}, "%s has no %s: %w", m.Name(), agent, err)
	}
	return err
}

// seedTimeout is how long a guest may take to write settings: nobody waits for ever for
// one that is in the hands of what it keeps.
const seedTimeout = time.Minute

// Prepare writes the settings that a coding agent is to find when it starts, and says so
// where it will have to log in. It reports whether the agent has had a conversation in the
// machine.
func (m Machine) Prepare(ctx context.Context, spec codingagent.Spec) (earlier bool, err error) {
	m.adviseLogin(ctx, spec.Agent)
	s := &wire.Seed{}
	for _, t := range spec.Transcripts {
		s.Transcripts = append(s.Transcripts, wire.TranscriptPlace(t))
	}
	return m.seed(ctx, s, spec)
}

// seed has the guest do s, and write the settings of agents.
func (m Machine) seed(ctx context.Context, s *wire.Seed, specs ...codingagent.Spec) (earlier bool, err error) {
	for _, spec := range specs {
		s.Dirs = append(s.Dirs, spec.Dirs...)
		for _, l := range spec.Links {
			s.Links = append(s.Links, wire.SeedLink(l))
		}
		for _, f := range spec.Files {
			file := wire.SeedFile{Path: f.Path, Must: f.Must, Default: f.Default, Text: f.Text, Block: f.Block, Variable: f.Variable}
			for _, t := range f.Tails {
				file.Tails = append(file.Tails, wire.SeedTail(t))
			}
			for _, i := range f.Items {
				file.Items = append(file.Items, wire.SeedItem(i))
			}
			s.Files = append(s.Files, file)
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, seedTimeout, fmt.Errorf("write settings in %s: no answer", m.Name()))
	defer cancel()
	var answer wire.Seeded
	err = m.converse(ctx, func(stream net.Conn) (err error) {
		answer, err = client.Seed(stream, s)
		return commandError(err)
	})
	for _, name := range answer.Aside {
		m.e.note(NoteSettingsAside, args{"file": name})
	}
	return answer.Earlier, err
}

// seedAgents writes the settings of all coding agents of the machine's image, for users who
// start them by hand.
func (m Machine) seedAgents(ctx context.Context) error {
	var specs []codingagent.Spec
	for _, agent := range m.p.Image.Agents {
		spec, err := codingagent.Launch(agent, m.p.Place(), nil)
		if err != nil {
			return err
		}
		specs = append(specs, spec)
	}
	if len(specs) == 0 {
		return nil
	}
	_, err := m.seed(ctx, &wire.Seed{}, specs...)
	return err
}

// SSH joins in and out with the machine's SSH server.
func (m Machine) SSH(ctx context.Context, terminfo *wire.Terminfo, in io.Reader, out io.Writer) error {
	return m.converse(ctx, func(stream net.Conn) error {
		// ssh looks at the file when it has heard of the server, which it does through
		// us.
		if err := m.e.writeKnownHosts(ctx); err != nil {
			return err
		}
		if err := client.SSH(stream, terminfo); err != nil {
			return err
		}
		go func() {
			// It may outlive us, blocked in a read.
			io.Copy(stream, in)
			stream.Close()
		}()
		_, err := io.Copy(out, stream)
		if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.EPIPE) { // ssh is gone
			return fmt.Errorf("copy from the machine: %w", err)
		}
		return nil
	})
}
