package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/workspace"
)

func (a *app) diffCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "diff NAME",
		Short:             "List what a running machine changed in its workspace",
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.diff(cmd.Context(), args[0])
		},
	}
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return cmd
}

// editJSON is an edit as diff --json prints it. Fields are only added.
type editJSON struct {
	Op      string `json:"op"` // A, M or D
	Path    string `json:"path"`
	Kind    string `json:"kind"` // file, directory or symlink
	Mode    uint32 `json:"mode,omitempty"`
	Size    int64  `json:"size,omitempty"`
	OldSize int64  `json:"old_size,omitempty"`
	Target  string `json:"target,omitempty"`
	Escapes bool   `json:"escapes,omitempty"`
	Skipped string `json:"skipped,omitempty"`
}

func (a *app) diff(ctx context.Context, name string) error {
	m, err := a.machine(name)
	if err != nil {
		return err
	}
	c, err := readChanges(ctx, m, false)
	if err != nil {
		return err
	}
	defer c.close()
	shown := visible(c.edits)
	if !a.json {
		if len(shown) > 0 {
			a.printEdits(a.Out, shown, len(shown))
		}
		return nil
	}
	out := make([]editJSON, 0, len(shown))
	for _, e := range shown {
		kind := e.NewKind
		if kind == workspace.None {
			kind = e.OldKind
		}
		out = append(out, editJSON{e.Op.String(), e.Path, kind.String(), e.NewMode, e.NewSize, e.OldSize, e.NewTarget, e.Escapes, e.Skipped})
	}
	return a.printJSON(a.Out, out)
}

func (a *app) applyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "apply NAME",
		Short: "Apply what a running machine changed to your directory",
		Long: `Apply what a running machine changed in its workspace to the directory that it
was copied from. A file that you changed meanwhile is a conflict: it is left
alone and reported. The machine goes on running.`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := a.machine(args[0])
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
