package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/terminal"
	"github.com/mayfly-vm/mayfly/internal/userfile"
)

func (a *app) loginCommand() *cobra.Command {
	var keyFile string
	var imported bool
	cmd := &cobra.Command{
		Use:   "login [flags] AGENT",
		Short: "Keep the log-in of a coding agent on this computer",
		Long: `Keep the log-in of a coding agent on this computer: an API key, or a token that
the agent takes from a variable. On a terminal, mayfly asks for it and does not
show it. Else it reads it from standard input.

Each machine in which the agent can work gets a placeholder from its next start
on. Requests to the agent's provider get the key on their way, and no others.
--no-login, or login = false in [agent], keeps it from a machine. What you give
a machine with --secret or [secrets] for the same agent wins.

With --import, mayfly takes over the log-in of a subscription that the agent has
on this computer (Claude Code). It renews the tokens from then on, for all
machines. A log-in can be renewed by one program only: the agent on this
computer has to log in anew when its own one has ended.

What is kept is in a file that only you can read, in mayfly's state directory.`,
		Example: `  mayfly login claude
  mayfly login claude --import
  mayfly login codex --key-file ~/openai-key
  mayfly login ls`,
		Args:      loginArgs,
		ValidArgs: codingagent.Names(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			if imported && keyFile != "" {
				return usageError{errors.New("--import takes the agent's own log-in, and no --key-file")}
			}
			if imported {
				return a.importLogin(cmd.Context(), args[0])
			}
			return a.login(cmd.Context(), args[0], keyFile)
		},
		// Unlike other commands that have commands, it does something itself.
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.openClient() },
	}
	cmd.Flags().StringVar(&keyFile, "key-file", "", "read the key from this `file`, which stays as it is")
	cmd.Flags().BoolVar(&imported, "import", false, "take over the log-in that the agent has on this computer")
	cmd.AddCommand(a.loginLsCommand(), a.loginRmCommand())
	return cmd
}

// loginArgs wants one agent. What else there is may be a key, which no error repeats.
func loginArgs(cmd *cobra.Command, args []string) error {
	agents := strings.Join(codingagent.Names(), ", ")
	switch {
	case len(args) > 1:
		return usageError{hint.Errorf("mayfly login AGENT asks for the key", "%s takes one coding agent and no key: arguments can be read by other programs", cmd.CommandPath())}
	case len(args) == 1 && !slices.Contains(codingagent.Names(), args[0]):
		return usageError{hint.Errorf("mayfly login "+codingagent.Default, "that is no coding agent; there is %s", agents)}
	}
	return nil
}

func (a *app) login(ctx context.Context, agent, keyFile string) error {
	title := agent
	if known, ok := codingagent.Find(agent); ok {
		title = known.Title
	}
	key, err := a.readKey(ctx, title, keyFile)
	if err != nil {
		return err
	}
	l, err := a.client.KeepLogin(ctx, agent, strings.TrimSpace(key))
	if err != nil {
		return err
	}
	a.note("%s is logged in: from their next start on, machines with %s get a placeholder, and requests to %s the key",
		title, agent, strings.Join(l.Hosts, " and "))
	return nil
}

func (a *app) importLogin(ctx context.Context, agent string) error {
	l, file, err := a.client.ImportLogin(ctx, agent)
	if err != nil {
		return err
	}
	title := agent
	if known, ok := codingagent.Find(agent); ok {
		title = known.Title
	}
	a.note("the log-in of %s is taken over from %s: from their next start on, machines with %s get a placeholder, and requests to %s the token, which mayfly renews",
		title, file, agent, strings.Join(l.Hosts, " and "))
	a.note("%s on this computer will have to log in anew: what renews a log-in first ends it for the other", title)
	return nil
}

// maxKey bounds what is read as a key, in bytes.
const maxKey = 64 << 10

// readKey gets a key from its user.
func (a *app) readKey(ctx context.Context, title, keyFile string) (string, error) {
	if keyFile != "" {
		data, err := userfile.Read(keyFile, maxKey)
		if err != nil {
			return "", fmt.Errorf("read the key: %w", err)
		}
		return string(data), nil
	}
	if !terminal.Is(a.In) {
		data, err := io.ReadAll(io.LimitReader(a.In, maxKey+1))
		if err != nil {
			return "", fmt.Errorf("read the key: %w", err)
		}
		return string(data), nil
	}
	fmt.Fprintf(a.Err, "API key of %s (it is not shown): ", title)
	key, err := terminal.ReadSecret(a.signals.Context(), a.In)
	fmt.Fprintln(a.Err)
	if errors.Is(err, io.EOF) {
		return "", errUnanswered
	}
	return key, err
}

func (a *app) loginLsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the log-ins that this computer keeps",
		Args:  takes(0, 0),
		RunE: func(*cobra.Command, []string) error {
			list, err := a.client.Logins()
			if a.json {
				return errors.Join(a.printJSON(list), err)
			}
			t := newTable(a.Out, "AGENT", "KIND", "VARIABLE", "GOES TO", "SINCE", "STATE")
			for _, l := range list {
				t.row(l.Agent, l.Kind, l.Variable, strings.Join(l.Hosts, " "), l.Since.Local().Format(time.DateTime), loginState(l))
			}
			return errors.Join(t.flush(), err)
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

// loginState says what there is to do about a log-in.
func loginState(l mayfly.Login) string {
	if l.Ended {
		return "ended: mayfly login " + l.Agent + " --import"
	}
	return "-"
}

func (a *app) loginRmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rm AGENT…",
		Short: "Forget log-ins that this computer keeps",
		Long: `Forget log-ins that this computer keeps. A machine that runs has what it was
lent until it ends; the tokens of a subscription it has until the next look at
what is kept, some seconds. A key stays valid: revoke it at the provider.`,
		Args:      takes(1, anyNumber),
		ValidArgs: codingagent.Names(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, func(agent string) error { return a.client.RemoveLogin(cmd.Context(), agent) })
		},
	}
}
