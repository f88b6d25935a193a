package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
)

func (a *app) imageCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "image",
		Short: "Build, list and remove images",
	}, a.imageBuildCommand(), a.imageLsCommand(), a.imageInspectCommand(),
		a.imageCheckCommand(), a.imageRmCommand(), a.imagePruneCommand())
}

func (a *app) imageBuildCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build the image that mayfly run would use here",
		Long: `Build the image that mayfly run would use in this directory with the same flags,
and print its key.`,
		Example: "  mayfly image build --profile go,claude",
		Args:    takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.noWorkspace = o.workspace == ""
			spec, err := a.spec(&o, nil, cmd.Flags().Changed)
			if err != nil {
				return err
			}
			img, err := a.client.BuildImage(cmd.Context(), spec)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(img)
			}
			fmt.Fprintln(a.Out, img.Key)
			for _, agent := range img.Agents {
				a.note("agent %s", agent)
			}
			return nil
		},
	}
	o.settings.register(cmd.Flags())
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) imageLsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List images",
		Args:  takes(0, 0),
		RunE: func(*cobra.Command, []string) error {
			rows, err := a.client.Images()
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(rows)
			}
			t := newTable(a.Out, "KEY", "CREATED", "BASE", "AGENTS", "TEMPLATES", "PACKAGES")
			for _, m := range rows {
				t.row(fmt.Sprintf("%.12s", m.Key), m.Created.Format(time.DateTime), m.Base,
					words.Dash(strings.Join(m.Agents, " ")), words.Templates(m.Templates), words.Dash(strings.Join(m.Packages, " ")))
			}
			return t.flush()
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) imageInspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect KEY",
		Short: "Print all facts about an image as JSON",
		Args:  takes(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := a.client.Image(args[0])
			if err != nil {
				return err
			}
			return a.printJSON(d)
		},
	}
}

func (a *app) imageCheckCommand() *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Compare all images with their hashes",
		Long: `Compare everything in the store of images with its hashes. The exit code is 1 if
something is damaged. With --repair, mayfly removes what is damaged; it is built
again when it is needed.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			problems, err := a.client.CheckImages(cmd.Context(), repair)
			if err != nil && len(problems) == 0 {
				return err
			}
			if a.json {
				if err := a.printJSON(problems); err != nil {
					return err
				}
			} else {
				for _, p := range problems {
					fmt.Fprintln(a.Out, p)
				}
			}
			switch {
			case err != nil: // they are not repaired
				return err
			case len(problems) == 0:
				a.note("the store of images is undamaged")
				return nil
			case repair:
				a.note("removed what was damaged; mayfly image build builds it again")
				return nil
			}
			a.note("hint: mayfly image check --repair")
			return exitCode(exitError)
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "remove what is damaged")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) imageRmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rm KEY…",
		Short: "Remove images",
		Long: `Remove images by their keys, or by the beginnings of keys. Parts that another
image or a running machine needs stay.`,
		Args: takes(1, anyNumber),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, prefix := range args {
				key, err := a.client.RemoveImage(cmd.Context(), prefix)
				if err != nil {
					return err
				}
				a.note("removed image %.12s", key)
			}
			return a.prune(cmd.Context(), false)
		},
	}
}

func (a *app) imagePruneCommand() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove parts that no image needs",
		Args:  takes(0, 0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.prune(cmd.Context(), dry) },
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only print what would be removed")
	return cmd
}

// prune removes parts that belong to no image and no machine.
func (a *app) prune(ctx context.Context, dry bool) error {
	r, err := a.client.Prune(ctx, dry)
	a.printRemoved(r, dry)
	return err
}

func (a *app) printRemoved(r mayfly.Removed, dry bool) {
	verb := "removed"
	if dry {
		verb = "would remove"
	}
	for _, item := range r.Items {
		fmt.Fprintln(a.Out, verb+" "+item)
	}
	if len(r.Items) > 0 {
		a.note("%s %.1f MiB", verb, float64(r.Bytes)/(1<<20))
	}
	if r.Busy != nil {
		a.note("%v", r.Busy)
	}
}
