package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
)

// wordAlways is allow for later starts of a machine, too.
const wordAlways = "always"

// policyOptions are the flags of mayfly policy.
type policyOptions struct {
	private bool
	once    bool
}

func (a *app) policyCommand() *cobra.Command {
	var o policyOptions
	cmd := &cobra.Command{
		Use:   "policy NAME [allow|always|deny RULE… | egress public|allowlist|ask|none]",
		Short: "Show or change what a running machine may reach",
		Long: `Show or change the egress policy of a running machine. A rule is a host, or *.
and a name for all hosts below it, and a port; without one, ports 80 and 443:
example.org, *.example.org, git.example.org:22. host.mayfly.internal:PORT is a
service on the host's own loopback interface.

A change takes effect at once, for this machine and until its end. Connections
that are no longer allowed are cut. With always, mayfly also writes the hosts
into the machine's file, so that they hold when it starts again.

With egress ask, a connection that no rule covers waits up to 50 seconds for
your answer. Without allow or deny, mayfly policy lists what waits. These answer
it: allow for this machine until its end, allow --once for the connections that
wait now, always for later starts, too, deny until the end. Where nobody could
answer, the connection is refused at once: open mayfly top in another terminal
to be asked.`,
		Example: `  mayfly policy run-3f9a2c
  mayfly policy run-3f9a2c allow proxy.example.org:443
  mayfly policy run-3f9a2c allow --once example.org
  mayfly policy dcs always example.org
  mayfly policy run-3f9a2c egress allowlist`,
		Args:              takes(1, anyNumber),
		ValidArgsFunction: a.completePolicy,
		RunE: func(cmd *cobra.Command, args []string) error {
			change, err := policyChange(args[1:], o)
			if err != nil {
				return usageError{err}
			}
			if len(args) > 1 && args[1] == wordAlways {
				return a.policyAlways(cmd.Context(), args[0], change.Allow)
			}
			return a.policy(args[0], change)
		},
	}
	cmd.Flags().BoolVar(&o.private, "private", false, "with allow and always: also if the host has addresses that are not public")
	cmd.Flags().BoolVar(&o.once, "once", false, "with allow: only the connections that wait for an answer")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) completePolicy(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	switch {
	case len(args) == 0:
		return a.completeMachines(cmd, args, prefix)
	case len(args) == 1:
		return []string{"allow", wordAlways, "deny", "egress"}, cobra.ShellCompDirectiveNoFileComp
	case args[1] == "egress":
		return []string{"public", "allowlist", "ask", "none"}, cobra.ShellCompDirectiveNoFileComp
	case a.client != nil:
		// A host that is asked about.
		var hosts []string
		if st, err := a.client.ChangeNetwork(args[0], mayfly.NetworkChange{}); err == nil {
			for _, q := range st.Questions {
				hosts = append(hosts, q.Host)
			}
		}
		return hosts, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// policyChange reads what is to change; words are empty for nothing.
func policyChange(words []string, o policyOptions) (mayfly.NetworkChange, error) {
	var c mayfly.NetworkChange
	switch {
	case o.private && len(words) == 0:
		return c, errors.New("--private is for allow and always")
	case o.once && (len(words) == 0 || words[0] != "allow"):
		return c, errors.New("--once is for allow")
	}
	if len(words) == 0 {
		return c, nil
	}
	verb, words := words[0], words[1:]
	if len(words) == 0 {
		switch verb {
		case "allow", wordAlways, "deny":
			return c, hint.Errorf("mayfly policy NAME "+verb+" example.org", "%s needs a rule, such as a host", verb)
		case "egress":
			return c, hint.Errorf("mayfly policy NAME egress allowlist", "egress needs a word: public, allowlist, ask or none")
		}
	}
	switch verb {
	case "allow", wordAlways, "deny":
		for _, w := range words {
			rule, err := mayfly.ParseRule(w)
			if err != nil {
				return c, err
			}
			rule.Private, rule.From, rule.Once = rule.Private || o.private, "mayfly policy", o.once
			if o.once && (strings.HasPrefix(rule.Host, "*.") || len(rule.Methods)+len(rule.Paths) > 0) {
				return c, fmt.Errorf("--once: %s is not a host that waits for an answer", rule)
			}
			if verb == "deny" {
				c.Deny = append(c.Deny, rule)
			} else {
				c.Allow = append(c.Allow, rule)
			}
		}
	case "egress":
		if len(words) != 1 {
			return c, errors.New("egress takes one word")
		}
		switch words[0] {
		case "public", "allowlist", "ask", "none":
			c.Egress = words[0]
		default:
			return c, fmt.Errorf("egress %q: it is public, allowlist, ask or none", words[0])
		}
	default:
		return c, fmt.Errorf("unknown word %q: it is allow, always, deny or egress", verb)
	}
	return c, nil
}

func (a *app) policy(name string, change mayfly.NetworkChange) error {
	st, err := a.client.ChangeNetwork(name, change)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(st)
	}
	return a.printRows("%-9s%s\n", words.Policy(st))
}

// policyAlways lets a machine reach hosts, now and when it starts again.
func (a *app) policyAlways(ctx context.Context, name string, rules []mayfly.Rule) error {
	st, file, err := a.client.AllowAlways(ctx, name, rules)
	if err != nil {
		return err
	}
	a.note("%s allows it when %s starts again", file, name)
	if a.json {
		return a.printJSON(st)
	}
	return a.printRows("%-9s%s\n", words.Policy(st))
}
