package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/mcp"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

func (a *app) mcpCommand() *cobra.Command {
	var s settings
	var machine string
	cmd := &cobra.Command{
		Use:   "mcp [flags]",
		Short: "Give a coding agent on this computer tools that work in a machine",
		Long: `Give a coding agent that runs on this computer tools that work in a machine: a
server of the Model Context Protocol (MCP) on standard input and output. The
agent's program starts it; you register it once.

The tools run commands, read, write and search files, and list changes and
refused hosts. All of that is in one machine, which the flags decide and the
agent cannot change: no tool applies changes, allows hosts or mounts
directories. The machine starts with the first call of a tool.

Without --machine it is a new one, on a private copy of the workspace. When the
agent's program ends, mayfly keeps the machine if there are changes in it, and
discards it otherwise. Review them with mayfly diff and mayfly apply.

This is no wall around that agent, which has your rights and can do without
these tools. To have a wall, run the agent in a machine.`,
		Example: `  claude mcp add mayfly -- mayfly mcp --egress allowlist --preset npm
  codex mcp add mayfly -- mayfly mcp --machine web`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case machine != "":
				return a.mcpNamed(cmd.Context(), machine, cmd.Flags())
			case s.noWorkspace && s.workspace != "":
				return usageError{errors.New("--no-workspace and --workspace exclude each other")}
			}
			spec, err := a.spec(&runOptions{settings: s}, nil, cmd.Flags().Changed)
			if err != nil {
				return err
			}
			return a.mcpNew(cmd.Context(), spec)
		},
	}
	s.register(cmd.Flags())
	cmd.Flags().StringVar(&machine, "machine", "", "use the machine `name`, which stays as it is at the end, in place of a new one")
	return cmd
}

// mcpNamed serves a machine that there is.
func (a *app) mcpNamed(ctx context.Context, name string, flags *pflag.FlagSet) error {
	var err error
	flags.Visit(func(f *pflag.Flag) {
		if f.Name != "machine" && f.Name != "verbose" {
			err = usageError{fmt.Errorf("--machine and --%s exclude each other: the machine is as it was defined", f.Name)}
		}
	})
	if err != nil {
		return err
	}
	return a.serveMCP(ctx,
		func(ctx context.Context) (mcp.Machine, error) { return asMachine(a.client.Running(ctx, name)) },
		func(mcp.Machine) error { return nil },
	)
}

// asMachine makes no machine a nil one.
func asMachine(m *mayfly.Machine, err error) (mcp.Machine, error) {
	if err != nil {
		return nil, err
	}
	return m, nil
}

// mcpNew serves a machine that is started for the client, and settles at the end what becomes
// of it.
func (a *app) mcpNew(ctx context.Context, spec mayfly.Spec) (err error) {
	var t temporary
	defer func() { err = errors.Join(err, t.settle(ctx, a)) }()
	return a.serveMCP(ctx,
		func(ctx context.Context) (mcp.Machine, error) {
			if err := t.settle(ctx, a); err != nil { // of one that has ended
				return nil, err
			}
			m, err := a.client.Start(ctx, spec)
			if err == nil {
				t.begin(&fate{a: a, m: m})
			}
			return asMachine(m, err)
		},
		func(mcp.Machine) error { return t.touch() },
	)
}

// temporary is the machine of a client, if there is one.
type temporary struct {
	mu      sync.Mutex // guards what follows
	f       *fate
	touched bool
}

func (t *temporary) begin(f *fate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.f, t.touched = f, false
}

// touch has the machine outlive mayfly, however that ends: whoever started it may kill it at
// once when it is not needed, and work may be in the machine from now on.
func (t *temporary) touch() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.touched = true
	return t.f.keep()
}

// settleTime is how long the changes of a machine may take to be listed at the end.
const settleTime = 2 * time.Minute

// settle keeps the machine if there are changes in it, and discards it otherwise.
func (t *temporary) settle(ctx context.Context, a *app) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.f
	if f == nil {
		return nil
	}
	t.f = nil
	p := f.m.Plan()
	f.discard = !t.touched || p.Workspace == "" || p.Mode == "share"
	if f.discard || !f.m.Alive() {
		return f.settle()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	what, err := a.review(ctx, f.m, reviewOptions{keep: true, quiesce: true})
	f.discard = err == nil && what == answerNone
	return errors.Join(err, f.settle())
}

// serveMCP serves the client that has started mayfly.
func (a *app) serveMCP(ctx context.Context, open func(context.Context) (mcp.Machine, error), touch func(mcp.Machine) error) error {
	if terminal.Is(a.In) {
		a.note("this speaks with a program: register it with your coding agent, as in mayfly mcp --help")
	}
	out := a.Out
	a.Out = a.Err // what else is printed must not get among the messages
	server := mcp.New(mcp.Options{
		Version: a.version, Open: open, Touch: touch,
		Network: func(name string) (mayfly.NetworkState, error) {
			return a.client.ChangeNetwork(name, mayfly.NetworkChange{})
		},
	})
	a.listen = func(e mayfly.Event) {
		switch e.Kind {
		case mayfly.EventStep, mayfly.EventNote, mayfly.EventProgress:
			server.Tell(words.Event(e))
		case mayfly.EventPhase:
			server.Tell(words.Phase(e.Code))
		}
	}
	in, err := terminal.NewInput(a.In)
	if err != nil {
		return err
	}
	defer in.Stop()
	return server.Serve(ctx, io.NopCloser(in), unclosed{out})
}

// unclosed is a file that stays open.
type unclosed struct{ *os.File }

// Close implements io.Closer.
func (unclosed) Close() error { return nil }
