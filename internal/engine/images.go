package engine

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/template"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// BuildImage builds the image of a machine of s unless it is there.
func (e *Engine) BuildImage(ctx context.Context, s Spec) (image.Image, error) {
	p, err := e.planSpec(ctx, s)
	if err != nil {
		return image.Image{}, err
	}
	return e.ensureImage(ctx, p.Image)
}

// ListedImage is an image with the templates that machines of it begin from.
type ListedImage struct {
	image.Manifest
	Templates []template.Info `json:"templates"`
}

// Images lists the images.
func (e *Engine) Images() ([]ListedImage, error) {
	store, err := e.images()
	if err != nil {
		return nil, err
	}
	all, err := store.List()
	if err != nil {
		return nil, err
	}
	infos, err := e.templates().List()
	if err != nil {
		return nil, err
	}
	rows := make([]ListedImage, 0, len(all))
	for _, m := range all {
		row := ListedImage{Manifest: m, Templates: []template.Info{}}
		for _, info := range infos {
			if info.Identity.Image == m.Key {
				row.Templates = append(row.Templates, info)
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// Image returns all that is known of the image whose key begins with prefix.
func (e *Engine) Image(prefix string) (image.Details, error) {
	store, err := e.images()
	if err != nil {
		return image.Details{}, err
	}
	return store.Inspect(prefix)
}

// CheckImages compares everything in the store with its hashes, and with repair removes
// what is damaged.
func (e *Engine) CheckImages(ctx context.Context, repair bool) ([]image.Problem, error) {
	store, err := e.images()
	if err != nil {
		return nil, err
	}
	problems, err := store.Check(ctx, e.imageStep)
	e.done()
	if err != nil || len(problems) == 0 || !repair {
		return problems, err
	}
	if err := store.Repair(ctx, problems); err != nil {
		return problems, err
	}
	// Their memory holds pages of what was damaged.
	return problems, e.dropTemplates()
}

// RemoveImage removes the image whose key begins with prefix, and returns its key. What
// no other needs goes with Prune.
func (e *Engine) RemoveImage(ctx context.Context, prefix string) (key string, err error) {
	store, err := e.images()
	if err != nil {
		return "", err
	}
	m, err := store.Remove(ctx, prefix)
	return m.Key, err
}

// Removed is what was removed, or with a dry run would be.
type Removed struct {
	Items []string // in words
	Bytes int64
	// Busy says why images could not be looked at; what is removed is then not all.
	Busy error
}

// Prune removes parts of images that belong to no image and no machine, and templates
// that are of no use.
func (e *Engine) Prune(ctx context.Context, dry bool) (Removed, error) {
	var out Removed
	files, err := e.inUse()
	if err != nil {
		return out, err
	}
	store, err := e.images()
	if err != nil {
		return out, err
	}
	removed, err := store.Prune(ctx, files, dry)
	out.Items, out.Bytes = removed.Items, removed.Bytes
	if errors.Is(err, image.ErrBusy) {
		out.Busy, err = err, nil
	}
	if err != nil {
		return out, err
	}
	// After the images, without which a template is of no use.
	templates, err := e.collectTemplates(store, dry)
	out.Items = append(out.Items, templates.Items...)
	out.Bytes += templates.Bytes
	return out, err
}

// inUse returns the files of images that machines have open.
func (e *Engine) inUse() ([]string, error) {
	machines := e.machines()
	all, err := machines.List()
	if err != nil {
		return nil, err
	}
	var files []string
	for _, m := range all {
		var img image.Image
		err := state.ReadJSON(m.File(state.ImageFile), &img)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files = append(files, img.Files()...)
	}
	return files, nil
}

// collectTemplates removes the templates that were not used for long, that take
// too much space, or whose image is gone.
func (e *Engine) collectTemplates(images *image.Store, dry bool) (template.Collection, error) {
	all, err := images.List()
	if err != nil {
		return template.Collection{}, err
	}
	there := make(map[string]bool) // by the image's key
	for _, m := range all {
		there[m.Key] = true
	}
	return e.templates().Collect(template.Policy{
		MaxAge: template.MaxAge, MaxBytes: template.MaxBytes, Forget: true, Dry: dry,
		Wanted: func(r template.Record) bool {
			// Another version of mayfly has another initramfs.
			return exists(r.Identity.Initramfs) && there[r.Identity.Image]
		},
	})
}

// dropTemplates takes all templates out of use.
func (e *Engine) dropTemplates() error {
	store := e.templates()
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

// Collected is what Collect has removed.
type Collected struct {
	Machines    []string
	Audits      []string // the names of the machines
	Transcripts []string
	Undos       []workspace.UndoRecord // applies that can no more be taken back
	Removed
}

// Collect removes what crashed or killed processes have left, and records that are too
// old. It goes on after an error.
func (e *Engine) Collect(ctx context.Context) (Collected, error) {
	var out Collected
	machines := e.machines()
	now := time.Now()
	var errs [8]error
	out.Machines, errs[0] = control.Collect(machines)
	e.tellLive(ctx, "")
	errs[6] = e.collectLive(now)
	out.Audits, errs[1] = machines.CollectAudits(now)
	out.Transcripts, errs[2] = e.definitions().CollectTranscripts(now)
	errs[3] = e.definitions().Collect()
	out.Undos, errs[5] = workspace.CollectUndos(e.undoStore(), now.Add(-undoAge))
	errs[7] = e.collectMoves(now.Add(-undoAge))
	out.Removed, errs[4] = e.Prune(ctx, false)
	return out, errors.Join(errs[:]...)
}
