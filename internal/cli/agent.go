package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

// launching is how an agent is started.
type launching struct {
	viewing
	fresh    bool // a session of its own
	goesOn   bool // with the last conversation
	detached bool
	prompt   prompting
}

func (l *launching) flags(cmd *cobra.Command) {
	l.viewing.flags(cmd)
	cmd.Flags().BoolVar(&l.fresh, "new", false, "start another session, even if one exists, with a new conversation")
	cmd.Flags().BoolVarP(&l.goesOn, "continue", "c", false, "continue the last conversation")
	cmd.Flags().BoolVarP(&l.detached, "detach", "d", false, "start it and return at once")
	l.prompt.flags(cmd)
}

// check refuses what says two things.
func (l *launching) check(args []string) error {
	prompted := l.prompt.given()
	switch {
	case l.goesOn && l.fresh:
		return usageError{errors.New("--new and --continue exclude each other")}
	case prompted && l.goesOn:
		return usageError{errors.New("--prompt and --continue exclude each other: a prompt begins a conversation")}
	case l.goesOn && len(args) > 0:
		return usageError{errors.New("--continue takes no arguments of the agent; those behind -- say it themselves")}
	case prompted && len(args) > 0:
		return usageError{errors.New("--prompt takes no arguments of the agent; those behind -- say it themselves")}
	}
	return nil
}

const agentHelp = `It works in the machine's workspace without asking for permission: the machine
confines it. It keeps running when you close the terminal or type Ctrl-] twice.
If it already runs, mayfly shows it; with arguments, mayfly starts another
session. If it has worked in the machine before, mayfly asks whether it is to
continue its last conversation. With --continue it does, and with --new it
begins another one. Without a terminal and with --detach, mayfly does not ask,
and it begins another one, too. Without a terminal and without --detach, it runs
as with mayfly exec.

With --prompt or --prompt-file, the agent does what the prompt says and ends. It
begins a new conversation and asks nothing. Its answer goes to standard output,
and the exit code is the agent's. With --detach, it works in a session. The
prompt is in no list of processes.

Its settings and logins are kept in ~/` + codingagent.StateDir + `.`

func (a *app) agentCommand() *cobra.Command {
	var l launching
	cmd := &cobra.Command{
		Use:   "agent [flags] NAME [AGENT] [-- ARGUMENT…]",
		Short: "Let a coding agent work in a machine, or show it",
		Long:  "Let a coding agent work in a machine: by default, the only one of its image.\n" + agentHelp,
		Example: `  mayfly agent run-3f9a2c
  mayfly agent run-3f9a2c claude --prompt 'fix the tests'
  mayfly agent run-3f9a2c codex --detach --prompt-file task.md`,
		Args:              usageArgs(agentArgs),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			words, rest := splitAtDash(cmd, args)
			return a.agent(cmd.Context(), words[0], strings.Join(words[1:], ""), rest, l)
		},
	}
	l.flags(cmd)
	a.rawFlag(cmd.Flags())
	return cmd
}

// agentCommands returns a command for each agent. The one that most use is shown.
func (a *app) agentCommands() []*cobra.Command {
	var commands []*cobra.Command
	for _, agent := range codingagent.Agents() {
		var l launching
		cmd := &cobra.Command{
			Use:   agent.Name + " [flags] NAME [-- ARGUMENT…]",
			Short: "Let " + agent.Title + " work in a machine, or show it",
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
		a.rawFlag(cmd.Flags())
		commands = append(commands, cmd)
	}
	return commands
}

// agentArgs wants a machine, and at most one word more, before "--".
func agentArgs(cmd *cobra.Command, args []string) error {
	words, _ := splitAtDash(cmd, args)
	if len(words) == 0 {
		return fmt.Errorf("which machine? %s NAME", cmd.CommandPath())
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
	if err := l.check(args); err != nil {
		return err
	}
	prompt, err := l.prompt.read(a.In)
	if err != nil {
		return err
	}
	inImage, err := a.client.ExpectAgent(name, agent)
	if err != nil {
		return err
	}
	if !inImage {
		a.note("the image of %s has no %s: add it to profiles with mayfly edit %s", name, agent, name)
	}
	m, err := a.runningMachine(ctx, name)
	if err != nil {
		return err
	}
	if prompt != "" {
		return a.agentOnce(ctx, m, agent, prompt, l)
	}
	coding, err := m.CodingAgent(agent, args...)
	if err != nil {
		return err
	}
	seen := terminal.Is(a.In) && terminal.Is(a.Out)
	what := mayfly.View{Name: coding.Name, Detached: l.detached, New: l.fresh || len(args) > 0}
	if !what.New && (seen || l.detached) {
		// The settings are for its start: one that runs writes them itself.
		sessions, err := m.Sessions(ctx)
		if err != nil {
			return commandFailed(err)
		}
		if slices.ContainsFunc(sessions, func(s mayfly.Session) bool { return s.Name == coding.Name && !s.Exited }) {
			what.Cmd = coding.Cmd
			return a.view(ctx, m, what, l.viewing)
		}
	}
	earlier, err := m.Prepare(ctx, coding)
	if err != nil {
		return commandFailed(err)
	}
	what.Cmd = coding.Cmd
	if !what.New {
		if what.Cmd, err = a.conversation(m, coding, earlier, l.goesOn, seen && !l.detached); err != nil {
			return err
		}
	}
	if !seen && !l.detached {
		code, err := a.exec(ctx, m, what.Cmd, false)
		if err != nil {
			return commandFailed(m.Explain(err, coding))
		}
		return exitCode(code)
	}
	return a.viewAgent(ctx, m, what, coding, l.viewing)
}

// viewAgent begins a session of a coding agent, and shows it.
func (a *app) viewAgent(ctx context.Context, m *mayfly.Machine, what mayfly.View, coding mayfly.CodingAgent, v viewing) error {
	// Until a terminal looks on; its own kind takes the place of this one.
	what.Cmd.Env = append(slices.Clip(what.Cmd.Env), "TERM=xterm-256color", "COLORTERM=truecolor")
	err := a.view(ctx, m, what, v)
	if run, ok := errors.AsType[runError](err); ok {
		err = commandFailed(m.Explain(run.error, coding))
	}
	return err
}

// conversation returns how an agent is started in m that may have had a conversation there
// earlier: to go on with the last one if its user says so, and without a user who could be
// asked with a new one.
func (a *app) conversation(m *mayfly.Machine, coding mayfly.CodingAgent, earlier, goesOn, asks bool) (mayfly.Cmd, error) {
	switch {
	case !earlier && goesOn:
		a.note("%s has had no conversation in %s: it begins the first one", coding.Name, m.Name())
		return coding.Cmd, nil
	case !earlier || len(coding.Continue) == 0:
		return coding.Cmd, nil
	case goesOn:
	case !asks:
		a.note("it begins a new conversation; mayfly %s %s --continue continues the last one", coding.Name, m.Name())
		return coding.Cmd, nil
	default:
		answer, err := a.ask(coding.Name+" has worked in "+m.Name()+" before; continue its last conversation?", []string{"yes", "no"})
		if answer != "yes" || err != nil {
			return coding.Cmd, err
		}
	}
	more, err := m.CodingAgent(coding.Name, coding.Continue...)
	return more.Cmd, err
}

// runningMachine returns the machine name, which runs. One that mayfly new made is
// started if it does not.
func (a *app) runningMachine(ctx context.Context, name string) (*mayfly.Machine, error) {
	m, err := a.client.Running(ctx, name)
	if errorCode(err) == "machine-not-running" {
		return nil, commandFailed(err)
	}
	return m, err
}
