package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
)

func (a *app) updateCommand() *cobra.Command {
	var timer bool
	cmd := &cobra.Command{
		Use:   "update [flags] [NAME…]",
		Short: "Rebuild images with the newest packages and coding agents",
		Long: `Rebuild the images of machines with the newest packages of Debian and the newest
coding agents, and list what has changed. Without a name, update all machines.
Running machines keep their image until you restart them; mayfly ls calls it
stale.

The versions of coding agents and their hashes are in agents.lock.json, beside
the configuration. If a step fails, everything stays as it was.

With --timer, systemd updates each day; see mayfly systemd timer.`,
		Args:              takes(0, anyNumber),
		ValidArgsFunction: a.completeNamed,
		RunE: func(cmd *cobra.Command, args []string) error {
			if timer {
				return a.systemdTimer(cmd.Context(), systemdOptions{})
			}
			return a.update(cmd.Context(), args)
		},
	}
	cmd.Flags().BoolVar(&timer, "timer", false, "install a systemd timer that updates each day")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) update(ctx context.Context, names []string) error {
	if len(names) == 0 {
		_, defined, err := a.client.Names()
		if err != nil {
			return err
		}
		if len(defined) == 0 {
			a.note("no machine is defined; mayfly new defines one")
			if a.json {
				return a.printJSON([]mayfly.VersionChange{})
			}
			return nil
		}
	}
	changes, err := a.client.Update(ctx, names...)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(changes)
	}
	for _, change := range changes {
		fmt.Fprintln(a.Out, change)
	}
	if len(changes) == 0 {
		a.note("everything is up to date")
	}
	return a.nameStale(ctx)
}

// nameStale says which machines run with an older image.
func (a *app) nameStale(ctx context.Context) error {
	rows, err := a.rows(ctx)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.Image == mayfly.ImageStale {
			a.note("%s runs with its old image until mayfly restart %s", r.Name, r.Name)
		}
	}
	return nil
}
