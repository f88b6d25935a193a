package cli

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
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
		RunE: func(_ *cobra.Command, args []string) error {
			return a.audit(args[0], follow, denied)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on with what is added, until you interrupt it")
	f.BoolVar(&denied, "denied", false, "only what was refused or cut")
	f.BoolVar(&a.json, "json", false, "print the lines of the record as they are, JSON")
	return cmd
}

func (a *app) audit(name string, follow, denied bool) error {
	if err := naming.Check(name); err != nil {
		return usageError{err}
	}
	machines, err := a.machines()
	if err != nil {
		return err
	}
	path := machines.At(name).AuditFile()
	show := func(e audit.Event) error {
		if denied && e.Verdict != audit.Deny && e.Verdict != audit.Cut {
			return nil
		}
		if a.json {
			return writeJSON(a.Out, e, "")
		}
		_, err := fmt.Fprintln(a.Out, e)
		return err
	}
	if follow {
		err = audit.Follow(path, a.signals.ctx.Done(), show)
	} else {
		err = audit.Read(path, show)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return hint.Errorf("mayfly ls", "there is no record of a machine %s", name)
	case errors.Is(err, audit.ErrChanged):
		return hint.Wrap(err, "somebody changed "+path)
	}
	return err
}
