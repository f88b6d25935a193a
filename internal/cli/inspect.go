package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

func (a *app) inspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect NAME",
		Short: "Show a machine: what it is, keeps and may reach",
		Long: `Show what a machine is, what of it outlives a stop and where, and what it may
reach of the host and of the network. A running machine is shown as it was
started; mayfly policy shows later changes.`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeAll,
		RunE:              onFirst(a.inspect),
	}
	a.jsonFlag(cmd)
	return cmd
}

// inspectJSON is a machine as inspect --json prints it. Fields are only added.
type inspectJSON struct {
	machineJSON
	Persists []persistJSON  `json:"persists"` // all that outlives a stop; nothing else does
	Shares   []mayfly.Share `json:"shares"`   // directories of this computer that the machine sees live
	Plan     mayfly.Plan    `json:"plan"`
}

// persistJSON is one thing that outlives a stop.
type persistJSON struct {
	What  string `json:"what"`
	In    string `json:"in,omitempty"` // the place in the machine
	Path  string `json:"path"`         // on this computer
	Bytes int64  `json:"bytes"`        // that it takes here
	Until string `json:"until"`        // the commands that wipe it
}

func newPersistJSON(p mayfly.Persist) persistJSON {
	out := persistJSON{In: p.In, Path: p.Path, Bytes: p.Bytes, Until: "mayfly reset, rm"}
	agents := "the state of agents"
	if p.History {
		agents += ", and the history of shells"
	}
	switch p.What {
	case mayfly.PersistCopy:
		out.What = "the private copy of the workspace"
	case mayfly.PersistChanges:
		out.What = "its changes that were not applied, and " + agents
	case mayfly.PersistAgents:
		out.What = agents
	case mayfly.PersistVolume:
		out.What = fmt.Sprintf("the volume %s, %d MiB", p.Volume, p.SizeMiB)
	case mayfly.PersistHostKey:
		out.What, out.Until = "the machine's SSH host key", "mayfly rm"
	}
	return out
}

func (a *app) inspect(ctx context.Context, name string) error {
	d, err := a.client.Inspect(ctx, name)
	if err != nil {
		return err
	}
	out := inspectJSON{machineJSON: newMachineJSON(d.Info), Persists: []persistJSON{}, Shares: append([]mayfly.Share{}, d.Plan.Shares...), Plan: d.Plan}
	for _, p := range d.Persists {
		out.Persists = append(out.Persists, newPersistJSON(p))
	}
	if a.json {
		return a.printJSON(out)
	}
	a.printInspected(out)
	return nil
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
	row("hardware", "%d CPUs, %d MiB, %s (%s)", p.VCPUs, p.MemoryMiB, p.Accelerator, p.Reason)
	image := []string{p.Base}
	if p.Init != "" {
		image = append(image, "init "+p.Init)
	}
	image = append(image, p.Packages...)
	image = append(image, p.Agents...)
	row("image", "%s%s", strings.Join(image, " "), parenthesis(i.Image))
	row("user", "%s, %d:%d, %s", p.User.Name, p.User.UID, p.User.GID, p.User.Shell)
	if p.Workspace != "" {
		row("workspace", "%s (%s)", termsafe.Quote(p.Workspace), p.Mode)
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
func (a *app) printReach(row func(name, format string, args ...any), n mayfly.Network) {
	switch n.Mode {
	case "none":
		row("network", "none")
		return
	case "bridge":
		row("network", "on the host's bridge as %s, MAC %s: the public internet", n.Address, n.MAC)
		return
	}
	reach, but := "may reach nothing", " except:"
	if n.Egress == "public" {
		reach, but = "may reach the public internet, and neither the host nor its networks", ", except:"
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
		row("secret", "%s, used in requests to %s", s.Name, strings.Join(s.Hosts, ", "))
	}
	for _, p := range n.Ports {
		row("port", "%s:%d of the host is port %d of the machine", p.Address, p.HostPort, p.GuestPort)
	}
}
