package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/state"
)

func (a *app) logsCommand() *cobra.Command {
	var supervisorLog bool
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "Print what a machine's kernel printed",
		Long: `Print what a machine's kernel printed on its console. It is the guest's text:
control characters are replaced.`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeMachines,
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := a.machine(args[0])
			if err != nil {
				return err
			}
			files := []string{state.ConsoleFile + ".old", state.ConsoleFile}
			if supervisorLog {
				files = []string{state.LogFile, state.VMMLogFile}
			}
			for _, name := range files {
				if err := a.printLog(m.File(name)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&supervisorLog, "supervisor", false, "print what mayfly's own supervisor and the VMM logged")
	return cmd
}

// maxLog bounds what is read of one log in bytes; all are bounded where they
// are written.
const maxLog = 4 << 20

func (a *app) printLog(name string) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxLog))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		fmt.Fprintln(a.Out, client.Printable(strings.TrimRight(line, "\r\n")))
	}
	return nil
}
