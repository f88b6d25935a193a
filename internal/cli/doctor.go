package cli

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/host"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/share"
)

func (a *app) doctorCommand() *cobra.Command {
	var refresh, fix bool
	var target string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this computer can do, and how to close each gap",
		Long: `Say what this computer can do, and how to close each gap.

That /dev/kvm is there proves nothing: mayfly boots a tiny guest to find out
whether it works, and remembers the answer for this kernel, QEMU and CPU.

With --fix, a QEMU that is good enough is fetched where the distribution's is
not, into your own data directory and without root. The exit code is 1 while
something that machines need is missing.

With --attack, a running machine tries in some forty ways to reach what it must
not: this computer, its network, other hosts than those that are allowed. Each
has to be refused, and to be in the record. What the machine itself says of it
can be believed only if nobody hostile works in it yet.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if target != "" {
				return a.attack(target)
			}
			return a.doctor(cmd.Context(), refresh, fix)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&a.json, "json", false, "print JSON")
	f.BoolVar(&refresh, "refresh", false, "test KVM again")
	f.BoolVar(&fix, "fix", false, "fetch a QEMU that is good enough, if needed")
	f.StringVar(&target, "attack", "", "try to get out of the running `machine`'s network")
	return cmd
}

// doctorJSON is what doctor --json prints. Fields are only added.
type doctorJSON struct {
	Healthy bool         `json:"healthy"`
	Facts   host.Facts   `json:"facts"`
	Checks  []host.Check `json:"checks"`
}

func (a *app) doctor(ctx context.Context, refresh, fix bool) error {
	a.fresh = true
	facts, err := a.facts(ctx, false)
	if err != nil {
		return err
	}
	if fix && facts.NeedsQEMU() {
		if !facts.CanInstallQEMU() {
			a.note("this distribution's own packages are the way to a newer QEMU")
		} else if facts.QEMU, err = host.InstallQEMU(ctx, facts, func(s string) { a.note("%s", s) }); err != nil {
			return err
		}
	}
	if facts.KVM.Openable && facts.QEMU.Path != "" {
		if facts.KVM, err = host.ProveKVM(ctx, facts, host.ProveOptions{Refresh: refresh}); err != nil {
			return err
		}
	}
	checks := append(host.Doctor(facts), a.checkShareServer(ctx, facts))
	healthy := host.Healthy(checks)
	if a.json {
		if err := a.printJSON(a.Out, doctorJSON{healthy, facts, checks}); err != nil {
			return err
		}
	} else {
		w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
		for _, c := range checks {
			fmt.Fprintf(w, "%s\t%s\t%s\n", c.Status, c.Name, c.Detail)
			if c.Fix != "" {
				fmt.Fprintf(w, "\t\t→ %s\n", c.Fix)
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if !healthy {
		return exitCode(exitError)
	}
	return nil
}

// checkShareServer looks for the server of live directories.
func (a *app) checkShareServer(ctx context.Context, facts host.Facts) host.Check {
	found, err := share.Find(ctx, a.getenv("PATH"))
	s := host.ShareServer{Path: found.Path, Version: found.Version, Language: "Rust", Problem: err}
	if found.Kind == plan.VirtiofsdC {
		s.Language = "C"
	}
	return host.CheckShareServer(facts, s)
}
