package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

func (a *app) logsCommand() *cobra.Command {
	var supervisorLog, follow bool
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "Print the console of a machine",
		Long: `Print what a machine's kernel printed on its console. The text is the guest's:
mayfly replaces control characters. With --follow, print what is added until the
machine ends.`,
		Args:              takes(1, 1),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			o := mayfly.LogOptions{Supervisor: supervisorLog, Follow: follow}
			return a.client.Logs(cmd.Context(), args[0], o, a.printLog)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "print what is added until the machine ends")
	cmd.Flags().BoolVar(&supervisorLog, "supervisor", false, "print the log of the supervisor and the VMM instead")
	return cmd
}

// printLog prints lines that a guest has written.
func (a *app) printLog(data []byte) error {
	for line := range strings.Lines(string(data)) {
		if _, err := fmt.Fprintln(a.Out, termsafe.Line(strings.TrimRight(line, "\r\n"))); err != nil {
			return err
		}
	}
	return nil
}
