package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func (a *app) doctorCommand() *cobra.Command {
	var refresh, fix bool
	var target string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check the host, and say how to close each gap",
		Long: `Check what the host can do, and say how to close each gap. The exit code is 1
while something that machines need is missing.

The file /dev/kvm does not prove that KVM works. mayfly boots a tiny guest to
find out, and remembers the answer for this kernel, QEMU and CPU.

With --fix, mayfly fetches a newer QEMU into your data directory if that of the
distribution is not good enough. This needs no root. As root, --fix gives mayfly
an AppArmor profile where AppArmor allows user namespaces to programs with one
only (Ubuntu since 24.04), if nobody but root can change mayfly's file.

With --attack, a running machine tries in some fifty ways to reach what it must
not: the host, its network, hosts that are not allowed. Each attempt must be
refused, and must be in the audit log. Only trust the result of a machine in
which no hostile code has run.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if target != "" {
				return a.attack(cmd.Context(), target)
			}
			return a.doctor(cmd.Context(), refresh, fix)
		},
	}
	f := cmd.Flags()
	a.jsonFlag(cmd)
	f.BoolVar(&refresh, "refresh", false, "test KVM again")
	f.BoolVar(&fix, "fix", false, "fetch a newer QEMU, or as root give mayfly an AppArmor profile, if needed")
	f.StringVar(&target, "attack", "", "try to get out of the network of a running `machine`")
	return cmd
}

func (a *app) doctor(ctx context.Context, refresh, fix bool) error {
	h, err := a.client.Doctor(ctx, refresh, fix)
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(h)
	} else {
		t := newTable(a.Out)
		for _, check := range h.Checks {
			t.row(check.Status, check.Name, check.Detail)
			if check.Fix != "" {
				t.row("", "", "→ "+check.Fix)
			}
		}
		err = t.flush()
	}
	if err == nil && !h.Healthy {
		return exitCode(exitError)
	}
	return err
}
