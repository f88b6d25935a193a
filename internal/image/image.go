// Package image turns a plan.Image into files that a machine can boot from.
//
// An image is at most four read-only layers, a kernel, an initramfs and an
// empty scratch disk. A Store keeps them by their contents and shares them
// between images: the same base serves every machine. What is missing is built
// once, however many processes ask for it at the same time, and appears when
// it is complete or not at all.
//
// A layer is an EROFS file, named by the SHA-256 of the tar stream that it was
// made from (OCI's diff_id), read-only, and as long as every other disk of a
// machine: plan.DiskSize, of which only the beginning takes space.
//
// The sub-packages make the contents (debian, agents, kernel, diff), write the
// formats (erofs, cpio) and run programs (tool); this one decides what to make, and keeps it. It starts
// no machine and knows nothing of one; callers say what is in use.
package image

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image/agents"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// Image is an image that is complete in the store.
type Image struct {
	Key       string  `json:"key"` // of its recipe
	Kernel    Kernel  `json:"kernel"`
	Initramfs string  `json:"initramfs"` // path
	Layers    []Layer `json:"layers"`    // the top one first
	Scratch   string  `json:"scratch"`   // path of an empty ext4, to be copied for each machine

	Agents []string `json:"agents,omitempty"` // "claude 2.1.330 (locked)"
}

// Layer is one read-only disk of an image.
type Layer struct {
	Role   string `json:"role"` // base, packages or agents
	DiffID string `json:"diff_id"`
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`  // of contents; the file itself is plan.DiskSize long
	SHA256 string `json:"sha256"` // of the contents
}

// Kernel is the kernel of an image.
type Kernel struct {
	ID      string `json:"id"`
	Version string `json:"version"`
	Path    string `json:"path"`
	PVH     bool   `json:"pvh"` // an ELF file with a PVH entry; else a bzImage
}

// Files returns the paths of all files that a machine of this image has open.
func (im Image) Files() []string {
	files := []string{im.Kernel.Path, im.Initramfs, im.Scratch}
	for _, l := range im.Layers {
		files = append(files, l.Path)
	}
	return files
}

// Manifest is what the store keeps of an image: which parts belong to it.
type Manifest struct {
	Version int            `json:"version"` // 1
	Key     string         `json:"key"`
	Created time.Time      `json:"created"`
	Image   plan.Image     `json:"image"`
	Agents  []agents.Named `json:"agents,omitempty"`
	Kernel  string         `json:"kernel"` // its id
	Layers  []LayerRef     `json:"layers"` // the top one first
}

// LayerRef names a layer.
type LayerRef struct {
	Role   string `json:"role"`
	DiffID string `json:"diff_id"`
}

// ErrNotBuilt means that an image is not in the store.
var ErrNotBuilt = errors.New("the image is not built")

// Ensure returns the image, and builds whatever is missing of it. It may be
// called by any number of processes at the same time: one builds, the others
// wait. When it fails or is interrupted, what was complete stays, and nothing
// else does.
func (s *Store) Ensure(ctx context.Context, pi plan.Image, progress Progress) (Image, error) {
	w, err := s.resolve(pi)
	if err != nil {
		return Image{}, fmt.Errorf("image: %w", err)
	}
	report := newReporter(progress)
	release, err := s.acquire(ctx, storeLock, false, report.waitingFor("store", "waiting for another mayfly that cleans up the images"))
	if err != nil {
		return Image{}, fmt.Errorf("image: %w", err)
	}
	defer release()
	m, err := s.manifest(w.key)
	if errors.Is(err, fs.ErrNotExist) {
		b := &builder{Store: s, want: w, report: report}
		m, err = b.build(ctx)
	}
	if err != nil {
		return Image{}, fmt.Errorf("image: %w", err)
	}
	if err := s.ensureBoot(ctx, m.Kernel, report); err != nil {
		return Image{}, fmt.Errorf("image: initramfs: %w", err)
	}
	if err := s.ensureScratch(ctx, report); err != nil {
		return Image{}, fmt.Errorf("image: scratch disk: %w", err)
	}
	return s.load(m)
}

// Lookup returns the image if it is complete in the store; it builds nothing.
// The error wraps ErrNotBuilt if something is missing. Damage that shows in
// sizes and headers is an error too; Check finds the rest.
func (s *Store) Lookup(pi plan.Image) (Image, error) {
	w, err := s.resolve(pi)
	if err != nil {
		return Image{}, fmt.Errorf("image: %w", err)
	}
	m, err := s.manifest(w.key)
	if errors.Is(err, fs.ErrNotExist) {
		return Image{}, fault.New(fault.ImageNotBuilt, nil, "image: %w", ErrNotBuilt)
	}
	if err != nil {
		return Image{}, fmt.Errorf("image: %w", err)
	}
	return s.load(m)
}

func (s *Store) manifest(key string) (Manifest, error) {
	var m Manifest
	if err := readJSON(s.path(dirImages, key+".json"), &m); err != nil {
		return Manifest{}, err
	}
	if m.Version != 1 || m.Key != key || len(m.Layers) == 0 || len(m.Layers) > plan.MaxLayers {
		return Manifest{}, fault.New(fault.ImageDamaged, fault.Args{"image": key}, "manifest of image %.12s is damaged", key)
	}
	return m, nil
}

// load returns the image of a manifest after cheap checks of its files.
func (s *Store) load(m Manifest) (Image, error) {
	im := Image{Key: m.Key, Scratch: s.scratchPath()}
	for _, a := range m.Agents {
		im.Agents = append(im.Agents, a.String())
	}
	for _, ref := range m.Layers {
		sc, err := s.sidecar(ref.DiffID)
		if err == nil {
			err = s.quickCheck(sc)
		}
		if err != nil {
			return Image{}, fault.New(fault.ImageDamaged, fault.Args{"image": m.Key, "layer": ref.DiffID}, "image: layer %.12s (%s): %w", ref.DiffID, ref.Role, err)
		}
		im.Layers = append(im.Layers, Layer{ref.Role, ref.DiffID, s.layerPath(ref.DiffID), sc.Size, sc.SHA256})
	}
	k, err := s.kernel(m.Kernel)
	if err != nil {
		return Image{}, fault.New(fault.ImageDamaged, fault.Args{"image": m.Key, "kernel": m.Kernel}, "image: kernel %s: %w", m.Kernel, err)
	}
	im.Kernel = k.Kernel
	im.Kernel.Path = s.path(dirKernels, m.Kernel, k.Image.Name)
	if im.Initramfs, err = s.bootPath(m.Kernel); err != nil {
		return Image{}, err
	}
	for _, path := range []string{im.Initramfs, im.Scratch} {
		if _, err := os.Stat(path); err != nil {
			return Image{}, fault.New(fault.ImageNotBuilt, nil, "image: %w: %w", ErrNotBuilt, err)
		}
	}
	return im, nil
}

// List returns the manifests of all images, the newest first.
func (s *Store) List() ([]Manifest, error) {
	keys, err := s.names(dirImages, ".json")
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var out []Manifest
	for _, key := range keys {
		m, err := s.manifest(key)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list images: %w", err)
		}
		out = append(out, m)
	}
	slices.SortStableFunc(out, func(a, b Manifest) int { return b.Created.Compare(a.Created) })
	return out, nil
}

// names returns the names of the files in a directory of the store that are a
// hexadecimal hash and suffix, without the suffix.
func (s *Store) names(dir, suffix string) ([]string, error) {
	entries, err := os.ReadDir(s.path(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if ok && isHash(name) {
			out = append(out, name)
		}
	}
	return out, nil
}

func isHash(name string) bool {
	_, err := hex.DecodeString(name)
	return err == nil && len(name) == 64
}

// Find returns the manifest of the image whose key starts with prefix.
func (s *Store) Find(prefix string) (Manifest, error) {
	all, err := s.List()
	if err != nil {
		return Manifest{}, err
	}
	var found []Manifest
	for _, m := range all {
		if prefix != "" && strings.HasPrefix(m.Key, prefix) {
			found = append(found, m)
		}
	}
	if len(found) != 1 {
		what := fmt.Sprintf("%d images have keys that begin", len(found))
		if len(found) == 0 {
			what = "no image has a key that begins"
		}
		return Manifest{}, fault.New(fault.ImageKeyUnclear, fault.Args{"key": prefix, "found": strconv.Itoa(len(found))}, "%s with %q", what, prefix)
	}
	return found[0], nil
}

// Inspect returns all that is known of an image, whether complete or not.
func (s *Store) Inspect(prefix string) (Details, error) {
	m, err := s.Find(prefix)
	if err != nil {
		return Details{}, err
	}
	d := Details{Manifest: m}
	for _, ref := range m.Layers {
		sc, err := s.sidecar(ref.DiffID)
		if err != nil {
			return Details{}, fault.New(fault.ImageDamaged, fault.Args{"image": m.Key, "layer": ref.DiffID}, "image %.12s: layer %.12s: %w", m.Key, ref.DiffID, err)
		}
		d.Sidecars = append(d.Sidecars, sc)
	}
	k, err := s.kernel(m.Kernel)
	if err != nil {
		return Details{}, fault.New(fault.ImageDamaged, fault.Args{"image": m.Key, "kernel": m.Kernel}, "image %.12s: kernel: %w", m.Key, err)
	}
	d.KernelInfo = k
	return d, nil
}

// Details is an image with the records of its parts.
type Details struct {
	Manifest
	Sidecars   []Sidecar  `json:"layer_details"` // as Manifest.Layers
	KernelInfo KernelInfo `json:"kernel_details"`
}
