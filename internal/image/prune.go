package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/filelock"
	"github.com/mayfly-vm/mayfly/internal/image/debian"
)

// ErrBusy means that images are being built, so that it cannot be told what
// belongs to them.
var ErrBusy = errors.New("an image is being built")

// Removed is what a prune has removed, or would remove.
type Removed struct {
	Items []string `json:"items"` // paths in the store, and directories of builds that died
	Bytes int64    `json:"bytes"` // of disk space
}

// Remove removes an image: its manifest, and so its name. Its parts stay until
// a prune finds that no other image has them.
func (s *Store) Remove(ctx context.Context, prefix string) (Manifest, error) {
	release, err := s.exclusive(ctx)
	if err != nil {
		return Manifest{}, err
	}
	defer release()
	m, err := s.Find(prefix)
	if err != nil {
		return Manifest{}, err
	}
	if err := os.Remove(s.path(dirImages, m.Key+".json")); err != nil {
		return Manifest{}, fmt.Errorf("remove image: %w", err)
	}
	return m, nil
}

// exclusive keeps builders away. It does not wait for one that builds, which
// may take minutes, but only for those that look something up.
func (s *Store) exclusive(ctx context.Context) (release func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Second, ErrBusy)
	defer cancel()
	release, err = s.acquire(ctx, storeLock, true, nil)
	if errors.Is(err, ErrBusy) {
		err = fault.Wrap(err, fault.ImageBusy, nil)
	}
	return release, err
}

// Prune removes what no image needs: parts of images that were removed, of
// older versions of mayfly, and of builds that died. What is in use stays, too:
// the caller passes the files that running machines have (Image.Files). With
// dry it removes nothing and says what it would.
//
// While an image is being built, only the remains of dead builds go, and the
// error wraps ErrBusy.
func (s *Store) Prune(ctx context.Context, inUse []string, dry bool) (Removed, error) {
	p := pruner{Store: s, dry: dry, inUse: make(map[string]bool)}
	for _, path := range inUse {
		p.inUse[filepath.Clean(path)] = true
	}
	if err := p.temps(ctx, 0); err != nil {
		return p.out, fmt.Errorf("prune images: %w", err)
	}
	release, err := s.exclusive(ctx)
	if err != nil {
		return p.out, fmt.Errorf("prune images: %w", err)
	}
	defer release()
	// What is locked now has no mayfly: it is mmdebstrap that cleans up after
	// one that was killed.
	if err := p.temps(ctx, time.Minute); err != nil {
		return p.out, fmt.Errorf("prune images: %w", err)
	}
	if err := p.garbage(); err != nil {
		return p.out, fmt.Errorf("prune images: %w", err)
	}
	return p.out, nil
}

type pruner struct {
	*Store
	dry   bool
	inUse map[string]bool
	out   Removed
}

// temps removes the temporary directories that nobody holds, or nobody after
// some patience.
func (p *pruner) temps(ctx context.Context, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	entries, err := os.ReadDir(p.path(dirTemp))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		dir := p.path(dirTemp, e.Name())
		lock, err := filelock.Try(dir, true)
		for errors.Is(err, filelock.ErrLocked) && time.Now().Before(deadline) && ctx.Err() == nil {
			time.Sleep(50 * time.Millisecond)
			lock, err = filelock.Try(dir, true)
		}
		if errors.Is(err, filelock.ErrLocked) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = errors.Join(p.buildTree(ctx, dir), p.remove(dir))
		lock.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// buildTree removes the root file system that a dead build has left outside of
// the store.
func (p *pruner) buildTree(ctx context.Context, temp string) error {
	name, err := os.ReadFile(filepath.Join(temp, buildDirFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	dir := string(name)
	// Whatever happened to the file, nothing else is removed.
	if !filepath.IsAbs(dir) || !strings.HasPrefix(filepath.Base(dir), buildPrefix) {
		return nil
	}
	if ok, err := exists(dir); !ok || err != nil {
		return err
	}
	p.count(dir)
	if p.dry {
		return nil
	}
	return debian.Remove(ctx, dir)
}

// garbage removes what no manifest leads to.
func (p *pruner) garbage() error {
	manifests, err := p.List()
	if err != nil {
		return err
	}
	keep := map[string]bool{p.scratchPath(): true}
	for _, m := range manifests {
		keep[p.path(dirKernels, m.Kernel)] = true
		boot, err := p.bootPath(m.Kernel)
		if err != nil {
			return err
		}
		keep[filepath.Dir(boot)] = true
		for _, l := range m.Layers {
			keep[p.layerPath(l.DiffID)] = true
			keep[p.sidecarPath(l.DiffID)] = true
		}
	}
	for path := range p.inUse {
		// A machine's file keeps all that it is made of: a kernel's directory,
		// a layer's record.
		keep[path] = true
		keep[filepath.Dir(path)] = true
		if diffID, ok := strings.CutSuffix(filepath.Base(path), layerSuffix); ok {
			keep[p.sidecarPath(diffID)] = true
		}
	}
	for _, dir := range []string{dirLayers, dirKernels, dirBoot, dirScratch} {
		entries, err := os.ReadDir(p.path(dir))
		if err != nil {
			return err
		}
		// A layer's record is what makes it exist, and goes first.
		slices.SortStableFunc(entries, func(a, b os.DirEntry) int {
			return strings.Compare(filepath.Ext(b.Name()), filepath.Ext(a.Name()))
		})
		for _, e := range entries {
			if path := p.path(dir, e.Name()); !keep[path] {
				if err := p.remove(path); err != nil {
					return err
				}
			}
		}
	}
	return p.recipes()
}

// recipes removes the records of recipes whose result is gone, and the locks,
// which nobody holds now.
func (p *pruner) recipes() error {
	keys, err := p.names(dirRecipes, ".json")
	if err != nil {
		return err
	}
	for _, k := range keys {
		path := p.path(dirRecipes, k+".json")
		var res result
		if err := readJSON(path, &res); err != nil {
			return err
		}
		layer, err1 := exists(p.sidecarPath(res.ID))
		kernel, err2 := exists(p.path(dirKernels, res.ID))
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if !layer && !kernel && !p.dry {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	if p.dry {
		return nil
	}
	locks, err := os.ReadDir(p.path(dirLocks))
	if err != nil {
		return err
	}
	for _, e := range locks {
		if e.Name() != storeLock {
			if err := os.Remove(p.path(dirLocks, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *pruner) remove(path string) error {
	p.count(path)
	if p.dry {
		return nil
	}
	return os.RemoveAll(path)
}

// count adds up what a file or tree takes on the disk.
func (p *pruner) count(path string) {
	p.out.Items = append(p.out.Items, path)
	p.out.Bytes += DiskUsage(path)
}
