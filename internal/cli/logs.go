package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

func (a *app) logsCommand() *cobra.Command {
	var supervisorLog, follow bool
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "Print what a machine's kernel printed",
		Long: `Print what a machine's kernel printed on its console. It is the guest's text:
control characters are replaced. With --follow what is printed from now on
comes, too, until the machine ends.`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := a.machine(args[0])
			if err != nil {
				return err
			}
			files := []string{state.ConsoleFile + ".old", state.ConsoleFile}
			if supervisorLog {
				files = []string{state.LogFile, state.VMMLogFile}
			}
			var end int64
			for _, name := range files {
				if end, err = a.printLog(m.File(name), 0); err != nil {
					return err
				}
			}
			if follow {
				return a.followLog(cmd.Context(), m, m.File(files[len(files)-1]), end)
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is printed from now on")
	cmd.Flags().BoolVar(&supervisorLog, "supervisor", false, "print what mayfly's own supervisor and the VMM logged")
	return cmd
}

// maxLog bounds what is read of one log in bytes; all are bounded where they
// are written.
const maxLog = 4 << 20

// printLog prints the lines of a log from an offset on, and returns where they end.
func (a *app) printLog(name string, offset int64) (end int64, err error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return offset, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.Size() < offset {
		offset = 0 // begun anew
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return offset, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxLog))
	if err != nil {
		return offset, err
	}
	for line := range strings.Lines(string(data)) {
		if _, err := fmt.Fprintln(a.Out, termsafe.Line(strings.TrimRight(line, "\r\n"))); err != nil {
			return offset, err
		}
	}
	return offset + int64(len(data)), nil
}

// followLog prints what is added to a log until the machine ends.
func (a *app) followLog(ctx context.Context, m state.Machine, name string, offset int64) error {
	for {
		alive := m.Alive()
		end, err := a.printLog(name, offset)
		if err != nil || !alive {
			return err
		}
		offset = end
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(250 * time.Millisecond):
		}
	}
}
