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
		Short: "Print the audit log of a machine's network",
		Long: `Print the audit log of a machine's network: one line for each connection, for
each request on an intercepted connection, and for each refusal. The log
outlives the machine by 30 days.

The audit log is hash-chained: each line holds the hash of the line before.
mayfly checks all of them and fails if a line was changed or removed.`,
		Example: `  mayfly audit run-3f9a2c -f
  mayfly audit run-3f9a2c --denied`,
		Args:              takes(1, 1),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.audit(cmd.Context(), args[0], follow, denied)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "print what is added, until you interrupt it")
	f.BoolVar(&denied, "denied", false, "print only what was refused or cut")
	a.jsonFlag(cmd, "print the lines of the log as they are, JSON")
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
