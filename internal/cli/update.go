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
		Short: "Build the images of machines anew, with the newest packages and agents",
		Long: `Build the images of machines, of all without a name, anew with the newest
packages of Debian and the newest agents, and list what has changed. Machines
that run keep their image until they are restarted; mayfly ls calls it stale.

The versions of agents are pinned, with their hashes, in agents.lock.json beside
the configuration. If anything fails, everything stays as it was.

With --timer systemd does that each day; mayfly systemd timer has more.`,
		Args:              usageArgs(cobra.ArbitraryArgs),
		ValidArgsFunction: a.completeNamed,
		RunE: func(cmd *cobra.Command, args []string) error {
			if timer {
				return a.systemdTimer(cmd.Context(), systemdOptions{})
			}
			return a.update(cmd.Context(), args)
		},
	}
	cmd.Flags().BoolVar(&timer, "timer", false, "install a timer of systemd that updates each day")
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
		return a.interrupted(err)
	}
	if a.json {
		return a.printJSON(changes)
	}
	for _, change := range changes {
		fmt.Fprintln(a.Out, change)
	}
	if len(changes) == 0 {
		a.note("everything is of the newest version")
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
