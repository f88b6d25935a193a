package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// launching is how an agent is started.
type launching struct {
	viewing
	fresh    bool // a session of its own
	detached bool
}

func (l *launching) flags(cmd *cobra.Command) {
	l.viewing.flags(cmd)
	cmd.Flags().BoolVar(&l.fresh, "new", false, "start one more, though one works already")
	cmd.Flags().BoolVarP(&l.detached, "detach", "d", false, "let it work, and do not look at it")
}

const agentHelp = `It works in the machine's workspace without asking for permission, since the
machine is its wall, and goes on when the terminal is closed or Ctrl-] was typed
twice. If it works already, this shows it; with arguments it is one more.
Without a terminal it is run as by mayfly exec, unless it is detached. Its
settings and logins are kept in ~/` + codingagent.StateDir + `.`

func (a *app) agentCommand() *cobra.Command {
	var l launching
	cmd := &cobra.Command{
		Use:   "agent [flags] NAME [AGENT] [-- ARGUMENT…]",
		Short: "Let a coding agent work in a machine, or look at it",
		Long:  "Let a coding agent work in a machine, by default the one of its image.\n" + agentHelp,
		Example: `  mayfly agent run-3f9a2c
  mayfly agent run-3f9a2c claude --detach -- -p 'fix the tests'`,
		Args:              usageArgs(agentArgs),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			words, rest := splitAtDash(cmd, args)
			return a.agent(cmd.Context(), words[0], strings.Join(words[1:], ""), rest, l)
		},
	}
	l.flags(cmd)
	return cmd
}

// agentCommands returns a command for each agent. The one that most use is shown.
func (a *app) agentCommands() []*cobra.Command {
	var commands []*cobra.Command
	for _, agent := range codingagent.Agents() {
		var l launching
		cmd := &cobra.Command{
			Use:   agent.Name + " [flags] NAME [-- ARGUMENT…]",
			Short: "Let " + agent.Title + " work in a machine, or look at it",
			Long:  "Let " + agent.Title + " work in a machine.\n" + agentHelp,
			Example: fmt.Sprintf(`  mayfly %[1]s run-3f9a2c
  mayfly %[1]s --detach run-3f9a2c`, agent.Name),
			Hidden:            agent.Name != codingagent.Default,
			Args:              usageArgs(agentArgs),
			ValidArgsFunction: a.completeMachines,
			RunE: func(cmd *cobra.Command, args []string) error {
				words, rest := splitAtDash(cmd, args)
				if len(words) > 1 {
					return usageError{fmt.Errorf("%q: arguments of %s stand behind --", words[1], agent.Name)}
				}
				return a.agent(cmd.Context(), words[0], agent.Name, rest, l)
			},
		}
		l.flags(cmd)
		commands = append(commands, cmd)
	}
	return commands
}

// agentArgs wants a machine, and at most one word more, before "--".
func agentArgs(cmd *cobra.Command, args []string) error {
	words, _ := splitAtDash(cmd, args)
	if len(words) == 0 {
		return errors.New("which machine?")
	}
	if len(words) > 2 {
		return fmt.Errorf("%q: arguments of the agent stand behind --", words[2])
	}
	return nil
}

// splitAtDash returns the arguments before and behind "--".
func splitAtDash(cmd *cobra.Command, args []string) (before, behind []string) {
	if n := cmd.ArgsLenAtDash(); n >= 0 {
		return args[:n], args[n:]
	}
	return args, nil
}

func (a *app) agent(ctx context.Context, name, agent string, args []string, l launching) error {
	m, err := a.runningMachine(ctx, name)
	if err != nil {
		return err
	}
	p, err := m.Plan()
	if err != nil {
		return err
	}
	if agent == "" {
		if agent, err = onlyAgent(m, p); err != nil {
			return err
		}
	}
	spec, err := codingagent.Launch(agent, p.Dir(), p.Guest.User.Home, args)
	if err != nil {
		return usageError{err}
	}
	req := &wire.Session{
		Name: spec.Agent, Detached: l.detached, New: l.fresh || len(args) > 0,
		Exec: &wire.Exec{Argv: spec.Argv, Dir: spec.Dir, Env: spec.Env},
	}
	if !l.detached && !(isTerminal(a.In) && isTerminal(a.Out)) {
		if err := a.seed(ctx, m, spec); err != nil {
			return err
		}
		code, err := a.execRequest(m, req.Exec, false)
		if err != nil {
			return missingAgent(err, m, p, agent)
		}
		return exitCode(code)
	}
	if !req.New {
		// The settings are for its start: one that runs writes them itself.
		sessions, err := guestSessions(ctx, m, askTimeout)
		if err != nil {
			return runError{err, exitMayfly}
		}
		if slices.ContainsFunc(sessions, func(s wire.SessionInfo) bool { return s.Name == spec.Agent && !s.Exited }) {
			return a.view(ctx, m, req, l.viewing)
		}
	}
	if err := a.seed(ctx, m, spec); err != nil {
		return err
	}
	// Until a terminal looks on; its own kind takes the place of this one.
	req.Exec.Env = append(req.Exec.Env, "TERM=xterm-256color", "COLORTERM=truecolor")
	return missingAgent(a.view(ctx, m, req, l.viewing), m, p, agent)
}

// onlyAgent is the agent of a machine that has one.
func onlyAgent(m state.Machine, p plan.Plan) (string, error) {
	agents := p.Image.Agents
	switch len(agents) {
	case 1:
		return agents[0], nil
	case 0:
		return "", hint.Errorf("mayfly run --keep --profile "+codingagent.Default, "the image of %s has no coding agent", m.Name)
	}
	return "", hint.Errorf("mayfly agent "+m.Name+" "+agents[0], "the image of %s has several coding agents: %s", m.Name, strings.Join(agents, ", "))
}

// missingAgent says how a machine comes to have an agent.
func missingAgent(err error, m state.Machine, p plan.Plan, agent string) error {
	if run, ok := errors.AsType[runError](err); ok && run.code == exitMissing && !slices.Contains(p.Image.Agents, agent) {
		return runError{hint.Errorf("mayfly run --keep --profile "+agent, "%s has no %s: %w", m.Name, agent, err), exitMissing}
	}
	return err
}

// seedTimeout is how long a guest may take to write settings: nobody waits for ever for
// one that is in the hands of what it keeps.
const seedTimeout = time.Minute

// seed writes the settings of agents that are to be there before they start.
func (a *app) seed(ctx context.Context, m state.Machine, specs ...codingagent.Spec) error {
	s := &wire.Seed{}
	for _, spec := range specs {
		s.Dirs = append(s.Dirs, spec.Dirs...)
		for _, f := range spec.Files {
			file := wire.SeedFile{Path: f.Path, Must: f.Must, Default: f.Default, Text: f.Text}
			for _, t := range f.Tails {
				file.Tails = append(file.Tails, wire.SeedTail(t))
			}
			s.Files = append(s.Files, file)
		}
	}
	stream, err := control.OpenGuest(m)
	if err != nil {
		return runError{err, exitMayfly}
	}
	defer stream.Close()
	ctx, cancel := context.WithTimeout(ctx, seedTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { stream.Close() })()
	aside, err := client.Seed(stream, s)
	if ctx.Err() != nil {
		err = fmt.Errorf("write settings in %s: no answer: %w", m.Name, context.Cause(ctx))
	}
	for _, name := range aside {
		a.note("settings that could not be read are in %s now, in the machine", name)
	}
	if err != nil {
		return guestError(err)
	}
	return nil
}

// seedAgents does that for all agents of a machine's image, for users who start them by
// hand.
func (a *app) seedAgents(ctx context.Context, m state.Machine, p plan.Plan) error {
	var specs []codingagent.Spec
	for _, agent := range p.Image.Agents {
		spec, err := codingagent.Launch(agent, p.Dir(), p.Guest.User.Home, nil)
		if err != nil {
			return err
		}
		specs = append(specs, spec)
	}
	if len(specs) == 0 {
		return nil
	}
	return a.seed(ctx, m, specs...)
}

// runningMachine returns the machine name, which runs. One that mayfly new made is
// started if it does not.
func (a *app) runningMachine(ctx context.Context, name string) (state.Machine, error) {
	machines, err := a.machines()
	if err != nil {
		return state.Machine{}, err
	}
	m := machines.At(name)
	defined := a.defined(name)
	if naming.Valid(name) && m.Alive() && (!defined || m.Status().Phase == state.Running) {
		return m, nil
	}
	if defined {
		return a.startNamed(ctx, name, startOptions{})
	}
	if m, err = machines.Get(name); err != nil {
		return m, err
	}
	return m, runError{hint.Errorf("mayfly ls", "machine %s does not run", name), exitMayfly}
}

// How long a guest may take to tell of its sessions.
const (
	glanceTimeout = time.Second      // for a list of machines, which must not wait for one
	askTimeout    = 20 * time.Second // where nothing can be done without
)

// guestSessions lists the sessions of a machine that runs. A machine that does not
// answer in time, or lies, is an error.
func guestSessions(ctx context.Context, m state.Machine, timeout time.Duration) ([]wire.SessionInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	type answer struct {
		sessions []wire.SessionInfo
		err      error
	}
	// A supervisor that is stopped does not even open the stream. Nobody waits for
	// the goroutine then, which ends with the process.
	answers := make(chan answer, 1)
	go func() {
		stream, err := control.OpenGuest(m)
		if err != nil {
			answers <- answer{nil, err}
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
		return nil, fmt.Errorf("list the sessions of %s: no answer", m.Name)
	}
}
