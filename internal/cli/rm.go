package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) rmCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [--force] NAME…",
		Short: "End and remove machines, with everything in them",
		Long: `End and remove machines, with everything in them: changes that were not applied,
volumes, the state of coding agents, and the files that define them. Your
directories stay as they are.

With --force, mayfly kills a machine's supervisor and does not ask the machine
to power off.`,
		Args:              takes(1, anyNumber),
		ValidArgsFunction: a.completeAll,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.each(args, func(name string) error { return a.client.Remove(name, force) })
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill machines that do not end")
	return cmd
}

func (a *app) gcCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "gc",
		Short: "Remove what crashed or killed processes left behind",
		Long: `Remove what crashed or killed processes left behind: dead machines, temporary
files of interrupted applies and builds, and parts that no image needs. Also
remove audit logs and transcripts of coding agents that are older than 30 days
and whose machines are gone. Running machines and images are not touched; mayfly
image rm removes an image.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.client.Collect(cmd.Context())
			for _, name := range r.Machines {
				fmt.Fprintln(a.Out, "removed machine "+name)
			}
			for _, name := range r.Audits {
				fmt.Fprintln(a.Out, "removed the audit log of machine "+name)
			}
			for _, name := range r.Transcripts {
				fmt.Fprintln(a.Out, "removed the transcripts "+name)
			}
			a.printRemoved(r.Removed, false)
			return err
		},
	}
}
