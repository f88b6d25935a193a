package cli

import (
	"fmt"
	"net/netip"
	"os/user"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/network/bridge"
)

func (a *app) netCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "net",
		Short: "Set up the host's bridge, for machines with their own addresses",
		Long: `Set up the host's bridge, for machines with network.mode = "bridge". Such a
machine has its own address, at which the host reaches it. It reaches the
internet by NAT, but not your local network, the host or other machines.

mayfly net needs root. Machines in other modes need no bridge.`,
	}, a.netUpCommand(), a.netDownCommand(), a.netStatusCommand())
}

func (a *app) netUpCommand() *cobra.Command {
	var address, owner string
	var allowLAN, noIsolate bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Create the bridge, or change it",
		Long: `Create the bridge with its rules, or change it to what the flags say. Running it
again changes nothing. mayfly never touches rules and interfaces of others.`,
		Example: `  sudo mayfly net up
  sudo mayfly net up --user "$USER"`,
		Args: takes(0, 0),
		RunE: func(*cobra.Command, []string) error {
			cfg := bridge.Default()
			cfg.AllowLAN, cfg.Isolate = allowLAN, !noIsolate
			if address != "" {
				prefix, err := netip.ParsePrefix(address)
				if err != nil {
					return usageError{fmt.Errorf("--address %s: it is an address with the length of its network, such as %v", address, cfg.Address)}
				}
				cfg.Address = prefix
			} else if current, err := bridge.Current(cfg); err == nil {
				// Machines that run have it as their gateway.
				cfg.Address = current.Address
			}
			if owner != "" {
				id, err := findUser(owner)
				if err != nil {
					return usageError{err}
				}
				cfg.Owner = id
			}
			if err := cfg.Check(); err != nil {
				return usageError{err}
			}
			if err := bridge.Up(cfg); err != nil {
				return err
			}
			return a.netIsUp(cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&address, "address", "", "`address` of the host on the bridge (default 192.168.83.1/24, or the current one)")
	f.StringVar(&owner, "user", "", "let this `user` start machines on the bridge without root")
	f.BoolVar(&allowLAN, "allow-lan", false, "let machines reach your local network")
	f.BoolVar(&noIsolate, "no-isolate", false, "let machines reach each other")
	return cmd
}

// findUser returns the number of a user.
func findUser(name string) (uint32, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, fmt.Errorf("--user %s: there is no such user", name)
	}
	id, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("--user %s: %w", name, err)
	}
	if id == 0 {
		return 0, hint.Errorf("leave --user out", "--user %s: root needs no ports of its own", name)
	}
	return uint32(id), nil
}

// netIsUp says what the bridge is now, and what stands in the way of machines on it.
func (a *app) netIsUp(cfg bridge.Config) error {
	st, err := bridge.Inspect(cfg)
	if err == nil {
		fmt.Fprintln(a.Out, bridgeLine(st))
	}
	for _, p := range bridgeProblems(st) {
		a.note("%s", p)
	}
	return err
}

// bridgeProblems says what stands in the way of machines on the bridge, each with what
// to do about it.
func bridgeProblems(st bridge.Status) []string {
	all := make([]string, len(st.Problems))
	for i, p := range st.Problems {
		all[i] = p.Text
		if p.ByUp {
			all[i] += ": sudo mayfly net up"
		}
	}
	return all
}

// netJSON is what net status --json prints. Fields are only added.
type netJSON struct {
	bridge.Status
	Problems []string `json:"problems"`
}

func (a *app) netDownCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Remove the bridge, with its ports and rules",
		Long: `Remove the bridge, with its ports and rules, and restore the settings of the
host that mayfly changed. Machines on the bridge lose their network.`,
		Args: takes(0, 0),
		RunE: func(*cobra.Command, []string) error {
			left, err := bridge.Down(bridge.Default())
			if left != "" {
				a.note("%s", left)
			}
			return err
		},
	}
}

func (a *app) netStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the bridge and its problems",
		Args:  takes(0, 0),
		RunE:  func(*cobra.Command, []string) error { return a.netStatus() },
	}
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) netStatus() error {
	st, err := bridge.Inspect(bridge.Default())
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(netJSON{st, bridgeProblems(st)})
	}
	fmt.Fprintln(a.Out, bridgeLine(st))
	if st.Up {
		fmt.Fprintf(a.Out, "machines %s\n", strings.Join(bridgeLimits(st), ", "))
		fmt.Fprintf(a.Out, "rules    %s\n", st.Rules)
		fmt.Fprintf(a.Out, "uplinks  %s\n", strings.Join(st.Uplinks, ", "))
	}
	for _, tap := range st.Taps {
		what := "free"
		switch {
		case tap.Machine != "":
			what = "machine " + tap.Machine
		case tap.InUse:
			what = "in use"
		}
		fmt.Fprintf(a.Out, "port     %s, of user %d, %s\n", tap.Name, tap.Owner, what)
	}
	for _, p := range bridgeProblems(st) {
		fmt.Fprintf(a.Out, "problem  %s\n", p)
	}
	if !st.Up {
		return exitCode(exitError)
	}
	return nil
}

// bridgeLine says in a line what the bridge is.
func bridgeLine(st bridge.Status) string {
	if !st.Up {
		return fmt.Sprintf("bridge   %s: not there", st.Name)
	}
	return fmt.Sprintf("bridge   %s, %v", st.Name, st.Address)
}

// bridgeLimits says what machines reach.
func bridgeLimits(st bridge.Status) []string {
	limits := []string{"reach the internet"}
	if st.AllowLAN {
		limits = append(limits, "reach the local network")
	}
	if !st.Isolate {
		limits = append(limits, "reach each other")
	}
	return limits
}
