package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// attackCommand is what mayfly doctor --attack runs in a machine.
func (a *app) attackCommand() *cobra.Command {
	return &cobra.Command{
		Use:    mayfly.AttackCommand + " TARGET",
		Hidden: true,
		Args:   takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.getenv("MAYFLY") == "" {
				return usageError{hint.Errorf("mayfly doctor --attack NAME", "%s is for the inside of a machine", mayfly.AttackCommand)}
			}
			enc := json.NewEncoder(a.Out)
			return mayfly.RunAttack(cmd.Context(), args[0], a.getenv, func(attempt any) { enc.Encode(attempt) })
		},
	}
}

// attack lets the machine name try to get out.
func (a *app) attack(ctx context.Context, name string) error {
	attempts, reached, err := a.client.Attack(ctx, name)
	if err != nil {
		return err
	}
	bad := 0
	for _, attempt := range attempts {
		if attempt.Failed() {
			bad++
		}
	}
	if reached > 0 {
		bad++
		a.note("%d connections reached the host", reached)
	}
	if err := a.printAttack(attempts); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d attempts were not refused, or are not in the audit log", bad, len(attempts))
	}
	return nil
}

func (a *app) printAttack(rows []mayfly.Attempt) error {
	if a.json {
		return a.printJSON(rows)
	}
	t := newTable(a.Out)
	for _, r := range rows {
		t.row(words.Attempt(r), termsafe.Line(r.Name), termsafe.Line(r.How))
	}
	return t.flush()
}
