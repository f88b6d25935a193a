package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/sdnotify"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// startOptions are the flags of mayfly start and restart.
type startOptions struct {
	fresh      bool
	foreground bool
}

func (o *startOptions) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.fresh, "fresh", false, "copy the workspace anew: changes that were not applied are lost")
}

func (a *app) startCommand() *cobra.Command {
	var o startOptions
	cmd := &cobra.Command{
		Use:   "start [flags] NAME…",
		Short: "Start machines that mayfly new made",
		Long: `Start machines that mayfly new made, and return when they can be used. A machine
that runs already is left alone, and one that is being started is waited for.

With --foreground it stays until the machine ends, stops it when it gets SIGTERM
or SIGINT, and fails if the machine does: this is how systemd runs it.`,
		Args:              usageArgs(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.completeNamed,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.foreground {
				if len(args) != 1 {
					return usageError{errors.New("--foreground is for one machine")}
				}
				return a.foreground(cmd.Context(), args[0], o)
			}
			return a.each(args, func(name string) error {
				_, err := a.startNamed(cmd.Context(), name, o)
				return err
			})
		},
	}
	o.register(cmd)
	cmd.Flags().BoolVar(&o.foreground, "foreground", false, "stay until the machine ends, as a service does")
	return cmd
}

// each does f for all names, and joins the errors.
func (a *app) each(names []string, f func(name string) error) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, f(name))
	}
	return errors.Join(errs...)
}

// startNamed starts the machine name unless it runs. One that another command starts is
// waited for.
func (a *app) startNamed(ctx context.Context, name string, o startOptions) (state.Machine, error) {
	d, err := a.definition(name)
	if err != nil {
		return state.Machine{}, err
	}
	m, running, err := a.settleEnding(name)
	if err != nil {
		return m, err
	}
	if !running {
		owner, err := a.launch(ctx, d, o)
		if err == nil {
			return m, a.keepNamed(owner)
		}
		if !errors.Is(err, state.ErrTaken) {
			return m, err
		}
		// Somebody was faster.
	}
	if err := a.waitStarted(ctx, m); err != nil {
		return m, err
	}
	a.note("%s runs already", name)
	return m, nil
}

// keepNamed lets a machine that was started outlive its owner.
func (a *app) keepNamed(owner *control.Owner) error {
	if err := owner.Keep(); err != nil {
		owner.Close()
		return err
	}
	name := owner.Machine.Name
	a.note("%s runs: mayfly shell %s, mayfly stop %s", name, name, name)
	return nil
}

// waitStarted waits until the machine m can be used, which somebody else has started or
// is starting. If that comes to nothing it is an error, and the machine is not started
// from here: it may have been stopped on purpose.
func (a *app) waitStarted(ctx context.Context, m state.Machine) error {
	p, err := m.Plan()
	if err != nil && m.Alive() {
		return err
	}
	limit := control.StartTimeout(p)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, hint.Errorf("mayfly logs "+m.Name+", or mayfly stop "+m.Name,
		"another command has been starting %s for %v", m.Name, limit))
	defer cancel()
	progress := a.newProgress()
	defer progress.stop()
	for said := false; ; said = true {
		// Until it is kept it ends with the command that starts it.
		switch st := m.Status(); {
		case st.Phase == state.Running && st.Kept:
			return nil
		case st.Phase == state.Dead:
			return hint.Errorf("mayfly start "+m.Name, "%s does not run: the command that was starting it gave up", m.Name)
		}
		if !said {
			progress.step("waiting for "+m.Name+", which another command starts", true)
		}
		select {
		case <-ctx.Done():
			return a.interrupted(context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// launch starts the machine of d, which does not run. The machine ends with its owner
// unless that keeps it.
func (a *app) launch(ctx context.Context, d definition.Definition, o startOptions) (*control.Owner, error) {
	p, err := a.planNamed(ctx, d)
	if err != nil {
		return nil, err
	}
	if p.Workspace.Path != "" {
		if err := workspace.Check(p.Workspace.Path); err != nil {
			return nil, usageError{err}
		}
	}
	store, err := a.images()
	if err != nil {
		return nil, err
	}
	secrets, err := a.secrets(ctx, p)
	if err != nil {
		return nil, err
	}
	for _, note := range p.Notes {
		a.note("%s", note)
	}
	machines, err := a.machines()
	if err != nil {
		return nil, err
	}
	progress := a.newProgress()
	defer progress.stop()
	img, err := store.Ensure(ctx, p.Image, progress.image)
	if err != nil {
		return nil, a.interrupted(err)
	}
	var prepare func() error
	if o.fresh {
		prepare = d.ResetCopy // not of a machine that somebody else has started meanwhile
	}
	owner, err := a.start(machines, p, img, secrets, prepare)
	if err != nil {
		return nil, err
	}
	if err := owner.Ready(ctx, progress.machine); err != nil {
		owner.Close()
		return nil, a.interrupted(err)
	}
	if err := a.seedAgents(ctx, owner.Machine, p); err != nil {
		a.note("the agents may ask for settings: %v", err)
	}
	return owner, nil
}

// foreground starts a machine and stays until it ends.
func (a *app) foreground(ctx context.Context, name string, o startOptions) error {
	d, err := a.definition(name)
	if err != nil {
		return err
	}
	_, running, err := a.settleEnding(name)
	if err != nil {
		return err
	}
	if running {
		return errForeign(name)
	}
	manager, err := sdnotify.New(a.getenv)
	if err != nil {
		return err
	}
	// Nobody waits for who does not listen: what goes wrong is only worth a line.
	tell := func(lines ...string) {
		if err := manager.Send(lines...); err != nil {
			a.note("tell the service manager: %v", err)
		}
	}
	tell(sdnotify.Status("starting"))
	owner, err := a.launch(ctx, d, o)
	if errors.Is(err, state.ErrTaken) {
		return errForeign(name)
	}
	if err != nil {
		return err
	}
	// Kept, so that its end is the whole ladder.
	if err := owner.Keep(); err != nil {
		owner.Close()
		return err
	}
	a.note("%s runs", name)
	tell(sdnotify.Ready, sdnotify.Status("running"))
	err = owner.Wait(ctx)
	tell(sdnotify.Stopping, sdnotify.Status("stopping"))
	if ctx.Err() == nil {
		if err == nil {
			a.note("%s was stopped", name)
		}
		return err
	}
	a.note("%s is being stopped", name)
	return control.Stop(owner.Machine)
}

// errForeign says that the machine name was started by somebody else than its service.
func errForeign(name string) error {
	return hint.Errorf("mayfly stop "+name, "%s runs already, and not as a part of this service", name)
}

func (a *app) stopCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stop NAME…",
		Short: "Stop machines that mayfly new made",
		Long: `Stop machines: their programs are asked to end, then the machine is, and what
does not end within seconds is killed. What a machine keeps stays, also what it
changed in its workspace and was not applied: mayfly inspect lists it.`,
		Args:              usageArgs(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.completeNamed,
		RunE:              func(_ *cobra.Command, args []string) error { return a.each(args, a.stopNamed) },
	}
}

// stopNamed stops the machine name if it runs.
func (a *app) stopNamed(name string) error {
	machines, err := a.machines()
	if err != nil {
		return err
	}
	m := machines.At(name)
	if _, err := a.definition(name); err != nil {
		if _, runErr := machines.Get(name); runErr != nil {
			return err
		}
		return hint.Errorf("mayfly rm "+name, "%s keeps nothing when it is stopped: mayfly run made it", name)
	}
	if !m.Alive() {
		a.note("%s does not run", name)
		_, _, err := a.settle(name)
		return err
	}
	if m.Status().Phase == state.Starting {
		// It has nothing to save yet, and does not listen.
		control.Kill(m)
		for range 200 {
			if _, running, err := a.settle(name); err != nil || !running {
				return err
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	if err := control.Stop(m); err != nil && m.Alive() {
		return hint.Wrap(err, "mayfly rm --force "+name)
	}
	return nil
}

func (a *app) restartCommand() *cobra.Command {
	var o startOptions
	cmd := &cobra.Command{
		Use:   "restart [flags] NAME…",
		Short: "Stop machines and start them again",
		Long: `Stop machines and start them again, with what their files and their images are
now.`,
		Args:              usageArgs(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.completeNamed,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, func(name string) error {
				// What cannot start is not stopped.
				d, err := a.definition(name)
				if err != nil {
					return err
				}
				if _, err := a.planNamed(cmd.Context(), d); err != nil {
					return err
				}
				if err := a.stopNamed(name); err != nil {
					return err
				}
				_, err = a.startNamed(cmd.Context(), name, o)
				return err
			})
		},
	}
	o.register(cmd)
	return cmd
}

func (a *app) resetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reset NAME…",
		Short: "Throw away what machines have written, and keep their definition",
		Long: `Stop machines and throw away what they have written: volumes, changes of the
workspace that were not applied, the state of their agents, and the history of
their shells. Definition, address and SSH host key stay; the workspace's
directory is not touched. The next start begins clean.`,
		Args:              usageArgs(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.completeNamed,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.each(args, func(name string) error {
				d, err := a.definition(name)
				if err != nil {
					return err
				}
				if err := a.stopNamed(name); err != nil {
					return err
				}
				release, err := a.holdName(name)
				if err != nil {
					return err
				}
				defer release()
				store, err := a.definitions()
				if err != nil {
					return err
				}
				if err := a.saveTranscripts(store, name); err != nil {
					return err
				}
				return d.Reset()
			})
		},
	}
}

// holdName keeps the machine name, which does not run, from being started.
func (a *app) holdName(name string) (release func(), err error) {
	machines, err := a.machines()
	if err != nil {
		return nil, err
	}
	if _, _, err := a.settle(name); err != nil {
		return nil, err
	}
	m, lock, err := machines.Create(plan.Plan{Version: plan.Version, Name: name})
	if err != nil {
		return nil, err
	}
	return func() {
		if err := m.Remove(); err != nil {
			a.note("%v", err)
		}
		lock.Release()
	}, nil
}
