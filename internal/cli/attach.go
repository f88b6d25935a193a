package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/session"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// viewing is how a session is looked at.
type viewing struct {
	readOnly bool
	detach   detachKeys
}

func (v *viewing) flags(cmd *cobra.Command) {
	v.detach = detachKeys(defaultDetachKeys)
	cmd.Flags().Var(&v.detach, "detach-keys", "keys that leave the session, such as ctrl-p,ctrl-q")
}

func (a *app) attachCommand() *cobra.Command {
	var v viewing
	var end bool
	cmd := &cobra.Command{
		Use:   "attach [flags] NAME [SESSION]",
		Short: "Look at an agent that works in a machine, or end it",
		Long: `Look at an agent, or another session, that works in a machine. It goes on when
the terminal is closed; Ctrl-] twice leaves it, too. Several terminals may look
at one session, which is then as large as the smallest of them. When the program
ends, the exit code is its own.

With --end the program is told that its terminal is closed, then asked to end,
and killed when it has not within seconds. The machine runs on.`,
		Example: `  mayfly attach run-3f9a2c
  mayfly attach --read-only run-3f9a2c claude
  mayfly attach --end run-3f9a2c`,
		Args:              usageArgs(cobra.RangeArgs(1, 2)),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			wanted := strings.Join(args[1:], "")
			if wanted != "" && !naming.ValidSession(wanted) {
				return usageError{fmt.Errorf("%q is no session's name", wanted)}
			}
			if !end {
				return a.attach(cmd.Context(), args[0], wanted, v)
			}
			if v.readOnly {
				return usageError{errors.New("--end and --read-only exclude each other")}
			}
			return a.endSession(cmd.Context(), args[0], wanted)
		},
	}
	v.flags(cmd)
	cmd.Flags().BoolVar(&v.readOnly, "read-only", false, "only look on")
	cmd.Flags().BoolVar(&end, "end", false, "end the session, and do not look at it")
	return cmd
}

func (a *app) attach(ctx context.Context, name, wanted string, v viewing) error {
	m, err := a.runningMachine(ctx, name)
	if err != nil {
		return err
	}
	if wanted == "" {
		sessions, err := guestSessions(ctx, m, askTimeout)
		if err != nil {
			return runError{err, exitMayfly}
		}
		if wanted, err = pickSession(m, sessions); err != nil {
			return err
		}
	}
	return a.view(ctx, m, &wire.Session{Name: wanted, ReadOnly: v.readOnly}, v)
}

// endTimeout is more than a guest takes to end a session.
const endTimeout = 15 * time.Second

// endSession ends a session of the machine name, which is not started for that.
func (a *app) endSession(ctx context.Context, name, wanted string) error {
	m, err := a.machine(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, endTimeout, hint.Errorf("mayfly stop "+m.Name, "end a session of %s: no answer", m.Name))
	defer cancel()
	if wanted == "" {
		sessions, err := guestSessions(ctx, m, endTimeout)
		if err != nil {
			return err
		}
		if wanted, err = pickSession(m, sessions); err != nil {
			return hint.Wrap(err, "mayfly ls, or mayfly attach --end "+m.Name+" SESSION")
		}
	}
	stream, err := control.OpenGuest(m)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { stream.Close() })()
	var before wire.SessionInfo
	code, err := client.Session(stream, &wire.Session{Name: wanted, End: true, ReadOnly: true}, client.Stdio{Stdout: io.Discard},
		func(i wire.SessionInfo) { before = i })
	refused, isRefusal := errors.AsType[*client.GuestError](err)
	switch {
	case isRefusal:
		return hint.Errorf("mayfly ls", "machine %s: %w", m.Name, refused)
	case ctx.Err() != nil:
		return a.interrupted(context.Cause(ctx))
	case err != nil:
		return err
	case before.Exited:
		a.note("%s had ended in %s, with the exit code %d", wanted, m.Name, code)
	case code == 128+int(syscall.SIGKILL):
		a.note("%s was killed in %s: it did not end by itself", wanted, m.Name)
	default:
		a.note("%s has ended in %s", wanted, m.Name)
	}
	return nil
}

// pickSession chooses the session that is meant where none is named: the only
// one that runs, or else the only one.
func pickSession(m state.Machine, sessions []wire.SessionInfo) (string, error) {
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
		return "", hint.Errorf("mayfly agent "+m.Name, "no agent works in %s", m.Name)
	}
	return "", hint.Errorf("mayfly attach "+m.Name+" "+all[0], "%s has several sessions: %s", m.Name, strings.Join(all, ", "))
}

// view shows a session on our own standard streams until its program ends, the
// user detaches, or we are told to end; only the first ends the session.
func (a *app) view(ctx context.Context, m state.Machine, req *wire.Session, v viewing) error {
	stream, err := control.OpenGuest(m)
	if err != nil {
		return runError{err, exitMayfly}
	}
	defer stream.Close()
	defer context.AfterFunc(ctx, func() { stream.Close() })()
	var info wire.SessionInfo
	begun := func(i wire.SessionInfo) { info = i }
	if req.Detached {
		if _, err := client.Session(stream, req, client.Stdio{}, begun); err != nil {
			return guestError(err)
		}
		if !info.New {
			a.note("%s works in %s already; mayfly attach %s", info.Name, m.Name, attachWords(m, info))
			return nil
		}
		a.note("%s works in %s; mayfly attach %s shows it", info.Name, m.Name, attachWords(m, info))
		return nil
	}

	in, err := newInput(a.In)
	if err != nil {
		return runError{err, exitMayfly}
	}
	defer in.stop()
	stdio := client.Stdio{Stdin: in, Stdout: a.Out}
	var detached atomic.Bool
	leave := func() {}
	if isTerminal(a.In) && isTerminal(a.Out) {
		exec := req.Exec
		if exec == nil {
			exec = &wire.Exec{} // only for the terminal's size
		}
		restore, err := a.attachTerminal(exec, &stdio)
		if err != nil {
			return runError{err, exitMayfly}
		}
		req.TTY = exec.TTY
		stdio.Stdin = &detachReader{from: in, keys: v.detach, detach: func() {
			detached.Store(true)
			stream.Close()
		}}
		shown := &shownTerminal{to: a.Out}
		stdio.Stdout = shown
		leave = func() {
			shown.leave()
			restore()
		}
	}
	code, err := client.Session(stream, req, stdio, begun)
	leave()
	switch {
	case err == nil:
		return exitCode(code)
	case info.Name != "" && (detached.Load() || ctx.Err() != nil):
		a.note("%s goes on; mayfly attach %s", info.Name, attachWords(m, info))
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return guestError(err)
}

func attachWords(m state.Machine, i wire.SessionInfo) string { return m.Name + " " + i.Name }

// shownTerminal is our terminal while a session is shown on it.
type shownTerminal struct {
	to     io.Writer
	screen session.Screen
	used   bool
}

func (t *shownTerminal) Write(p []byte) (int, error) {
	if !t.used {
		t.used = true
		io.WriteString(t.to, "\x1b[22;2t") // keeps the window's title, where a terminal can
	}
	t.screen.Write(p)
	return t.to.Write(p)
}

// leave gives the terminal back, whatever the program made of it and wherever
// its output was cut off.
func (t *shownTerminal) leave() {
	if t.used {
		t.to.Write(append(t.screen.Leave(), "\x1b[23;2t"...))
	}
}
