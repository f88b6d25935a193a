package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/acp"
	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/terminal"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

func (a *app) acpCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "acp [flags] NAME -- AGENT [ARGUMENT…]",
		Short: "Let an editor use a coding agent that works in a machine",
		Long: `Let an editor use a coding agent that works in a machine. Both speak the Agent
Client Protocol (ACP) on standard input and output. The editor starts mayfly;
you name it in the editor's settings. A machine that mayfly new defined is
started if it does not run.

In this protocol, agents have the editor read and write files and run programs,
all of that on this computer. mayfly refuses it and passes on what is shown and
asked: texts, differences, questions for permission. The agent uses the
machine's files and programs. MCP servers of the editor's that are programs do
not reach it. What is left out is named on standard error, which editors keep in
a log.

What the agent changes is in the machine's copy of the workspace: mayfly diff
and mayfly apply bring it back. When the editor closes standard input, the agent
ends, with all of its process group. The machine keeps running.`,
		Example: `  mayfly acp web -- opencode acp
  mayfly acp web -- gemini --acp`,
		Args:              takes(2, anyNumber),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			argv := args[1:]
			if argv[0] == "--" {
				argv = argv[1:]
			}
			if err := checkCommand(argv); err != nil {
				return err
			}
			return a.acp(cmd.Context(), args[0], argv)
		},
	}
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// acp joins the editor that has started mayfly with an agent in the machine name.
func (a *app) acp(ctx context.Context, name string, argv []string) error {
	if terminal.Is(a.In) {
		a.note("this speaks with a program: name it in your editor's settings, as in mayfly acp --help")
	}
	out := a.Out
	a.Out = a.Err // what else is printed must not get among the messages
	agent := ""
	if known, ok := codingagent.Find(argv[0]); ok {
		agent = known.Name
		inImage, err := a.client.ExpectAgent(name, agent)
		if err != nil {
			return err
		}
		if !inImage {
			a.note("the image of %s has no %s: add it to profiles with mayfly edit %s", name, agent, name)
		}
	}
	none := usageError{fmt.Errorf("machine %s has no workspace, which an editor and an agent could share", name)}
	if has, err := a.client.ExpectWorkspace(name); err != nil {
		return err
	} else if !has {
		return none
	}
	m, err := a.runningMachine(ctx, name)
	if err != nil {
		return err
	}
	if m.Plan().Workspace == "" {
		return none // its file may have been another when it was started
	}
	cmd := mayfly.Cmd{Argv: argv}
	if agent != "" {
		coding, err := m.CodingAgent(agent)
		if err != nil {
			return err
		}
		if _, err := m.Prepare(ctx, coding); err != nil {
			return commandFailed(err)
		}
		cmd.Env = coding.Cmd.Env
	}
	code, err := a.joinACP(ctx, m, cmd, out, agentGrace)
	if err != nil {
		return commandFailed(err)
	}
	return exitCode(code)
}

// agentScript runs an agent and takes its process group along when it ends, also when the
// conversation breaks off: the guest sends SIGHUP then, and SIGKILL later.
const agentScript = `trap : HUP INT TERM
"$@"
code=$?
for stat in /proc/[0-9]*/stat; do
	read -r line <"$stat" || continue
	set -- ${line##*) }
	pid=${line%% *}
	if [ "$3" = $$ ] && [ "$pid" != $$ ]; then kill -KILL "$pid"; fi
done 2>/dev/null
exit $code`

const (
	agentGrace = 5 * time.Second // for an agent to end by itself when its editor is gone
	killTime   = 3 * time.Second // for the guest to say that it was killed
)

// joinACP runs an agent for the editor behind our standard input and out, and returns its exit
// code: 0 if the editor was the first to go. The agent has grace to end by itself then.
func (a *app) joinACP(ctx context.Context, m commander, cmd mayfly.Cmd, out io.Writer, grace time.Duration) (int, error) {
	in, err := terminal.NewInput(a.In)
	if err != nil {
		return 0, err
	}
	defer in.Stop()
	queue := acp.NewQueue()
	defer queue.Close()
	sides := acp.NewSides(acp.NewFilter(m.Plan().Workspace, func(text string) { a.note("%s", text) }), queue, out)
	signals := make(chan byte, 1)
	cmd.Argv = append([]string{"sh", "-c", agentScript, "sh"}, cmd.Argv...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Signals = queue, sides.FromAgent(), &agentLog{w: a.Err, left: mostLog}, signals

	gone, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	go func() {
		err := sides.FromEditor(in)
		if err == nil {
			err = errEditorGone
		}
		leave(err)
	}()
	talk, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	type ending struct {
		code int
		err  error
	}
	ended := make(chan ending, 1)
	go func() {
		code, err := m.Exec(talk, cmd)
		ended <- ending{code, err}
	}()
	select {
	case e := <-ended:
		return e.code, e.err
	case <-gone.Done():
	}
	// Each step is for an agent that the step before did not end. The last may leave behind
	// who writes to an editor that does not read.
	for _, step := range []struct {
		do   func()
		time time.Duration
	}{
		{func() { queue.Close() }, grace},
		{func() { signals <- byte(syscall.SIGKILL) }, killTime},
		{hangUp, killTime},
	} {
		step.do()
		select {
		case <-ended:
		case <-time.After(step.time):
			continue
		}
		break
	}
	if err := context.Cause(gone); ctx.Err() == nil && !errors.Is(err, errEditorGone) {
		return 0, err
	}
	return 0, nil
}

// errEditorGone is why an agent is ended.
var errEditorGone = errors.New("the editor is gone")

// agentLog is what an agent writes for a log, fit for a terminal, and no more than fits into
// one.
type agentLog struct {
	w    io.Writer
	left int // bytes
}

const mostLog = 4 << 20

// Write implements io.Writer.
func (l *agentLog) Write(p []byte) (int, error) {
	if l.left > 0 {
		text := termsafe.Text(string(p[:min(len(p), l.left)]))
		if l.left -= len(p); l.left <= 0 {
			text += "\nmayfly: what more the agent logs is left out\n"
		}
		// Where nobody reads it, the agent works all the same.
		io.WriteString(l.w, text)
	}
	return len(p), nil
}
