package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func (a *app) diffCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "diff NAME",
		Short:             "List the changes of a running machine",
		Args:              takes(1, 1),
		ValidArgsFunction: a.completeMachines,
		RunE:              onFirst(a.diff),
	}
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) diff(ctx context.Context, name string) error {
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
	if len(set.Changes) > 0 {
		a.printChanges(a.Out, set.Changes, len(set.Changes))
	}
	return nil
}

func (a *app) applyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "apply NAME",
		Short: "Apply the changes of a running machine to your directory",
		Long: `Apply what a running machine changed in its workspace to the directory that was
copied. A file that you changed in the meantime is a conflict: mayfly leaves it
alone and reports it. The machine keeps running.`,
		Args:              takes(1, 1),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := a.machine(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			what, err := a.review(cmd.Context(), m, reviewOptions{apply: true})
			if err != nil {
				return err
			}
			if what == answerConflict {
				return exitCode(exitError)
			}
			return nil
		},
	}
}
