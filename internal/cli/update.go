package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/image/agents"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

func (a *app) updateCommand() *cobra.Command {
	var timer bool
	cmd := &cobra.Command{
		Use:   "update [flags] [NAME…]",
		Short: "Build the images of machines anew, with the newest packages and agents",
		Long: `Build the images of machines, of all without a name, anew with the newest
packages of Debian and the newest agents, and list what has changed. Machines
that run keep their image until they are restarted; mayfly ls calls it stale.

The versions of agents are pinned, with their hashes, in agents.lock.json beside
the configuration. If anything fails, everything stays as it was.

With --timer systemd does that each day; mayfly systemd timer has more.`,
		Args:              usageArgs(cobra.ArbitraryArgs),
		ValidArgsFunction: a.completeNamed,
		RunE: func(cmd *cobra.Command, args []string) error {
			if timer {
				return a.systemdTimer(cmd.Context(), systemdOptions{})
			}
			return a.update(cmd.Context(), args)
		},
	}
	cmd.Flags().BoolVar(&timer, "timer", false, "install a timer of systemd that updates each day")
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return cmd
}

func (a *app) update(ctx context.Context, names []string) error {
	store, err := a.definitions()
	if err != nil {
		return err
	}
	defs, err := store.List()
	if err != nil {
		return err
	}
	if len(names) > 0 {
		defs = nil
		for _, name := range names {
			d, err := store.Get(name)
			if err != nil {
				return err
			}
			defs = append(defs, d)
		}
	}
	if len(defs) == 0 {
		a.note("no machine is defined; mayfly new defines one")
		if a.json {
			return a.printJSON(a.Out, []image.Change{})
		}
		return nil
	}
	images, err := a.imagesOf(ctx, defs)
	if err != nil {
		return err
	}
	changes, err := a.updateImages(ctx, images)
	if err != nil {
		return a.interrupted(err)
	}
	if a.json {
		if changes == nil {
			changes = []image.Change{}
		}
		return a.printJSON(a.Out, changes)
	}
	for _, c := range changes {
		fmt.Fprintln(a.Out, c)
	}
	if len(changes) == 0 {
		a.note("everything is of the newest version")
	}
	return a.nameStale(ctx)
}

// imagesOf returns the images of machines, each once.
func (a *app) imagesOf(ctx context.Context, defs []definition.Definition) ([]plan.Image, error) {
	facts, err := a.facts(ctx, false)
	if err != nil {
		return nil, err
	}
	var images []plan.Image
	for _, d := range defs {
		cfg, err := a.loadNamed(d)
		if err != nil {
			return nil, err
		}
		if err := a.updateDotfiles(cfg); err != nil {
			return nil, err
		}
		p, err := outline(cfg, facts, d)
		if err != nil {
			return nil, usageError{err}
		}
		if !slices.ContainsFunc(images, p.Image.Equal) {
			images = append(images, p.Image)
		}
	}
	return images, nil
}

// updateImages pins the newest agents of the images and builds these. The pins are taken
// back when it fails.
func (a *app) updateImages(ctx context.Context, images []plan.Image) (changes []image.Change, err error) {
	dirs, err := a.dirs()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dirs.Config, agentsLockFile)
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	newest, changes, err := a.newestAgents(ctx, path, images)
	if err != nil {
		return nil, err
	}
	if len(newest) > 0 {
		defer func() {
			if err != nil {
				err = errors.Join(err, restore(path, before))
			}
		}()
		if err := agents.Pin(path, newest); err != nil {
			return nil, err
		}
	}
	store, err := a.images() // with the lock file as it is now
	if err != nil {
		return nil, err
	}
	progress := a.newProgress()
	defer progress.stop()
	packages, err := store.Update(ctx, images, progress.image)
	return append(changes, packages...), err
}

// restore gives a file its content back, nil for none.
func restore(path string, content []byte) error {
	if content == nil {
		return os.Remove(path)
	}
	return os.WriteFile(path, content, 0o644)
}

// newestAgents returns the agents of images of which there is a newer version.
func (a *app) newestAgents(ctx context.Context, lockFile string, images []plan.Image) (newest []agents.Named, changes []image.Change, err error) {
	lock, err := agents.Load(lockFile)
	if err != nil {
		return nil, nil, err
	}
	var names []string
	for _, i := range images {
		names = append(names, i.Agents...)
	}
	pinned, err := lock.Select(names)
	if err != nil {
		return nil, nil, err
	}
	for _, old := range pinned {
		latest, err := agents.Latest(ctx, old)
		if err != nil {
			return nil, nil, err
		}
		if latest.Version != old.Version {
			newest = append(newest, latest)
			changes = append(changes, image.Change{Name: "agent " + old.Name, From: old.Version, To: latest.Version})
		}
	}
	return newest, changes, nil
}

// nameStale says which machines run with an older image.
func (a *app) nameStale(ctx context.Context) error {
	rows, err := a.rows(ctx)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.Image == imageStale {
			a.note("%s runs with its old image until mayfly restart %s", r.Name, r.Name)
		}
	}
	return nil
}
