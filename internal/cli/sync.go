package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// syncOptions are the flags of mayfly sync.
type syncOptions struct {
	dryRun bool
}

func (a *app) syncCommand() *cobra.Command {
	var o syncOptions
	cmd := &cobra.Command{
		Use:   "sync NAME",
		Short: "Send your newer edits into a running machine",
		Long: `Send into a running machine what you changed in the directory of its workspace
since it was copied, or since the last sync. The machine keeps running.

A file that the machine changed, too, is a conflict: mayfly leaves it alone in
the machine and reports it, and the exit code is 1. What was sent is no change
of the machine: mayfly diff and mayfly apply leave it out.

Files come with the time of the sync, so that build tools see that they are new.
What is excluded from the copy is not sent. Files that git ignores are. Nothing
in .git is sent: your commits stay here, and their files are sent as edits.`,
		Example: `  mayfly sync web
  mayfly sync web --dry-run`,
		Args:              takes(1, 1),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.sync(cmd.Context(), args[0], o)
		},
	}
	a.jsonFlag(cmd)
	cmd.Flags().BoolVarP(&o.dryRun, "dry-run", "n", false, "list what would be sent, and send nothing")
	return cmd
}

func (a *app) sync(ctx context.Context, name string, o syncOptions) error {
	m, err := a.machine(ctx, name)
	if err != nil {
		return err
	}
	res, err := m.Sync(ctx, mayfly.SyncOptions{DryRun: o.dryRun})
	if a.json && err == nil {
		err = a.printJSON(res)
	} else {
		a.synced(name, res, o, err)
	}
	if err == nil && len(res.Conflicts) > 0 {
		err = exitCode(exitError)
	}
	return err
}

// mostSynced is how many paths that were sent are named.
const mostSynced = 20

// synced tells what became of a sync, which ended with an error or without one.
func (a *app) synced(name string, res mayfly.SyncResult, o syncOptions, err error) {
	for i, s := range res.Sent {
		if i == mostSynced && !o.dryRun {
			fmt.Fprintf(a.Out, "and %d more\n", len(res.Sent)-i)
			break
		}
		fmt.Fprintln(a.Out, s)
	}
	for _, note := range res.Notes {
		a.note("%s", note)
	}
	for _, c := range res.Conflicts {
		a.note("not sent: %s", c)
	}
	switch n := len(res.Sent); {
	case n == 0 && len(res.Conflicts) == 0 && err == nil:
		a.note("%s has all that is in your directory", termsafe.Quote(name))
	case n > 0 && o.dryRun:
		a.note("%s would be sent to %s", plural(n, "1 path", "%d paths"), name)
	case n > 0:
		a.note("sent %s to %s", plural(n, "1 path", "%d paths"), name)
	}
	if len(res.Conflicts) > 0 {
		a.note("mayfly diff %s --patch PATH shows what the machine changed", name)
	}
}
