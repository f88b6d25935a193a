package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

func (a *app) execCommand() *cobra.Command {
	var noTTY, noStdin bool
	cmd := &cobra.Command{
		Use:   "exec [flags] NAME -- COMMAND [ARGUMENT…]",
		Short: "Run a command in a running machine",
		Long: `Run a command in the workspace of a running machine. The exit code is the
command's, as with mayfly run.

The command reads mayfly's standard input to its end. In a loop that reads
lines, give it none with -n.`,
		Example: `  mayfly exec run-3f9a2c -- git status
  while read -r name; do mayfly exec -n "$name" -- git status; done < names`,
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
			if noStdin {
				null, err := os.Open(os.DevNull)
				if err != nil {
					return err
				}
				defer null.Close()
				a.In = null
			}
			return a.execNamed(cmd.Context(), args[0], argv, noTTY)
		},
	}
	cmd.Flags().SetInterspersed(false)
	a.rawFlag(cmd.Flags())
	cmd.Flags().BoolVarP(&noTTY, "no-tty", "T", false, "run the command without a terminal")
	cmd.Flags().BoolVarP(&noStdin, "no-stdin", "n", false, "give the command an empty standard input, as ssh -n")
	return cmd
}

func (a *app) shellCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "shell NAME",
		Short:             "Open a shell in a running machine",
		Args:              takes(1, 1),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.execNamed(cmd.Context(), args[0], nil, false)
		},
	}
	a.rawFlag(cmd.Flags())
	return cmd
}

// machine returns the machine name. One that another command starts is waited for.
func (a *app) machine(ctx context.Context, name string) (*mayfly.Machine, error) {
	m, err := a.client.Machine(ctx, name)
	switch errorCode(err) {
	case "start-timeout", "start-abandoned":
		err = runError{err, exitMayfly}
	}
	return m, a.interrupted(err)
}

func (a *app) execNamed(ctx context.Context, name string, argv []string, noTTY bool) error {
	m, err := a.machine(ctx, name)
	if err != nil {
		return err
	}
	code, err := a.execIn(ctx, m, argv, noTTY)
	if err != nil {
		return a.interrupted(commandFailed(err))
	}
	return exitCode(code)
}

// errorCode returns the code of err, "" for none.
func errorCode(err error) string {
	if e, ok := errors.AsType[*mayfly.Error](err); ok {
		return e.Code
	}
	return ""
}

// commandFailed gives the error of a guest's command its exit code.
func commandFailed(err error) error {
	if _, ok := errors.AsType[runError](err); ok || err == nil {
		return err
	}
	switch errorCode(err) {
	case "command-not-found", "agent-missing":
		return runError{err, exitMissing}
	case "command-refused":
		return runError{err, exitCannot}
	}
	return runError{err, exitMayfly}
}

// execIn runs argv, or a shell, in the machine m on our own standard streams,
// and returns its exit code.
func (a *app) execIn(ctx context.Context, m commander, argv []string, noTTY bool) (int, error) {
	return a.exec(ctx, m, mayfly.Cmd{Argv: argv}, noTTY)
}

// commander is a machine that runs commands.
type commander interface {
	Name() string
	Plan() mayfly.Plan
	Exec(context.Context, mayfly.Cmd) (int, error)
}

// exec runs cmd on our own standard streams. Signals are the command's.
func (a *app) exec(ctx context.Context, m commander, cmd mayfly.Cmd, noTTY bool) (int, error) {
	in, err := terminal.NewInput(a.In)
	if err != nil {
		return 0, err
	}
	defer in.Stop()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, a.Out, a.Err
	if !noTTY && terminal.Is(a.In) && terminal.Is(a.Out) {
		restore, err := a.attachTerminal(&cmd)
		if err != nil {
			return 0, err
		}
		defer restore()
	}
	cmd.Attended = a.attended() && (cmd.Terminal == nil || !a.raw)
	defer a.guard(&cmd, m, in)()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	cmd.Stdin = &impatient{cmd.Stdin, &a.stuck, giveUp}
	numbers, end := a.signals.Forward(giveUp, a.stuck.Load)
	defer end()
	cmd.Signals = numbers
	return m.Exec(ctx, cmd)
}

// impatient is the input for a command. Ctrl-C in it gives up a command that cannot hear of
// it.
type impatient struct {
	io.Reader
	stuck  *atomic.Bool
	giveUp context.CancelCauseFunc
}

func (i *impatient) Read(p []byte) (int, error) {
	n, err := i.Reader.Read(p)
	if i.stuck.Load() && bytes.IndexByte(p[:n], ctrlC) >= 0 {
		i.giveUp(terminal.ErrInterrupted)
	}
	return n, err
}

// ctrlC is what a raw terminal sends for the key.
const ctrlC = 3

// attachTerminal makes our terminal the command's.
func (a *app) attachTerminal(cmd *mayfly.Cmd) (restore func(), err error) {
	size, resized, restore, err := terminal.Raw[mayfly.Size](a.In)
	if err != nil {
		return nil, err
	}
	cmd.Terminal = a.terminal()
	cmd.Terminal.Size, cmd.Terminal.Resize = size, resized
	if v := a.getenv("COLORTERM"); v != "" {
		cmd.Env = append(cmd.Env, "COLORTERM="+v)
	}
	return restore, nil
}

// terminal describes the kind of our terminal.
func (a *app) terminal() *mayfly.Terminal {
	name := a.getenv("TERM")
	return &mayfly.Terminal{Name: name, Info: terminal.Terminfo(name, a.getenv("HOME"))}
}
