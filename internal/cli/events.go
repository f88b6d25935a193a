package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

func (a *app) eventsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events [NAME]",
		Short: "Print what happens to a machine, as it happens",
		Long: `Print what happens to a machine: the phases of its start, notes, and its end.
The first lines say how the machine is now. The command ends with the machine.
Without NAME, print what happens to all running machines.

Times count from the start of the machine's supervisor. With --json, each event
is an object on a line of its own.`,
		Args:              takes(0, 1),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.events(cmd.Context(), args)
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

// events prints what happens to the machines with these names, or to all that run.
func (a *app) events(ctx context.Context, names []string) error {
	any, err := a.client.Watch(ctx, names, func(e mayfly.MachineEvent) error { return a.printEvent(e, len(names) != 1) })
	if err == nil && !any {
		a.note("no machine runs")
	}
	return err
}

// eventJSON is what events --json prints for each event. Fields are only added.
type eventJSON struct {
	mayfly.MachineEvent
	Hint string `json:"hint,omitempty"`
}

func (a *app) printEvent(e mayfly.MachineEvent, named bool) error {
	if a.json {
		return writeJSON(a.Out, eventJSON{e, hint.For(fault.Code(e.Code), e.Args)}, "")
	}
	for _, text := range words.MachineEvent(e) {
		line := fmt.Sprintf("%9.3f s  ", time.Duration(e.Nanos).Seconds())
		if named {
			line += e.Machine + ": "
		}
		if _, err := fmt.Fprintln(a.Out, line+termsafe.Line(text)); err != nil {
			return err
		}
	}
	return nil
}
