package cli

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/state"
)

func (a *app) rmCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [--force] NAME…",
		Short: "End machines and remove them, with everything in them",
		Long: `End machines and remove them, with everything in them: what they changed and
was not applied, volumes, the state of agents, and the file of a machine that
mayfly new made. Your directories stay as they are.

With --force the machine is not asked to power off: its supervisor is killed.`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			return a.completeAll(cmd, args, prefix)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return a.each(args, func(name string) error { return a.remove(name, force) })
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill the machine in place of asking it to end")
	return cmd
}

// remove ends the machine name, and removes what there is of it.
func (a *app) remove(name string, force bool) error {
	machines, err := a.machines()
	if err != nil {
		return err
	}
	store, err := a.definitions()
	if err != nil {
		return err
	}
	runErr := removeMachine(machines, name, force)
	if runErr != nil && !errors.Is(runErr, state.ErrNotFound) {
		return runErr
	}
	d := store.At(name)
	if _, err := os.Lstat(d.Path); err != nil {
		if _, err := os.Lstat(d.Dir); err != nil || !naming.Valid(name) {
			return runErr // it has no definition
		}
	}
	release, err := a.holdName(name)
	if err != nil {
		return err
	}
	defer release()
	if err := a.saveTranscripts(store, name); err != nil {
		return err
	}
	return store.Remove(name)
}

// saveTranscripts keeps what a machine's agents said, and says where.
func (a *app) saveTranscripts(store definition.Store, name string) error {
	path, err := store.SaveTranscripts(name, time.Now())
	if path != "" {
		a.note("the transcripts of its agents are in %s", path)
	}
	return err
}

func removeMachine(machines state.Store, name string, force bool) error {
	m, err := machines.Get(name)
	if err != nil {
		return err
	}
	if m.Alive() {
		// One that is being started has nothing to save yet, and does not listen.
		if force || m.Status().Phase == state.Starting {
			control.Kill(m)
		} else if err := control.Stop(m); err != nil && m.Alive() {
			return hint.Wrap(err, "mayfly rm --force "+name)
		}
	}
	for range 100 {
		// A supervisor that ends in order removes its machine itself.
		err = control.Remove(m)
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
more, and of machines that are gone the records of networks and the transcripts
of agents that are older than 30 days. Running machines and images are not
touched; mayfly image rm removes an image.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			machines, err := a.machines()
			if err != nil {
				return err
			}
			removed, err := control.Collect(machines)
			for _, name := range removed {
				fmt.Fprintln(a.Out, "removed machine "+name)
			}
			records, recordErr := machines.CollectAudits(time.Now())
			for _, name := range records {
				fmt.Fprintln(a.Out, "removed the record of machine "+name)
			}
			return errors.Join(err, recordErr, a.collectKept(), a.prune(cmd.Context(), false))
		},
	}
}

// collectKept removes what machines with names have left: half of what was kept, and
// transcripts that are too old.
func (a *app) collectKept() error {
	store, err := a.definitions()
	if err != nil {
		return err
	}
	transcripts, err := store.CollectTranscripts(time.Now())
	for _, name := range transcripts {
		fmt.Fprintln(a.Out, "removed the transcripts "+name)
	}
	return errors.Join(err, store.Collect())
}
