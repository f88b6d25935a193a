package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
)

func (a *app) inspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect NAME",
		Short: "Show a machine: what it is, keeps and may reach",
		Long: `Show what a machine is, what of it outlives a stop and where, and what it may
reach of the host and of the network. A running machine is shown as it was
started; mayfly policy shows later changes.`,
		Args:              takes(1, 1),
		ValidArgsFunction: a.completeAll,
		RunE:              onFirst(a.inspect),
	}
	a.jsonFlag(cmd)
	return cmd
}

// inspectJSON is a machine as inspect --json prints it. Fields are only added.
type inspectJSON struct {
	machineJSON
	Persists []words.Persist  `json:"persists"`       // all that outlives a stop; nothing else does
	Shares   []mayfly.Share   `json:"shares"`         // directories of the host that the machine sees live
	Walls    mayfly.Walls     `json:"walls"`          // around its QEMU, as far as hosts differ
	Undo     *mayfly.Undoable `json:"undo,omitempty"` // the last apply, if it can be taken back
	Plan     mayfly.Plan      `json:"plan"`
}

func (a *app) inspect(ctx context.Context, name string) error {
	d, err := a.client.Inspect(ctx, name)
	if err != nil {
		return err
	}
	out := inspectJSON{machineJSON: newMachineJSON(d.Info), Persists: []words.Persist{}, Shares: append([]mayfly.Share{}, d.Plan.Shares...), Walls: d.Walls, Undo: d.Undo, Plan: d.Plan}
	for _, p := range d.Persists {
		out.Persists = append(out.Persists, words.NewPersist(p))
	}
	if a.json {
		return a.printJSON(out)
	}
	return a.printRows("%-11s%s\n", words.Details(d))
}
