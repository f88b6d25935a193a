package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

// viewing is how a session is shown.
type viewing struct {
	readOnly bool
	detach   terminal.DetachKeys
	paste    terminal.DetachKeys
}

func (v *viewing) flags(cmd *cobra.Command) {
	v.detach = terminal.DetachKeys(terminal.DefaultDetachKeys)
	cmd.Flags().Var(&v.detach, "detach-keys", "keys that leave the session, such as ctrl-p,ctrl-q")
	v.paste = terminal.DetachKeys(terminal.DefaultPasteKeys)
	cmd.Flags().Var(&v.paste, "paste-keys", "keys that paste the picture or the files on your clipboard")
}

func (a *app) attachCommand() *cobra.Command {
	var v viewing
	var end bool
	cmd := &cobra.Command{
		Use:   "attach [flags] [NAME [SESSION]]",
		Short: "Show the session of a coding agent, or end it",
		Long: `Show the session of a coding agent, or another session, of a machine. It keeps
running when you close the terminal or type Ctrl-] twice. Several terminals can
show one session, which then has the size of the smallest. The exit code is that
of the session's program.

Without NAME, mayfly shows the session that has waited for you the longest: one
that needs an answer or a permission before one that is done.

A picture whose path you paste, or that you drop on the terminal, is put into
the machine, and the program gets its path there. Ctrl-] and v do so with the
picture or the files on your clipboard.

With --end, mayfly closes the terminal of the program, asks the program to end,
and kills it after some seconds. The machine keeps running.`,
		Example: `  mayfly attach
  mayfly attach run-3f9a2c
  mayfly attach --read-only run-3f9a2c claude
  mayfly attach --end run-3f9a2c`,
		Args:              takes(0, 2),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && end {
				return usageError{errors.New("--end needs the name of a machine")}
			}
			if len(args) == 0 {
				return a.attachLongest(cmd.Context(), v)
			}
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
	a.rawFlag(cmd.Flags())
	cmd.Flags().BoolVar(&v.readOnly, "read-only", false, "show the session and send it no input")
	cmd.Flags().BoolVar(&end, "end", false, "end the session")
	return cmd
}

func (a *app) attach(ctx context.Context, name, wanted string, v viewing) error {
	m, err := a.runningMachine(ctx, name)
	if err != nil {
		return err
	}
	if wanted == "" {
		if wanted, err = m.PickSession(ctx); err != nil {
			if code := errorCode(err); code == "session-none" || code == "session-ambiguous" {
				return err
			}
			return commandFailed(err)
		}
	}
	return a.view(ctx, m, mayfly.View{Name: wanted, ReadOnly: v.readOnly}, v)
}

// attached is a session that runs in a machine.
type attached struct {
	machine string
	session mayfly.Session
}

// waiters returns the sessions that run, and those of them that wait for their user, the
// one first that has waited the longest. What needs an answer comes before what is done.
func waiters(list []mayfly.Info) (running, waiting []attached) {
	asks := func(s mayfly.Session) bool {
		return s.State == mayfly.SessionNeedsAnswer || s.State == mayfly.SessionNeedsPermission
	}
	for _, i := range list {
		for _, s := range i.Sessions {
			if s.Exited {
				continue
			}
			running = append(running, attached{i.Name, s})
			if asks(s) || s.State == mayfly.SessionDone {
				waiting = append(waiting, attached{i.Name, s})
			}
		}
	}
	slices.SortStableFunc(waiting, func(x, y attached) int {
		if asks(x.session) != asks(y.session) {
			if asks(x.session) {
				return -1
			}
			return 1
		}
		return x.session.Since.Compare(y.session.Since)
	})
	return running, waiting
}

// longest returns the session that has waited for its user the longest, or the only one,
// and how many wait.
func (a *app) longest(ctx context.Context) (to attached, wait int, err error) {
	list, err := a.client.List(ctx)
	if err != nil {
		return attached{}, 0, err
	}
	running, waiting := waiters(list)
	switch {
	case len(waiting) > 0:
		to = waiting[0]
	case len(running) == 1:
		to = running[0]
	case len(running) == 0:
		err = hint.Errorf("mayfly agent NAME", "no agent works in any machine")
	default:
		err = hint.Errorf("mayfly ls, then mayfly attach NAME", "%d agents work, and none waits for you", len(running))
	}
	return to, len(waiting), err
}

// attachLongest shows the session that has waited for its user the longest, or the only
// one.
func (a *app) attachLongest(ctx context.Context, v viewing) error {
	to, wait, err := a.longest(ctx)
	if err != nil {
		return err
	}
	more := ""
	if n := wait - 1; n > 0 {
		more = fmt.Sprintf("; %d more wait", n)
	}
	a.note("%s in %s %s%s", to.session.Name, to.machine, words.SessionState(to.session, time.Now()), more)
	return a.attach(ctx, to.machine, to.session.Name, v)
}

// endTimeout is more than a guest takes to end a session.
const endTimeout = 15 * time.Second

// endSession ends a session of the machine name, which is not started for that.
func (a *app) endSession(ctx context.Context, name, wanted string) error {
	m, err := a.machine(ctx, name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, endTimeout, hint.Errorf("mayfly stop "+m.Name(), "end a session of %s: no answer", m.Name()))
	defer cancel()
	if wanted == "" {
		if wanted, err = m.PickSession(ctx); err != nil {
			return hint.Wrap(err, "mayfly ls, or mayfly attach --end "+m.Name()+" SESSION")
		}
	}
	var before mayfly.Session
	code, err := m.View(ctx, mayfly.View{Name: wanted, End: true, ReadOnly: true}, func(s mayfly.Session) { before = s })
	switch {
	case errorCode(err) == "command-refused":
		return hint.Errorf("mayfly ls", "machine %s: %w", m.Name(), err)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case before.Exited:
		a.note("%s had already ended in %s, with exit code %d", wanted, m.Name(), code)
	case code == 128+int(syscall.SIGKILL):
		a.note("%s was killed in %s: it did not end by itself", wanted, m.Name())
	default:
		a.note("%s has ended in %s", wanted, m.Name())
	}
	return nil
}

// view shows a session on our own standard streams until its program ends, the
// user detaches, or we are told to end; only the first ends the session.
func (a *app) view(ctx context.Context, m *mayfly.Machine, what mayfly.View, v viewing) error {
	var info mayfly.Session
	begun := func(s mayfly.Session) { info = s }
	attachWords := func() string { return m.Name() + " " + info.Name }
	if what.Detached {
		if _, err := m.View(ctx, what, begun); err != nil {
			return commandFailed(err)
		}
		if !info.New {
			a.note("%s works in %s already; mayfly attach %s", info.Name, m.Name(), attachWords())
			return nil
		}
		a.note("%s works in %s; mayfly attach %s shows it", info.Name, m.Name(), attachWords())
		return nil
	}

	in, err := terminal.NewInput(a.In)
	if err != nil {
		return runError{err, exitMayfly}
	}
	defer in.Stop()
	viewed, leaveView := context.WithCancel(ctx)
	defer leaveView()
	what.Cmd.Stdin, what.Cmd.Stdout = in, a.Out
	var detached atomic.Bool
	leave := func(bool) {}
	if terminal.Is(a.In) && terminal.Is(a.Out) {
		restore, err := a.attachTerminal(&what.Cmd)
		if err != nil {
			return runError{err, exitMayfly}
		}
		keys := &terminal.DetachReader{From: in, Keys: v.detach, Detach: func() {
			detached.Store(true)
			leaveView()
		}}
		what.Cmd.Stdin = keys
		shown := terminal.NewShown(a.Out)
		what.Cmd.Stdout = shown
		if a.raw {
			leave = func(ended bool) {
				shown.Leave(ended)
				restore()
			}
		} else {
			guard := terminal.NewGuard(shown, m.Name(), m.Plan().Workspace)
			quiet := func() {}
			if !v.readOnly {
				keys.PasteKeys = v.paste
				paths, err := a.client.PastePictures() // a file that cannot be read allows nothing
				what.Cmd.Stdin, quiet = pastes(viewed, keys, m, guard, a.getenv, paths && err == nil)
			}
			what.Cmd.Stdin, what.Cmd.Stdout = guard.Input(what.Cmd.Stdin), guard
			what.Cmd.Attended = a.attended()
			a.drawn.Store(guard)
			leave = func(ended bool) {
				a.drawn.Store(nil)
				quiet()
				guard.Tidy()
				shown.Leave(ended)
				in.Stop() // it would read the answers that are drained
				guard.Drain(a.In)
				restore()
				a.noteClipboard(guard, m)
			}
		}
	}
	code, err := m.View(viewed, what, begun)
	leaveView()
	leave(err == nil)
	switch {
	case err == nil:
		return exitCode(code)
	case info.Name != "" && (detached.Load() || ctx.Err() != nil):
		a.note("%s goes on; mayfly attach %s", info.Name, attachWords())
		a.detached = detached.Load()
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return commandFailed(err)
}
