package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

func (a *app) topCommand() *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch machines, and work with them, on one screen",
		Long: `Show all machines on one screen: those whose agent waits for you first, then for
each how it does and for how long, the connections that it was refused, what it
uses of the host, and what it said last. The screen follows what happens.

Keys do what commands do. Enter shows the agent's session; when you leave that,
the screen is back. d lists the changes and a applies them, n shows the hosts
that the machine was refused and lets it reach one, s opens a shell, l prints
the console, x stops the machine. ? explains all keys, and q ends.

Without a terminal, or with --once, print once what running machines use of the
host, as a table.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !once && !a.json && terminal.Is(a.In) && terminal.Is(a.Out) && a.getenv("TERM") != "dumb" {
				return a.dashboard(cmd.Context())
			}
			return a.top(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "print a table, once")
	a.jsonFlag(cmd, "print JSON, once")
	return cmd
}

// The times over which CPUs are measured: the first is short, so that nobody waits.
const (
	topFirst    = 500 * time.Millisecond
	topInterval = 2 * time.Second
)

// top prints what running machines take of the host.
func (a *app) top(ctx context.Context) error {
	meter, err := a.client.NewMeter()
	if err != nil {
		return err
	}
	select {
	case <-time.After(topFirst):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	rows, err := meter.Read()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(rows)
	}
	t := newTable(a.Out, "NAME", "CPU", "TIME", "MEMORY", "DISK")
	for _, r := range rows {
		t.row(r.Name, fmt.Sprintf("%.0f%%", r.CPU*100), time.Duration(r.CPUSeconds)*time.Second, words.Size(r.Memory), words.Size(r.Disk)+" / "+words.Size(r.DiskBound))
	}
	return t.flush()
}
