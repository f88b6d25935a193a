package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/supervisor"
)

func (a *app) rmCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [--force] NAME…",
		Short: "End machines and remove them, with everything in them",
		Long: `End machines and remove them, with everything in them. What they changed and
was not applied is lost.

With --force the machine is not asked to power off: its supervisor is killed.`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			return a.completeMachines(cmd, nil, prefix)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			machines, err := a.machines()
			if err != nil {
				return err
			}
			var errs []error
			for _, name := range args {
				errs = append(errs, removeMachine(machines, name, force))
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill the machine in place of asking it to end")
	return cmd
}

func removeMachine(machines state.Store, name string, force bool) error {
	m, err := machines.Get(name)
	if err != nil {
		return err
	}
	if m.Alive() {
		if force {
			supervisor.Kill(m)
		} else if err := supervisor.Stop(m); err != nil && m.Alive() {
			return hint.Wrap(err, "mayfly rm --force "+name)
		}
	}
	for range 100 {
		// A supervisor that ends in order removes its machine itself.
		err = supervisor.Remove(m)
		if errors.Is(err, state.ErrNotFound) {
			return nil
		}
		if !errors.Is(err, state.ErrAlive) {
			return err
		}
		time.Sleep(20 * time.Millisecond) // it is ending
	}
	return hint.Wrap(err, "mayfly rm --force "+name)
}

func (a *app) gcCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "gc",
		Short: "Remove what crashed or killed processes left behind",
		Long: `Remove what crashed or killed processes left behind: dead machines, temporary
files of interrupted applies and builds, parts of images that no image has any
more, and records of networks that are older than 30 days. Running machines and
images are not touched; mayfly image rm removes an image.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			machines, err := a.machines()
			if err != nil {
				return err
			}
			removed, err := supervisor.Collect(machines)
			for _, name := range removed {
				fmt.Fprintln(a.Out, "removed machine "+name)
			}
			records, recordErr := machines.CollectAudits(time.Now())
			for _, name := range records {
				fmt.Fprintln(a.Out, "removed the record of machine "+name)
			}
			return errors.Join(err, recordErr, a.prune(cmd.Context(), false))
		},
	}
}
