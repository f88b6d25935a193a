package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
)

func (a *app) auditCommand() *cobra.Command {
	var follow, denied bool
	cmd := &cobra.Command{
		Use:   "audit NAME",
		Short: "Print what a machine did with its network",
		Long: `Print what a machine did with its network: one line for each connection, for
each request on an intercepted connection, and for what was refused. The record
outlives the machine by 30 days.

Each line of the record holds the hash of the one before, and all are checked on
the way: it is an error if one was changed or taken out.`,
		Example: `  mayfly audit run-3f9a2c -f
  mayfly audit run-3f9a2c --denied`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.audit(cmd.Context(), args[0], follow, denied)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on with what is added, until you interrupt it")
	f.BoolVar(&denied, "denied", false, "only what was refused or cut")
	a.jsonFlag(cmd, "print the lines of the record as they are, JSON")
	return cmd
}

func (a *app) audit(ctx context.Context, name string, follow, denied bool) error {
	return a.client.Audit(ctx, name, follow, func(e mayfly.AuditEvent) error {
		if denied && e.Verdict != mayfly.AuditDeny && e.Verdict != mayfly.AuditCut {
			return nil
		}
		if a.json {
			return writeJSON(a.Out, e, "")
		}
		_, err := fmt.Fprintln(a.Out, e)
		return err
	})
}
