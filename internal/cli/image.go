package cli

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) imageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Build, list and remove images",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.imageBuildCommand(), a.imageLsCommand(), a.imageInspectCommand())
	return cmd
}

func (a *app) imageBuildCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build the image that run would use here",
		Long: `Build the image that run would use in this directory with the same flags, and
print its key.`,
		Example: "  mayfly image build --profile go,claude",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.noWorkspace = o.workspace == ""
			p, err := a.plan(cmd.Context(), &o, nil, cmd.Flags().Changed)
			if err != nil {
				return err
			}
			store, err := a.images()
			if err != nil {
				return err
			}
			progress := a.newProgress()
			defer progress.stop()
			img, err := store.Ensure(cmd.Context(), p.Image, progress.image)
			if err != nil {
				return a.interrupted(err)
			}
			progress.stop()
			if a.json {
				return a.printJSON(a.Out, img)
			}
			fmt.Fprintln(a.Out, img.Key)
			for _, agent := range img.Agents {
				a.note("agent %s", agent)
			}
			return nil
		},
	}
	o.settings.register(cmd.Flags())
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return cmd
}

func (a *app) imageLsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List images",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			store, err := a.images()
			if err != nil {
				return err
			}
			all, err := store.List()
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(a.Out, all)
			}
			w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "KEY\tCREATED\tBASE\tAGENTS\tPACKAGES")
			for _, m := range all {
				fmt.Fprintf(w, "%.12s\t%s\t%s\t%s\t%s\n", m.Key, m.Created.Format(time.DateTime), m.Image.Base,
					dash(strings.Join(m.Image.Agents, " ")), dash(strings.Join(m.Image.Packages, " ")))
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return cmd
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (a *app) imageInspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect KEY",
		Short: "Print all that is known of an image, as JSON",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			store, err := a.images()
			if err != nil {
				return err
			}
			d, err := store.Inspect(args[0])
			if err != nil {
				return err
			}
			return a.printJSON(a.Out, d)
		},
	}
}
