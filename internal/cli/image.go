package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/template"
)

func (a *app) imageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Build, list and remove images",
		Args:  unknownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.imageBuildCommand(), a.imageLsCommand(), a.imageInspectCommand(),
		a.imageCheckCommand(), a.imageRmCommand(), a.imagePruneCommand())
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
			rows, err := a.withTemplates(all)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(a.Out, rows)
			}
			w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "KEY\tCREATED\tBASE\tAGENTS\tTEMPLATES\tPACKAGES")
			for _, m := range rows {
				fmt.Fprintf(w, "%.12s\t%s\t%s\t%s\t%s\t%s\n", m.Key, m.Created.Format(time.DateTime), m.Image.Base,
					dash(strings.Join(m.Image.Agents, " ")), summary(m.Templates), dash(strings.Join(m.Image.Packages, " ")))
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return cmd
}

// imageJSON is an image as image ls --json prints it. Fields are only added.
type imageJSON struct {
	image.Manifest
	Templates []template.Info `json:"templates"` // that machines of the image begin from
}

// withTemplates adds to the images the templates that were made of them.
func (a *app) withTemplates(all []image.Manifest) ([]imageJSON, error) {
	store, err := a.templates()
	if err != nil {
		return nil, err
	}
	infos, err := store.List()
	if err != nil {
		return nil, err
	}
	rows := make([]imageJSON, 0, len(all))
	for _, m := range all {
		row := imageJSON{Manifest: m, Templates: []template.Info{}}
		for _, info := range infos {
			if info.Identity.Image == m.Key {
				row.Templates = append(row.Templates, info)
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// summary says how many templates there are and how large.
func summary(infos []template.Info) string {
	var bytes int64
	for _, info := range infos {
		bytes += info.Bytes
	}
	if len(infos) == 0 {
		return "-"
	}
	return fmt.Sprintf("%d (%d MiB)", len(infos), bytes>>20)
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

func (a *app) imageCheckCommand() *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Compare everything in the store with its hashes",
		Long: `Compare everything in the store with its hashes. The exit code is 1 when
something is damaged. With --repair, what is damaged is removed, and built again
when it is next needed.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := a.images()
			if err != nil {
				return err
			}
			progress := a.newProgress()
			defer progress.stop()
			problems, err := store.Check(cmd.Context(), progress.image)
			if err != nil {
				return a.interrupted(err)
			}
			progress.stop()
			if a.json {
				if problems == nil {
					problems = []image.Problem{}
				}
				if err := a.printJSON(a.Out, problems); err != nil {
					return err
				}
			} else {
				for _, p := range problems {
					fmt.Fprintln(a.Out, p)
				}
			}
			switch {
			case len(problems) == 0:
				a.note("the store is as it was written")
				return nil
			case repair:
				if err := store.Repair(cmd.Context(), problems); err != nil {
					return err
				}
				// Their memory holds pages of what was damaged.
				if err := a.dropTemplates(); err != nil {
					return err
				}
				a.note("removed what was damaged; mayfly image build builds it again")
				return nil
			}
			a.note("hint: mayfly image check --repair")
			return exitCode(exitError)
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "remove what is damaged")
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return cmd
}

func (a *app) imageRmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rm KEY…",
		Short: "Remove images",
		Long: `Remove images by their keys, or the beginnings of them. The space that no other
image and no running machine needs is given back.`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := a.images()
			if err != nil {
				return err
			}
			for _, key := range args {
				m, err := store.Remove(cmd.Context(), key)
				if err != nil {
					return err
				}
				a.note("removed image %.12s", m.Key)
			}
			return a.prune(cmd.Context(), false)
		},
	}
}

func (a *app) imagePruneCommand() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove what no image needs any more",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.prune(cmd.Context(), dry) },
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be removed")
	return cmd
}

// prune removes parts that belong to no image and no machine.
func (a *app) prune(ctx context.Context, dry bool) error {
	machines, err := a.machines()
	if err != nil {
		return err
	}
	files, err := inUse(machines)
	if err != nil {
		return err
	}
	store, err := a.images()
	if err != nil {
		return err
	}
	removed, err := store.Prune(ctx, files, dry)
	if err == nil || errors.Is(err, image.ErrBusy) {
		// After the images, without which a template is of no use.
		var templates template.Collection
		var templateErr error
		templates, templateErr = a.collectTemplates(store, dry)
		removed.Items = append(removed.Items, templates.Items...)
		removed.Bytes += templates.Bytes
		if templateErr != nil {
			err = templateErr
		}
	}
	verb := "removed"
	if dry {
		verb = "would remove"
	}
	for _, item := range removed.Items {
		fmt.Fprintln(a.Out, verb+" "+item)
	}
	if len(removed.Items) > 0 {
		a.note("%s %.1f MiB", verb, float64(removed.Bytes)/(1<<20))
	}
	if errors.Is(err, image.ErrBusy) {
		a.note("%v", err)
		return nil
	}
	return err
}

// collectTemplates removes the templates that were not used for long, that take
// too much space, or whose image is gone.
func (a *app) collectTemplates(images *image.Store, dry bool) (template.Collection, error) {
	all, err := images.List()
	if err != nil {
		return template.Collection{}, err
	}
	there := make(map[string]bool) // by the image's key
	for _, m := range all {
		there[m.Key] = true
	}
	store, err := a.templates()
	if err != nil {
		return template.Collection{}, err
	}
	return store.Collect(template.Policy{
		MaxAge: template.MaxAge, MaxBytes: template.MaxBytes, Forget: true, Dry: dry,
		Wanted: func(r template.Record) bool {
			// Another version of mayfly has another initramfs.
			_, err := os.Stat(r.Identity.Initramfs)
			return err == nil && there[r.Identity.Image]
		},
	})
}

// dropTemplates takes all templates out of use.
func (a *app) dropTemplates() error {
	store, err := a.templates()
	if err != nil {
		return err
	}
	all, err := store.List()
	if err != nil {
		return err
	}
	for _, info := range all {
		if err := store.SetAside(info.Identity); err != nil {
			return err
		}
	}
	// The files of those from which a machine lives stay until the next time.
	_, err = store.Collect(template.Policy{MaxAge: template.MaxAge, MaxBytes: template.MaxBytes})
	return err
}
