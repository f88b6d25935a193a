package cli

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// ignoredFlag registers --ignored, by which ignored files are changes as all others.
func ignoredFlag(f *pflag.FlagSet, ignored *bool, usage string) {
	f.BoolVar(ignored, "ignored", false, usage)
}

func (a *app) diffCommand() *cobra.Command {
	var ignored bool
	cmd := &cobra.Command{
		Use:   "diff NAME",
		Short: "List the changes of a running machine",
		Long: `List what a running machine changed in its workspace. Files that git ignores in
your directory, such as build output, are one line with their count and size.
With --json they are marked.`,
		Args:              takes(1, 1),
		ValidArgsFunction: a.completeMachines,
		RunE: onFirst(func(ctx context.Context, name string) error {
			return a.diff(ctx, name, ignored)
		}),
	}
	a.jsonFlag(cmd)
	ignoredFlag(cmd.Flags(), &ignored, "list files that git ignores one by one")
	return cmd
}

func (a *app) diff(ctx context.Context, name string, ignored bool) error {
	m, err := a.machine(ctx, name)
	if err != nil {
		return err
	}
	set, err := m.Changes(ctx, false)
	if err != nil {
		return err
	}
	defer set.Close()
	if a.json {
		return a.printJSON(set.Changes)
	}
	set.ApplyIgnored = ignored
	a.printChanges(a.Out, set, len(set.Changes))
	return nil
}

func (a *app) applyCommand() *cobra.Command {
	var ignored bool
	cmd := &cobra.Command{
		Use:   "apply NAME",
		Short: "Apply the changes of a running machine to your directory",
		Long: `Apply what a running machine changed in its workspace to the directory that was
copied. A file that you changed in the meantime is a conflict: mayfly leaves it
alone and reports it. Files that git ignores in your directory, such as build
output, are left out unless you pass --ignored. The machine keeps running.`,
		Args:              takes(1, 1),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := a.machine(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			what, err := a.review(cmd.Context(), m, reviewOptions{apply: true, ignored: ignored})
			if err != nil {
				return err
			}
			if what == answerConflict {
				return exitCode(exitError)
			}
			return nil
		},
	}
	ignoredFlag(cmd.Flags(), &ignored, "also apply files that git ignores")
	return cmd
}
