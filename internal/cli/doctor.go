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
				return a.attack(cmd.Context(), target)
			}
			return a.doctor(cmd.Context(), refresh, fix)
		},
	}
	f := cmd.Flags()
	a.jsonFlag(cmd)
	f.BoolVar(&refresh, "refresh", false, "test KVM again")
	f.BoolVar(&fix, "fix", false, "fetch a QEMU that is good enough, if needed")
	f.StringVar(&target, "attack", "", "try to get out of the running `machine`'s network")
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
