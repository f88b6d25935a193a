package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

func (a *app) eventsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events [NAME]",
		Short: "Print what happens to a machine, as it happens",
		Long: `Print what happens to a machine: the phases of its start, remarks, and its end.
The first lines say how the machine is now. The command ends with the machine.
Without NAME it prints what happens to all machines that run.

The time is that since the machine's supervisor began. With --json each event
is an object on a line of its own.`,
		Args:              usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			machines, err := a.watchable(args)
			if err != nil {
				return err
			}
			return a.watch(cmd.Context(), machines, len(args) == 0)
		},
	}
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return cmd
}

// watchable returns the machine that is named, or else all that run.
func (a *app) watchable(names []string) ([]state.Machine, error) {
	if len(names) > 0 {
		m, err := a.machine(names[0])
		return []state.Machine{m}, err
	}
	store, err := a.machines()
	if err != nil {
		return nil, err
	}
	all, err := store.List()
	if err != nil {
		return nil, err
	}
	var running []state.Machine
	for _, m := range all {
		if m.Alive() {
			running = append(running, m)
		}
	}
	if len(running) == 0 {
		a.note("no machine runs")
	}
	return running, nil
}

// watch prints the events of machines until they have all ended, or ctx has.
func (a *app) watch(ctx context.Context, machines []state.Machine, named bool) error {
	var printing sync.Mutex
	var watching sync.WaitGroup
	errs := make([]error, len(machines))
	for i, m := range machines {
		watching.Go(func() {
			errs[i] = control.Watch(ctx, m, func(e control.Event) error {
				printing.Lock()
				defer printing.Unlock()
				return a.printEvent(m.Name, e, named)
			})
		})
	}
	watching.Wait()
	if ctx.Err() != nil {
		return nil // asked for
	}
	return errors.Join(errs...)
}

// eventJSON is an event with its machine.
type eventJSON struct {
	Machine string `json:"machine"`
	control.Event
}

func (a *app) printEvent(machine string, e control.Event, named bool) error {
	if a.json {
		return writeJSON(a.Out, eventJSON{machine, e}, "")
	}
	for _, words := range describeEvent(e) {
		line := fmt.Sprintf("%9.3f s  ", time.Duration(e.Nanos).Seconds())
		if named {
			line += machine + ": "
		}
		if _, err := fmt.Fprintln(a.Out, line+termsafe.Line(words)); err != nil {
			return err
		}
	}
	return nil
}

// describeEvent says in lines what an event tells.
func describeEvent(e control.Event) (lines []string) {
	if e.Phase != "" {
		lines = append(lines, phaseWords(e.Phase))
	}
	if e.Note != "" {
		lines = append(lines, "note: "+e.Note)
	}
	if e.Ready {
		lines = append(lines, "ready: "+describeStart(e.Start))
	}
	if e.Error != "" {
		lines = append(lines, "error: "+e.Error)
	}
	if e.Ended {
		lines = append(lines, "ended")
	}
	return lines
}
