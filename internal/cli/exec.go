package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

func (a *app) execCommand() *cobra.Command {
	var noTTY bool
	cmd := &cobra.Command{
		Use:   "exec [flags] NAME -- COMMAND [ARGUMENT…]",
		Short: "Run a command in a running machine",
		Long: `Run a command in a running machine, in its workspace. The exit code is the
command's, as with mayfly run.`,
		Example:           "  mayfly exec run-3f9a2c -- git status",
		Args:              usageArgs(cobra.MinimumNArgs(2)),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			argv := args[1:]
			if argv[0] == "--" {
				argv = argv[1:]
			}
			return a.execNamed(cmd.Context(), args[0], argv, noTTY)
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().BoolVarP(&noTTY, "no-tty", "T", false, "give the command no terminal")
	return cmd
}

func (a *app) shellCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "shell NAME",
		Short:             "Open a shell in a running machine",
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.execNamed(cmd.Context(), args[0], nil, false)
		},
	}
}

// running returns the machine name and its plan. One that another command starts is
// waited for.
func (a *app) running(ctx context.Context, name string) (m state.Machine, p plan.Plan, err error) {
	if m, err = a.machine(name); err != nil {
		return m, p, err
	}
	if m.Status().Phase == state.Starting && a.defined(name) {
		if err := a.waitStarted(ctx, m); err != nil {
			return m, p, runError{err, exitMayfly}
		}
	}
	p, err = m.Plan()
	return m, p, err
}

func (a *app) execNamed(ctx context.Context, name string, argv []string, noTTY bool) error {
	m, p, err := a.running(ctx, name)
	if err != nil {
		return err
	}
	code, err := a.execIn(m, p, argv, noTTY)
	if err != nil {
		return err
	}
	return exitCode(code)
}

// errLost is wrapped by the error for a machine that ended under a command.
var errLost = errors.New("the machine was lost")

// execIn runs argv, or a shell, in the machine m on our own standard streams,
// and returns its exit code.
func (a *app) execIn(m state.Machine, p plan.Plan, argv []string, noTTY bool) (int, error) {
	req := &wire.Exec{Argv: argv, Dir: p.Dir()}
	if len(argv) == 0 {
		req.Argv = []string{p.Guest.User.Shell}
	}
	return a.execRequest(m, req, noTTY)
}

// execRequest runs what req says on our own standard streams.
func (a *app) execRequest(m state.Machine, req *wire.Exec, noTTY bool) (int, error) {
	stream, err := control.OpenGuest(m)
	if err != nil {
		return 0, runError{err, exitMayfly}
	}
	defer stream.Close()
	in, err := newInput(a.In)
	if err != nil {
		return 0, runError{err, exitMayfly}
	}
	defer in.stop()
	stdio := client.Stdio{Stdin: in, Stdout: a.Out, Stderr: a.Err}
	if !noTTY && isTerminal(a.In) && isTerminal(a.Out) {
		restore, err := a.attachTerminal(req, &stdio)
		if err != nil {
			return 0, err
		}
		defer restore()
	}
	sigs := make(chan os.Signal, 8)
	numbers := make(chan byte, giveUpAfter) // a guest that does not read must not keep us from giving up
	done := make(chan struct{})
	defer close(done)
	stdio.Signals = numbers
	a.signals.forwardTo(sigs)
	defer a.signals.forwardTo(nil)
	go forwardSignals(sigs, numbers, done, func() { stream.Close() })

	code, err := client.Exec(stream, req, stdio)
	if err != nil {
		return 0, guestError(err)
	}
	return code, nil
}

// guestError gives the error of a guest's command its exit code.
func guestError(err error) error {
	var refused *client.GuestError
	switch {
	case fault.CodeOf(err) == fault.CommandNotFound:
		return runError{err, exitMissing}
	case errors.As(err, &refused):
		return runError{err, exitCannot}
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, os.ErrClosed):
		return runError{fmt.Errorf("%w: %w", errLost, err), exitMayfly}
	}
	return runError{err, exitMayfly}
}

// giveUpAfter is the number of signals after which a command that does not end
// is left to itself.
const giveUpAfter = 3

// forwardSignals hands the signals that we get to the guest's command.
func forwardSignals(sigs <-chan os.Signal, to chan<- byte, done <-chan struct{}, giveUp func()) {
	for n := 1; ; n++ {
		select {
		case <-done:
			return
		case sig := <-sigs:
			if n >= giveUpAfter {
				giveUp()
				return
			}
			select {
			case to <- byte(sig.(syscall.Signal)):
			case <-done:
				return
			}
		}
	}
}

// attachTerminal makes our terminal the command's.
func (a *app) attachTerminal(req *wire.Exec, stdio *client.Stdio) (restore func(), err error) {
	in := int(a.In.Fd())
	size := func() wire.Winsize {
		cols, rows, err := term.GetSize(in)
		if err != nil {
			cols, rows = 80, 24
		}
		return wire.Winsize{Rows: uint16(rows), Cols: uint16(cols)}
	}
	ws := size()
	req.TTY = &ws
	if name := a.getenv("TERM"); name != "" {
		req.Env = append(req.Env, "TERM="+name)
		if data := findTerminfo(name, a.getenv("HOME")); data != nil {
			req.Terminfo = &wire.Terminfo{Name: name, Data: data}
		}
	}
	if v := a.getenv("COLORTERM"); v != "" {
		req.Env = append(req.Env, "COLORTERM="+v)
	}
	old, err := term.MakeRaw(in)
	if err != nil {
		return nil, fmt.Errorf("set up the terminal: %w", err)
	}
	winch := make(chan os.Signal, 1)
	signal.Notify(winch, syscall.SIGWINCH)
	sizes := make(chan wire.Winsize, 1)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-winch:
			case <-done:
				return
			}
			select {
			case sizes <- size():
			case <-done:
				return
			}
		}
	}()
	stdio.Resize = sizes
	return func() {
		signal.Stop(winch)
		close(done)
		term.Restore(in, old)
	}, nil
}

// findTerminfo returns the host's description of the terminal name, which the
// image may not know, term(5).
func findTerminfo(name, home string) []byte {
	if strings.ContainsAny(name, "/\x00") || name[0] == '.' {
		return nil
	}
	for _, dir := range []string{filepath.Join(home, ".terminfo"), "/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo"} {
		for _, sub := range []string{name[:1], fmt.Sprintf("%x", name[0])} {
			f, err := os.Open(filepath.Join(dir, sub, name))
			if err != nil {
				continue
			}
			data, err := io.ReadAll(io.LimitReader(f, 32<<10))
			f.Close()
			if err == nil {
				return data
			}
		}
	}
	return nil
}
