package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) rmCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [--force] NAME…",
		Short: "End machines and remove them, with everything in them",
		Long: `End machines and remove them, with everything in them: what they changed and
was not applied, volumes, the state of agents, and the file of a machine that
mayfly new made. Your directories stay as they are.

With --force the machine is not asked to power off: its supervisor is killed.`,
		Args:              usageArgs(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.completeAll,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.each(args, func(name string) error { return a.client.Remove(name, force) })
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill the machine in place of asking it to end")
	return cmd
}

func (a *app) gcCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "gc",
		Short: "Remove what crashed or killed processes left behind",
		Long: `Remove what crashed or killed processes left behind: dead machines, temporary
files of interrupted applies and builds, parts of images that no image has any
more, and of machines that are gone the records of networks and the transcripts
of agents that are older than 30 days. Running machines and images are not
touched; mayfly image rm removes an image.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.client.Collect(cmd.Context())
			for _, name := range r.Machines {
				fmt.Fprintln(a.Out, "removed machine "+name)
			}
			for _, name := range r.Audits {
				fmt.Fprintln(a.Out, "removed the record of machine "+name)
			}
			for _, name := range r.Transcripts {
				fmt.Fprintln(a.Out, "removed the transcripts "+name)
			}
			a.printRemoved(r.Removed, false)
			return err
		},
	}
}
