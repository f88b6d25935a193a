package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
)

func (a *app) policyCommand() *cobra.Command {
	var private bool
	cmd := &cobra.Command{
		Use:   "policy NAME [allow|deny RULE… | egress public|allowlist|none]",
		Short: "Show or change what a running machine may reach",
		Long: `Show or change the egress policy of a running machine. A rule is a host, or *.
and a name for all hosts below it, and a port; without one, ports 80 and 443:
example.org, *.example.org, git.example.org:22. host.mayfly.internal:PORT is a
service on the host's own loopback interface.

A change takes effect at once, for this machine and until its end. Connections
that are no longer allowed are cut.`,
		Example: `  mayfly policy run-3f9a2c
  mayfly policy run-3f9a2c allow proxy.example.org:443
  mayfly policy run-3f9a2c egress allowlist`,
		Args:              takes(1, anyNumber),
		ValidArgsFunction: a.completePolicy,
		RunE: func(_ *cobra.Command, args []string) error {
			change, err := policyChange(args[1:], private)
			if err != nil {
				return usageError{err}
			}
			return a.policy(args[0], change)
		},
	}
	cmd.Flags().BoolVar(&private, "private", false, "with allow: also if the host has addresses that are not public")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) completePolicy(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	switch {
	case len(args) == 0:
		return a.completeMachines(cmd, args, prefix)
	case len(args) == 1:
		return []string{"allow", "deny", "egress"}, cobra.ShellCompDirectiveNoFileComp
	case args[1] == "egress":
		return []string{"public", "allowlist", "none"}, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// policyChange reads what is to change; words are empty for nothing.
func policyChange(words []string, private bool) (mayfly.NetworkChange, error) {
	var c mayfly.NetworkChange
	if len(words) == 0 {
		if private {
			return c, errors.New("--private is for allow")
		}
		return c, nil
	}
	verb, words := words[0], words[1:]
	if len(words) == 0 {
		switch verb {
		case "allow", "deny":
			return c, hint.Errorf("mayfly policy NAME "+verb+" example.org", "%s needs a rule, such as a host", verb)
		case "egress":
			return c, hint.Errorf("mayfly policy NAME egress allowlist", "egress needs a word: public, allowlist or none")
		}
	}
	switch verb {
	case "allow", "deny":
		for _, w := range words {
			rule, err := mayfly.ParseRule(w)
			if err != nil {
				return c, err
			}
			rule.Private, rule.From = rule.Private || private, "mayfly policy"
			if verb == "allow" {
				c.Allow = append(c.Allow, rule)
			} else {
				c.Deny = append(c.Deny, rule)
			}
		}
	case "egress":
		if len(words) != 1 {
			return c, errors.New("egress takes one word")
		}
		switch words[0] {
		case "public", "allowlist", "none":
			c.Egress = words[0]
		default:
			return c, fmt.Errorf("egress %q: it is public, allowlist or none", words[0])
		}
	default:
		return c, fmt.Errorf("unknown word %q: it is allow, deny or egress", verb)
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
