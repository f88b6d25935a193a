package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/sdnotify"
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
			return a.each(args, func(name string) error { return a.startDefined(cmd.Context(), name, o) })
		},
	}
	o.register(cmd)
	cmd.Flags().BoolVar(&o.foreground, "foreground", false, "stay until the machine ends, as a service does")
	return cmd
}

// startDefined starts the machine name unless it runs.
func (a *app) startDefined(ctx context.Context, name string, o startOptions) error {
	started, err := a.client.StartDefined(ctx, name, o.fresh)
	if err != nil {
		return a.interrupted(err)
	}
	if started {
		a.note("%s runs: mayfly shell %s, mayfly stop %s", name, name, name)
	}
	return nil
}

// foreground starts a machine and stays until it ends.
func (a *app) foreground(ctx context.Context, name string, o startOptions) error {
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
	m, err := a.client.Serve(ctx, name, o.fresh)
	if err != nil {
		return a.interrupted(err)
	}
	a.note("%s runs", name)
	tell(sdnotify.Ready, sdnotify.Status("running"))
	err = m.Wait(ctx)
	tell(sdnotify.Stopping, sdnotify.Status("stopping"))
	if ctx.Err() == nil {
		if err == nil {
			a.note("%s was stopped", name)
		}
		return err
	}
	a.note("%s is being stopped", name)
	return m.Stop()
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
		RunE:              func(_ *cobra.Command, args []string) error { return a.each(args, a.stop) },
	}
}

// stop stops the machine name if it runs.
func (a *app) stop(name string) error {
	ran, err := a.client.Stop(name)
	if err == nil && !ran {
		a.note("%s does not run", name)
	}
	return err
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
				if err := a.client.CheckStart(cmd.Context(), name); err != nil {
					return err
				}
				if err := a.stop(name); err != nil {
					return err
				}
				return a.startDefined(cmd.Context(), name, o)
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
			return a.each(args, a.client.Reset)
		},
	}
}
