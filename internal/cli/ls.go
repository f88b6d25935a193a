package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
)

func (a *app) lsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List machines",
		Long: `List named machines, and those of mayfly run.

The image of a machine is one of:
  current   it is the one that a start would use
  stale     the machine runs with an older one; mayfly restart changes that
  outdated  the one that a start would use is not built; mayfly check builds it

The name of each agent is followed by what it does, for how long, and the last
that it said: needs answer, needs permission, works, idle, done, stopped, out of
memory, crashed or failed. Lines below the table name ports on which programs of
a machine listen.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.ls(cmd.Context()) },
	}
	a.jsonFlag(cmd)
	return cmd
}

// machineJSON is a machine as ls --json prints it. Fields are only added.
type machineJSON struct {
	mayfly.Info
	Next  string `json:"next,omitempty"`  // the command that puts right what is not as it should be
	Error string `json:"error,omitempty"` // what is wrong with the file
}

func newMachineJSON(i mayfly.Info) machineJSON {
	next, problem := words.Next(i)
	return machineJSON{i, next, problem}
}

// rows returns all machines, sorted by name.
func (a *app) rows(ctx context.Context) ([]machineJSON, error) {
	list, err := a.client.List(ctx)
	if err != nil {
		return nil, err
	}
	rows := make([]machineJSON, len(list))
	for i, info := range list {
		rows[i] = newMachineJSON(info)
	}
	return rows, nil
}

func (a *app) ls(ctx context.Context) error {
	rows, err := a.rows(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(rows)
	}
	if len(rows) == 0 {
		a.note("no machines; mayfly run or mayfly new makes one")
		return nil
	}
	t := newTable(a.Out, "NAME", "STATE", "AGE", "IMAGE", "ADDRESS", "MEMORY", "DISK", "AGENTS", "WORKSPACE")
	for _, r := range rows {
		age := "-"
		if !r.Started.IsZero() && r.State != mayfly.StateStopped {
			age = time.Since(r.Started).Round(time.Second).String()
		}
		var sessions []string
		for _, s := range r.Sessions {
			sessions = append(sessions, words.Session(s, time.Now()))
		}
		t.row(r.Name, r.State, age, words.Dash(r.Image), words.Dash(r.Address),
			words.Size(r.MemoryUsed), words.Size(r.DiskUsed), words.Dash(strings.Join(sessions, ", ")), words.Path(r.Workspace))
	}
	if err := t.flush(); err != nil {
		return err
	}
	var next []string
	for _, r := range rows {
		if r.Reason != "" {
			a.note("%s: %s: %s", r.Name, r.State, r.Reason)
		}
		for _, s := range r.Sessions {
			if s.Stopped {
				a.note("%s has stopped itself in %s; mayfly attach %s %s, then press a key to continue it", s.Name, r.Name, r.Name, s.Name)
			}
		}
		if text := words.ListeningOf(r.Info); text != "" {
			a.note("%s: %s", r.Name, text)
		}
		if r.Error != "" {
			a.note("%s: %s", r.Name, r.Error)
		}
		if r.Next != "" && !slices.Contains(next, r.Next) {
			next = append(next, r.Next)
		}
	}
	for _, command := range next {
		a.note("hint: %s", command)
	}
	return nil
}

// completeMachines completes the names of machines that run, or have left something.
func (a *app) completeMachines(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	running, _ := a.names()
	return running, cobra.ShellCompDirectiveNoFileComp
}

// completeNamed completes the names of machines that are defined.
func (a *app) completeNamed(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	_, defined := a.names()
	return defined, cobra.ShellCompDirectiveNoFileComp
}

// completeAll completes the names of all machines.
func (a *app) completeAll(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	names, defined := a.names()
	return sortedNames(append(names, defined...)), cobra.ShellCompDirectiveNoFileComp
}

// sortedNames returns names, sorted, each once.
func sortedNames(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// names returns those of machines that run or have left something, and of those that are
// defined: none where that cannot be found out.
func (a *app) names() (running, defined []string) {
	if a.client != nil {
		running, defined, _ = a.client.Names()
	}
	return running, defined
}
