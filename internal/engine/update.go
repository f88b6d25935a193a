package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/image/agents"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// Update builds the images of the machines with these names, of all without any, anew
// with the newest packages and coding agents, and returns what has changed. If anything
// fails, everything stays as it was.
func (e *Engine) Update(ctx context.Context, names []string) ([]image.Change, error) {
	var defs []definition.Definition
	for _, name := range names {
		d, err := e.definitions().Get(name)
		if err != nil {
			return nil, err
		}
		defs = append(defs, d)
	}
	if len(names) == 0 {
		var err error
		if defs, err = e.definitions().List(); err != nil {
			return nil, err
		}
	}
	images, err := e.imagesOf(ctx, defs)
	if err != nil {
		return nil, err
	}
	return e.updateImages(ctx, images)
}

// imagesOf returns the images of machines, each once.
func (e *Engine) imagesOf(ctx context.Context, defs []definition.Definition) ([]plan.Image, error) {
	look := e.newLook(ctx)
	if look.err != nil {
		return nil, look.err
	}
	var images []plan.Image
	for _, d := range defs {
		cfg, err := look.load(d)
		if err != nil {
			return nil, err
		}
		if err := e.forgetDotfiles(cfg); err != nil {
			return nil, err
		}
		p, err := outline(cfg, look.facts, d)
		if err != nil {
			return nil, InputError{err}
		}
		if !slices.ContainsFunc(images, p.Image.Equal) {
			images = append(images, p.Image)
		}
	}
	return images, nil
}

// updateImages pins the newest coding agents of the images and builds these. The pins are
// taken back when it fails.
func (e *Engine) updateImages(ctx context.Context, images []plan.Image) (changes []image.Change, err error) {
	path := e.agentsLock()
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	newest, changes, err := newestAgents(ctx, path, images)
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
	store, err := e.images() // with the lock file as it is now
	if err != nil {
		return nil, err
	}
	defer e.done()
	packages, err := store.Update(ctx, images, e.imageStep)
	return append(changes, packages...), err
}

// restore gives a file its content back, nil for none.
func restore(path string, content []byte) error {
	if content == nil {
		return os.Remove(path)
	}
	return atomicfile.Write(path, content, 0o644)
}

// newestAgents returns the coding agents of images of which there is a newer version.
func newestAgents(ctx context.Context, lockFile string, images []plan.Image) (newest []agents.Named, changes []image.Change, err error) {
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
