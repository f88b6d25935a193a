package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Problem is one damaged thing in a store.
type Problem struct {
	Path   string   `json:"path"`
	Text   string   `json:"text"`
	Images []string `json:"images"` // keys of the images that have it
}

func (p Problem) String() string { return fmt.Sprintf("%s: %s", p.Path, p.Text) }

// Check reads everything in the store and compares it with its hashes. The
// problems that it finds are for Repair.
func (s *Store) Check(ctx context.Context, progress Progress) ([]Problem, error) {
	release, err := s.acquire(ctx, storeLock, false, nil)
	if err != nil {
		return nil, fmt.Errorf("check images: %w", err)
	}
	defer release()
	c := checker{Store: s, report: newReporter(progress), users: make(map[string][]string)}
	for _, step := range []func(context.Context) error{c.manifests, c.layers, c.kernels, c.scratch} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("check images: %w", err)
		}
	}
	return c.problems, nil
}

type checker struct {
	*Store
	report   *reporter
	users    map[string][]string // keys of images by the path of what they have
	problems []Problem
}

func (c *checker) found(path string, err error) {
	c.problems = append(c.problems, Problem{path, err.Error(), c.users[path]})
}

// manifests finds out which image has what, and what is missing.
func (c *checker) manifests(context.Context) error {
	keys, err := c.names(dirImages, ".json")
	if err != nil {
		return err
	}
	for _, k := range keys {
		path := c.path(dirImages, k+".json")
		m, err := c.manifest(k)
		if err != nil {
			c.users[path] = []string{k}
			c.found(path, err)
			continue
		}
		for _, l := range m.Layers {
			c.users[c.layerPath(l.DiffID)] = append(c.users[c.layerPath(l.DiffID)], k)
		}
		kernel := c.path(dirKernels, m.Kernel)
		c.users[kernel] = append(c.users[kernel], k)
	}
	for path := range c.users {
		if _, err := os.Stat(path); err != nil {
			c.found(path, errors.New("missing"))
		}
	}
	return nil
}

func (c *checker) layers(ctx context.Context) error {
	ids, err := c.names(dirLayers, layerSuffix)
	if err != nil {
		return err
	}
	for _, id := range ids {
		err := c.layer(ctx, id)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			c.found(c.layerPath(id), err)
		}
	}
	return nil
}

func (c *checker) layer(ctx context.Context, id string) error {
	sc, err := c.sidecar(id)
	if errors.Is(err, fs.ErrNotExist) && len(c.users[c.layerPath(id)]) == 0 {
		return nil // a build died before the layer existed; prune removes it
	}
	if err != nil {
		return err
	}
	c.report.event(PhaseBuild, sc.Role, fmt.Sprintf("checking layer %.12s (%d MiB)", id, sc.Size>>20))
	if err := c.quickCheck(sc); err != nil {
		return err
	}
	f, err := os.Open(c.layerPath(id))
	if err != nil {
		return err
	}
	defer f.Close()
	sum, err := hashFile(ctx, f, sc.Size)
	if err != nil {
		return err
	}
	if sum != sc.SHA256 {
		return fmt.Errorf("the contents of layer %.12s (%s) have changed: sha256 %.12s; want %.12s", id, sc.Role, sum, sc.SHA256)
	}
	return nil
}

func (c *checker) kernels(ctx context.Context) error {
	entries, err := os.ReadDir(c.path(dirKernels))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		id := e.Name()
		c.report.event(PhaseBuild, roleKernel, "checking kernel "+id)
		if err := c.kernelFiles(ctx, id); err != nil {
			c.found(c.path(dirKernels, id), err)
			continue
		}
		if err := c.boot(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) kernelFiles(ctx context.Context, id string) error {
	k, err := c.kernel(id)
	if err != nil {
		return err
	}
	for _, want := range k.files() {
		f, err := os.Open(c.path(dirKernels, id, want.Name))
		if err != nil {
			return err
		}
		sum, err := hashFile(ctx, f, want.Size)
		f.Close()
		if err != nil {
			return err
		}
		if sum != want.SHA256 {
			return fmt.Errorf("the contents of %s have changed", want.Name)
		}
	}
	return nil
}

// boot compares a kernel's initramfs with what we would write now.
func (c *checker) boot(ctx context.Context, kernelID string) error {
	path, err := c.bootPath(kernelID)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // made when it is needed
	}
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	sum, err := hashFile(ctx, f, fi.Size())
	if err != nil {
		return err
	}
	k, err := c.kernel(kernelID)
	if err != nil {
		return err
	}
	want := sha256.New()
	if err := c.writeInitramfs(want, k); err != nil {
		return err
	}
	if sum != hex.EncodeToString(want.Sum(nil)) {
		c.found(filepath.Dir(path), errors.New("the contents of the initramfs have changed"))
	}
	return nil
}

// scratch checks the little that is known of it: how a file system starts.
func (c *checker) scratch(context.Context) error {
	path := c.scratchPath()
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := checkScratch(f); err != nil {
		c.found(path, err)
	}
	return nil
}

// Repair removes what is damaged, and the images that have it. They are built
// again when they are next needed.
func (s *Store) Repair(ctx context.Context, problems []Problem) error {
	release, err := s.exclusive(ctx)
	if err != nil {
		return fmt.Errorf("repair images: %w", err)
	}
	defer release()
	var images []string
	for _, p := range problems {
		images = append(images, p.Images...)
	}
	slices.Sort(images)
	// Images go first: none must name what is gone.
	for _, k := range slices.Compact(images) {
		if err := os.RemoveAll(s.path(dirImages, k+".json")); err != nil {
			return fmt.Errorf("repair images: %w", err)
		}
	}
	for _, p := range problems {
		rel, err := filepath.Rel(s.opts.Dir, p.Path)
		if err != nil || !filepath.IsLocal(rel) || rel == "." {
			return fmt.Errorf("repair images: %s is not in the store", p.Path)
		}
		if id, ok := strings.CutSuffix(filepath.Base(p.Path), layerSuffix); ok {
			if err := os.RemoveAll(s.sidecarPath(id)); err != nil {
				return fmt.Errorf("repair images: %w", err)
			}
		}
		if err := os.RemoveAll(p.Path); err != nil {
			return fmt.Errorf("repair images: %w", err)
		}
	}
	return nil
}
