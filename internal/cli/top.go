package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

func (a *app) topCommand() *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show what running machines use of the host",
		Long: `Show what running machines use of the host, every two seconds until you press
Ctrl-C. Without a terminal, or with --once, show it once.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.top(cmd.Context(), once) },
	}
	cmd.Flags().BoolVar(&once, "once", false, "show it once")
	a.jsonFlag(cmd, "print JSON, once")
	return cmd
}

// topInterval is the time over which CPUs are measured.
const topInterval = 2 * time.Second

func (a *app) top(ctx context.Context, once bool) error {
	meter, err := a.client.NewMeter()
	if err != nil {
		return err
	}
	live := terminal.Is(a.Out) && !once && !a.json
	for wait := topInterval / 4; ; wait = topInterval {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			if live {
				return nil // as its user ends it
			}
			return context.Cause(ctx)
		}
		rows, err := meter.Read()
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(rows)
		}
		var b strings.Builder
		if live {
			b.WriteString("\x1b[H\x1b[J")
		}
		t := newTable(&b, "NAME", "CPU", "TIME", "MEMORY", "DISK")
		for _, r := range rows {
			t.row(r.Name, fmt.Sprintf("%.0f%%", r.CPU*100), time.Duration(r.CPUSeconds)*time.Second, words.Size(r.Memory), words.Size(r.Disk)+" / "+words.Size(r.DiskBound))
		}
		t.flush()
		if _, err := a.Out.WriteString(b.String()); err != nil || !live {
			return err
		}
	}
}
