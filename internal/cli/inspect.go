package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

func (a *app) inspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect NAME",
		Short: "Show what a machine is, what it keeps, and what it may reach",
		Long: `Show what a machine is, what of it outlives a stop and where that is, and what
it may reach of this computer and of the network. For a machine that runs that
is how it was started; mayfly policy shows what was changed since.`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeAll,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.inspect(cmd.Context(), args[0])
		},
	}
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return cmd
}

// inspectJSON is a machine as inspect --json prints it. Fields are only added.
type inspectJSON struct {
	machineJSON
	Persists []persistJSON `json:"persists"` // all that outlives a stop; nothing else does
	Shares   []shareJSON   `json:"shares"`   // directories of this computer that the machine sees live
	Plan     plan.Plan     `json:"plan"`
}

// persistJSON is one thing that outlives a stop.
type persistJSON struct {
	What  string `json:"what"`
	In    string `json:"in,omitempty"` // the place in the machine
	Path  string `json:"path"`         // on this computer
	Bytes int64  `json:"bytes"`        // that it takes here
	Until string `json:"until"`        // the commands that wipe it
}

type shareJSON struct {
	Source   string `json:"source"`
	Path     string `json:"path"`
	ReadOnly bool   `json:"readonly"`
}

func (a *app) inspect(ctx context.Context, name string) error {
	rows, err := a.rows(ctx)
	if err != nil {
		return err
	}
	out := inspectJSON{Persists: []persistJSON{}, Shares: []shareJSON{}}
	for _, r := range rows {
		if r.Name == name {
			out.machineJSON = r
		}
	}
	if out.Name == "" {
		_, err := a.machine(name)
		return err
	}
	if m, err := a.machine(name); err == nil && m.Alive() {
		out.Plan, err = m.Plan()
		if err != nil {
			return err
		}
	} else if out.Defined {
		d, err := a.definition(name)
		if err != nil {
			return err
		}
		if out.Plan, err = a.planNamed(ctx, d); err != nil {
			return err
		}
	}
	if d, ok := definition.Of(out.Plan); ok {
		out.Persists = persists(d, out.Plan)
	}
	for _, s := range out.Plan.Shares {
		out.Shares = append(out.Shares, shareJSON{s.Source, s.Path, s.ReadOnly})
	}
	if a.json {
		return a.printJSON(a.Out, out)
	}
	a.printInspected(out)
	return nil
}

// persists lists all that outlives a stop of the machine.
func persists(d definition.Definition, p plan.Plan) []persistJSON {
	const wiped = "mayfly reset, rm"
	list := []persistJSON{}
	add := func(what, in, path, until string) {
		row := persistJSON{What: what, In: in, Path: path, Until: until}
		if fi, err := os.Stat(path); err == nil {
			if st, ok := fi.Sys().(*syscall.Stat_t); ok {
				row.Bytes = st.Blocks * 512
			}
		}
		list = append(list, row)
	}
	agents := "the state of agents"
	if p.Keep.History != "" {
		agents += ", and the history of shells"
	}
	if p.Workspace.Copied() {
		add("the private copy of the workspace", p.Workspace.Path, d.File(definition.CopyFile), wiped)
		add("its changes that were not applied, and "+agents, p.Workspace.Path, d.File(definition.KeepFile), wiped)
	} else {
		add(agents, "", d.File(definition.KeepFile), wiped)
	}
	for _, v := range p.Volumes {
		add(fmt.Sprintf("the volume %s, %d MiB", v.Name, v.SizeMiB), v.Mount, d.VolumeFile(v.Name), wiped)
	}
	if _, err := os.Stat(d.File(definition.HostKeyFile)); err == nil {
		add("the machine's SSH host key", "", d.File(definition.HostKeyFile), "mayfly rm")
	}
	return list
}

func (a *app) printInspected(i inspectJSON) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(a.Out, "%-11s%s\n", name, termsafe.Text(fmt.Sprintf(format, args...)))
	}
	p := i.Plan
	state := i.State
	if i.Next != "" {
		state += " (" + i.Next + ")"
	}
	row("name", "%s", i.Name)
	row("state", "%s", state)
	if i.File != "" {
		row("file", "%s", i.File)
	}
	row("hardware", "%d CPUs, %d MiB, %s (%s)", p.Machine.VCPUs, p.Machine.MemoryMiB, p.Machine.Accelerator, p.Machine.Reason)
	image := []string{p.Image.Base}
	if p.Image.Init != "" {
		image = append(image, "init "+p.Image.Init)
	}
	image = append(image, p.Image.Packages...)
	image = append(image, p.Image.Agents...)
	row("image", "%s%s", strings.Join(image, " "), parenthesis(i.Image))
	row("user", "%s, %d:%d, %s", p.Guest.User.Name, p.Guest.User.UID, p.Guest.User.GID, p.Guest.User.Shell)
	if p.Workspace.Path != "" {
		row("workspace", "%s (%s)", termsafe.Quote(p.Workspace.Path), p.Workspace.Mode)
	}
	for _, s := range i.Shares {
		access := "read and write"
		if s.ReadOnly {
			access = "read only"
		}
		row("share", "%s on %s (%s)", termsafe.Quote(s.Source), termsafe.Quote(s.Path), access)
	}
	if len(i.Persists) == 0 {
		row("persists", "nothing")
	}
	for _, k := range i.Persists {
		where := ""
		if k.In != "" {
			where = " on " + termsafe.Quote(k.In)
		}
		row("persists", "%s%s, in %s (%s), until %s", k.What, where, termsafe.Quote(k.Path), size(k.Bytes), k.Until)
	}
	a.printReach(row, p.Network)
}

// parenthesis returns text in parentheses, if there is any.
func parenthesis(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

// printReach prints what a machine may reach.
func (a *app) printReach(row func(name, format string, args ...any), n plan.Network) {
	switch n.Mode {
	case plan.NetworkNone:
		row("network", "none")
		return
	case plan.NetworkBridge:
		row("network", "on the host's bridge as %s, MAC %s: the public internet", n.Address, n.MAC)
		return
	}
	reach, but := "may reach nothing", " but:"
	if n.Egress == plan.EgressPublic {
		reach, but = "may reach the public internet, and nothing of this computer or its networks", ", but for:"
	}
	if len(n.Allow) == 0 {
		but = ""
	}
	row("network", "%s%s", reach, but)
	for _, r := range n.Allow {
		from := ""
		if r.From != "" {
			from = " (" + r.From + ")"
		}
		row("", "%s%s", r, from)
	}
	for _, s := range n.Secrets {
		row("secret", "%s, lent to requests to %s", s.Name, strings.Join(s.Hosts, ", "))
	}
	for _, p := range n.Ports {
		row("port", "%s:%d of this computer is port %d of the machine", p.Address, p.HostPort, p.GuestPort)
	}
}
