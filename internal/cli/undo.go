package cli

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

func (a *app) undoCommand() *cobra.Command {
	var list bool
	cmd := &cobra.Command{
		Use:   "undo [--list] [NAME]",
		Short: "Take the last apply of a machine back",
		Long: `Take the last apply of a machine back, also when the machine is gone. Without
NAME, take the last apply to the current directory back.

What the apply replaced or deleted gets its place again, with its mode, times,
extended attributes and hard links. What it added is removed. A file that was
changed since is left alone and named; all others are taken back. So are the
branches that the apply made or moved on.

mayfly keeps the last apply of each directory for 30 days, and at most 1 GiB of
it. The changes stay in the machine, if it is still there.`,
		Args: takes(0, 1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return a.undoNames(args), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if list {
				return a.listUndos()
			}
			u, err := a.findUndo(args)
			if err != nil {
				return err
			}
			return a.undo(cmd.Context(), u)
		},
	}
	cmd.Flags().BoolVar(&list, "list", false, "list what can be taken back")
	a.jsonFlag(cmd)
	return cmd
}

// undoNames returns the names of machines of which an apply can be taken back.
func (a *app) undoNames(args []string) (names []string) {
	if a.client == nil || len(args) > 0 {
		return nil
	}
	all, _ := a.client.Undoables()
	for _, u := range all {
		names = append(names, u.Name)
	}
	return names
}

func (a *app) listUndos() error {
	all, err := a.client.Undoables()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(all)
	}
	if len(all) == 0 {
		a.note("nothing can be taken back")
		return nil
	}
	t := newTable(a.Out, "NAME", "APPLIED", "CHANGES", "DIRECTORY")
	for _, u := range all {
		t.row(u.Name, u.Time.Local().Format("2006-01-02 15:04:05"), strconv.Itoa(u.Changes), termsafe.Quote(u.Dir))
	}
	return t.flush()
}

// findUndo returns the last apply of the named machine, or to the current directory.
func (a *app) findUndo(args []string) (mayfly.Undoable, error) {
	if len(args) > 0 {
		return a.client.LastApply(args[0])
	}
	dir, err := os.Getwd()
	if err != nil {
		return mayfly.Undoable{}, fmt.Errorf("find the current directory: %w", err)
	}
	return a.client.LastApplyTo(dir)
}

func (a *app) undo(ctx context.Context, u mayfly.Undoable) error {
	saveMemory()
	result, err := a.client.Undo(ctx, u)
	if err == nil && u.Changes > 0 || result.Changes > 0 {
		a.note("took back %d of %d changes to %s, applied by %s", result.Changes, u.Changes, termsafe.Quote(u.Dir), u.Name)
	}
	for _, note := range result.Notes {
		a.note("%s", note)
	}
	for _, conflict := range result.Conflicts {
		a.note("not undone: %s", conflict)
	}
	if err == nil && len(result.Conflicts) > 0 {
		err = exitCode(exitError)
	}
	return err
}
