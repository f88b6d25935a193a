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
	cmd.Flags().BoolVar(&o.fresh, "fresh", false, "copy the workspace again and lose the changes that were not applied")
}

func (a *app) startCommand() *cobra.Command {
	var o startOptions
	cmd := &cobra.Command{
		Use:   "start [flags] NAME…",
		Short: "Start named machines",
		Long: `Start machines that mayfly new defined, and return when they can be used. A
machine that already runs is left alone. If another command is starting it,
mayfly waits.

With --foreground, mayfly stays until the machine ends, stops it on SIGTERM or
SIGINT, and fails if the machine fails. systemd runs machines this way.`,
		Args:              takes(1, anyNumber),
		ValidArgsFunction: a.completeNamed,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.foreground {
				if len(args) != 1 {
					return usageError{errors.New("--foreground takes one machine")}
				}
				return a.foreground(cmd.Context(), args[0], o)
			}
			return a.each(args, func(name string) error { return a.startDefined(cmd.Context(), name, o) })
		},
	}
	o.register(cmd)
	cmd.Flags().BoolVar(&o.foreground, "foreground", false, "stay in the foreground until the machine ends, as a service")
	return cmd
}

// startDefined starts the machine name unless it runs.
func (a *app) startDefined(ctx context.Context, name string, o startOptions) error {
	started, err := a.client.StartDefined(ctx, name, o.fresh)
	if err != nil {
		return err
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
		return err
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
	if err := m.Stop(); err != nil {
		a.printError(err, false) // the signal is not why it failed
		return exitCode(exitError)
	}
	return nil
}

func (a *app) stopCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stop NAME…",
		Short: "Stop named machines",
		Long: `Stop machines. mayfly asks their programs to end, then powers the machines off,
and kills what does not end within seconds. Volumes and changes that were not
applied stay; mayfly inspect lists them.`,
		Args:              takes(1, anyNumber),
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
		Long: `Stop machines and start them again with their current files and images. A
machine that could not be started is not stopped.`,
		Args:              takes(1, anyNumber),
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
		Short: "Discard what machines have written, and keep their definitions",
		Long: `Stop machines and discard what they have written: volumes, changes that were not
applied, the state of their coding agents, and the history of their shells.
Definition, address and SSH host key stay. The workspace's directory is not
touched.`,
		Args:              takes(1, anyNumber),
		ValidArgsFunction: a.completeNamed,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.each(args, a.client.Reset)
		},
	}
}
