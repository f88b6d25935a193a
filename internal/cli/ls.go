package cli

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

func (a *app) lsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List machines",
		Args:    usageArgs(cobra.NoArgs),
		RunE:    func(*cobra.Command, []string) error { return a.ls() },
	}
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return cmd
}

// machineJSON is a machine as ls --json prints it. Fields are only added.
type machineJSON struct {
	Name      string      `json:"name"`
	State     state.Phase `json:"state"`
	Started   time.Time   `json:"started"`
	Kept      bool        `json:"kept"`
	Workspace string      `json:"workspace"`
	VCPUs     int         `json:"vcpus"`
	MemoryMiB int         `json:"memory_mib"`
}

func (a *app) ls() error {
	machines, err := a.machines()
	if err != nil {
		return err
	}
	all, err := machines.List()
	if err != nil {
		return err
	}
	rows := make([]machineJSON, 0, len(all))
	for _, m := range all {
		st := m.Status()
		row := machineJSON{Name: m.Name, State: st.Phase, Started: st.Started, Kept: st.Kept}
		if p, err := m.Plan(); err == nil {
			row.Workspace, row.VCPUs, row.MemoryMiB = p.Workspace.Path, p.Machine.VCPUs, p.Machine.MemoryMiB
		}
		rows = append(rows, row)
	}
	if a.json {
		return a.printJSON(a.Out, rows)
	}
	if len(rows) == 0 {
		a.note("no machines; mayfly run makes one")
		return nil
	}
	w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSTATE\tAGE\tVCPUS\tMEMORY\tWORKSPACE")
	dead := false
	for _, r := range rows {
		dead = dead || r.State == state.Dead
		age := "-"
		if !r.Started.IsZero() {
			age = time.Since(r.Started).Round(time.Second).String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d MiB\t%s\n", r.Name, r.State, age, r.VCPUs, r.MemoryMiB, workspace.QuotePath(r.Workspace))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if dead {
		a.note("hint: mayfly gc removes dead machines")
	}
	return nil
}

// completeMachines completes the names of machines.
func (a *app) completeMachines(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	machines, err := a.machines()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all, err := machines.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, m := range all {
		names = append(names, m.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
