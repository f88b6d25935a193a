package mayfly

import (
	"context"
	"time"

	"github.com/mayfly-vm/mayfly/internal/engine"
	"github.com/mayfly-vm/mayfly/internal/image"
)

// Image is an image in the store. Its JSON has all that is known of it.
type Image struct {
	Key       string
	Created   time.Time
	Base      string
	Packages  []string
	Agents    []string // coding agents by name, or with their versions where it was just built
	Templates []Template

	document document
}

// MarshalJSON returns all that is known of the image.
func (i Image) MarshalJSON() ([]byte, error) { return i.document, nil }

// Template is a saved boot from which machines of an image begin.
type Template struct {
	Bytes int64 // of disk space
	Used  time.Time
}

// BuildImage builds the image that a machine of s would have, unless it is there.
func (c *Client) BuildImage(ctx context.Context, s Spec) (Image, error) {
	spec, err := s.internal()
	if err != nil {
		return Image{}, err
	}
	img, err := c.e.BuildImage(ctx, spec)
	if err != nil {
		return Image{}, public(err)
	}
	return Image{Key: img.Key, Agents: img.Agents, document: newDocument(img)}, nil
}

// Images lists the images.
func (c *Client) Images() ([]Image, error) {
	rows, err := c.e.Images()
	if err != nil {
		return nil, public(err)
	}
	return convert(rows, func(r engine.ListedImage) Image {
		i := Image{
			Key: r.Key, Created: r.Created, Base: r.Image.Base, Packages: r.Image.Packages, Agents: r.Image.Agents,
			document: newDocument(r),
		}
		for _, t := range r.Templates {
			i.Templates = append(i.Templates, Template{t.Bytes, t.Used})
		}
		return i
	}), nil
}

// Image returns all that is known of the image whose key begins with prefix.
func (c *Client) Image(prefix string) (Image, error) {
	d, err := c.e.Image(prefix)
	if err != nil {
		return Image{}, public(err)
	}
	return Image{
		Key: d.Key, Created: d.Created, Base: d.Image.Base, Packages: d.Image.Packages, Agents: d.Image.Agents,
		document: newDocument(d),
	}, nil
}

// ImageProblem is something damaged in the store.
type ImageProblem struct {
	Path   string   `json:"path"`
	Text   string   `json:"text"`
	Images []string `json:"images"` // keys of the images that have it
}

// String returns the problem on one line.
func (p ImageProblem) String() string { return image.Problem(p).String() }

// CheckImages compares everything in the store with its hashes. With repair what is
// damaged is removed, and built again when it is next needed.
func (c *Client) CheckImages(ctx context.Context, repair bool) ([]ImageProblem, error) {
	problems, err := c.e.CheckImages(ctx, repair)
	return convert(problems, func(p image.Problem) ImageProblem { return ImageProblem(p) }), public(err)
}

// RemoveImage removes the image whose key begins with prefix, and returns its key. Prune
// gives the space back.
func (c *Client) RemoveImage(ctx context.Context, prefix string) (key string, err error) {
	key, err = c.e.RemoveImage(ctx, prefix)
	return key, public(err)
}

// Removed is what was removed.
type Removed struct {
	Items []string // in words
	Bytes int64
	// Busy says why images could not be looked at, so that this is not all.
	Busy error
}

// Prune removes parts of images that belong to no image and no machine, and templates that
// are of no use. A dry run only says what it would remove.
func (c *Client) Prune(ctx context.Context, dry bool) (Removed, error) {
	r, err := c.e.Prune(ctx, dry)
	return Removed(r), public(err)
}

// Collected is what Collect has removed.
type Collected struct {
	Machines    []string // dead ones
	Audits      []string // the machines whose audit logs were too old
	Transcripts []string
	Undoables   []Undoable // applies that can no more be taken back
	Removed
}

// Collect removes what crashed or killed processes have left behind, and records of
// machines that are gone and too old. What was removed is returned also when there is an
// error.
func (c *Client) Collect(ctx context.Context) (Collected, error) {
	r, err := c.e.Collect(ctx)
	return Collected{r.Machines, r.Audits, r.Transcripts, convert(r.Undos, newUndoable), Removed(r.Removed)}, public(err)
}

// VersionChange is a package or coding agent of another version.
type VersionChange struct {
	Name string `json:"name"`
	From string `json:"from,omitempty"` // empty for one that is new
	To   string `json:"to,omitempty"`   // empty for one that is gone
}

// String returns the change on one line.
func (v VersionChange) String() string { return image.Change(v).String() }

// Update builds the images of the machines with these names, of all that are defined
// without any, anew with the newest packages and coding agents. If anything fails,
// everything stays as it was.
func (c *Client) Update(ctx context.Context, names ...string) ([]VersionChange, error) {
	changes, err := c.e.Update(ctx, names)
	return convert(changes, func(c image.Change) VersionChange { return VersionChange(c) }), public(err)
}
