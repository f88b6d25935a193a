package cli

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/mayfly-vm/mayfly"
)

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  takes(0, 0),
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.printJSON(versionJSON{a.version, runtime.GOOS, runtime.GOARCH, runtime.Version()})
			}
			_, err := fmt.Fprintln(a.Out, a.versionLine())
			return err
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

// versionLine is what version prints.
func (a *app) versionLine() string {
	return fmt.Sprintf("mayfly %s %s/%s %s", a.version, runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// versionJSON is what version --json prints. Fields are only added.
type versionJSON struct {
	Version string `json:"version"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
	Go      string `json:"go"`
}

// internalCommands are mayfly's own processes, started by the engine alone.
func (a *app) internalCommands() []*cobra.Command {
	var commands []*cobra.Command
	for _, word := range mayfly.InternalCommands() {
		commands = append(commands, &cobra.Command{
			Use:    word + " ARGUMENT",
			Hidden: true,
			Args:   takes(1, 1),
			RunE: func(cmd *cobra.Command, args []string) error {
				_, err := mayfly.Internal(cmd.Context(), []string{word, args[0]}, a.Err)
				if errors.Is(err, mayfly.ErrInput) {
					return err
				}
				if err != nil {
					return exitCode(exitError) // the owner was told
				}
				return nil
			},
		})
	}
	return commands
}

// manCommand writes the man pages, which come from the same table as the help.
func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIRECTORY",
		Short:  "Write the man pages into a directory",
		Hidden: true,
		Args:   takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			// A fixed date: the same source gives the same pages.
			date := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			root := cmd.Root()
			root.DisableAutoGenTag = true
			return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "mayfly", Manual: "mayfly", Date: &date}, args[0])
		},
	}
}
