package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

func (a *app) watchCommand() *cobra.Command {
	var notify bool
	var command string
	cmd := &cobra.Command{
		Use:   "watch [flags] [NAME...]",
		Short: "Print what coding agents do, and notify you when one waits",
		Long: `Print what the coding agents and other sessions of machines do, as mayfly ls
does, and a line for each change, until you press Ctrl-C. Without NAME, print it
for all machines, also those that start later.

With --notify, mayfly notifies you when an agent needs an answer or a
permission, is done, or has ended otherwise: by notify-send if there is a
desktop, and else by your terminal.

With --exec, a shell runs a command of yours for each change. It gets the names
of the machine and of the session in MAYFLY_MACHINE and MAYFLY_SESSION, and what
the agent does in MAYFLY_STATE ("ended" if the machine has ended). It gets no
text of the machine's, and is killed after a minute.`,
		Example: `  mayfly watch --notify
  mayfly watch --exec 'echo "$MAYFLY_MACHINE $MAYFLY_STATE" >>agents.log' web`,
		Args:              takes(0, anyNumber),
		ValidArgsFunction: a.completeAll,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.watch(cmd.Context(), args, notify, command)
		},
	}
	a.jsonFlag(cmd, "print each change as JSON on a line of its own")
	cmd.Flags().BoolVar(&notify, "notify", false, "notify you when an agent waits or has ended")
	cmd.Flags().StringVar(&command, "exec", "", "run a shell `command` for each change")
	return cmd
}

func (a *app) watch(ctx context.Context, names []string, notify bool, command string) error {
	var tell []func(mayfly.SessionChange)
	if notify {
		n := a.newNotifier(ctx)
		defer n.end()
		tell = append(tell, n.take)
	}
	if command != "" {
		r := a.newRunner(ctx, command)
		defer r.end()
		tell = append(tell, r.take)
	}
	return a.client.WatchSessions(ctx, names, func(c mayfly.SessionChange) error {
		for _, f := range tell {
			f(c)
		}
		return a.printChange(c, time.Now())
	})
}

func (a *app) printChange(c mayfly.SessionChange, now time.Time) error {
	if a.json {
		return writeJSON(a.Out, c, "")
	}
	text := "has ended"
	if c.Session != nil {
		text = c.Session.Name + " " + words.SessionState(*c.Session, now)
	}
	_, err := fmt.Fprintln(a.Out, now.Format(time.TimeOnly)+"  "+c.Machine+": "+termsafe.Line(text))
	return err
}
