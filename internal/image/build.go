package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/mayfly-vm/mayfly/internal/apt"
	"github.com/mayfly-vm/mayfly/internal/image/agents"
	"github.com/mayfly-vm/mayfly/internal/image/debian"
	"github.com/mayfly-vm/mayfly/internal/image/diff"
	"github.com/mayfly-vm/mayfly/internal/image/erofs"
)

// What builds take, measured and rounded up. A build that takes more than it
// was believed to is told so by the disk.
func baseSpace() space     { return space{store: 500 << 20, build: 700 << 20} }
func packagesSpace() space { return space{store: 700 << 20, build: 1500 << 20} }
func kernelSpace() space   { return space{store: 400 << 20} }

func agentsSpace(list []agents.Named) space {
	var sum space
	for _, a := range list {
		sum.store += a.Size + a.Size/2 // the archive lies beside the layer
	}
	return sum
}

// build makes the parts of an image that are missing, side by side where they
// do not need each other, and then its manifest.
func (b *builder) build(ctx context.Context) (Manifest, error) {
	s, w := b.Store, b.want
	if err := s.checkSpace(s.missingSpace(w)); err != nil {
		return Manifest{}, err
	}
	if err := b.findMirrors(ctx); err != nil {
		return Manifest{}, err
	}
	// A wrong name is found before the minute that the base takes.
	if err := b.checkPackages(ctx); err != nil {
		return Manifest{}, err
	}

	m := Manifest{Version: 1, Key: w.key, Created: now(), Image: w.image, Agents: w.agents}
	var base, packages, agentsLayer string
	err := all(ctx,
		func(ctx context.Context) (err error) {
			if m.Kernel, err = b.kernel(ctx); err != nil {
				return err
			}
			if base, err = b.base(ctx, m.Kernel); err != nil || len(w.packages()) == 0 {
				return err
			}
			packages, err = b.packages(ctx, base)
			return err
		},
		func(ctx context.Context) (err error) {
			if len(w.agents) > 0 {
				agentsLayer, err = b.agents(ctx)
			}
			return err
		},
	)
	if err != nil {
		return Manifest{}, err
	}
	for _, l := range []LayerRef{{RoleAgents, agentsLayer}, {RolePackages, packages}, {RoleBase, base}} {
		if l.DiffID != "" {
			m.Layers = append(m.Layers, l)
		}
	}
	return m, s.writeJSON(s.path(dirImages, m.Key+".json"), m)
}

// all runs functions side by side. The first error ends the others and is the
// one that is returned.
func all(ctx context.Context, fns ...func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, fn := range fns {
		wg.Go(func() {
			if err := fn(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// missingSpace is what the parts that are not there yet will take. Whoever
// waits for another process's build asks for too much, which is harmless.
func (s *Store) missingSpace(w wanted) space {
	var need space
	kernel, _, err := s.known(kernelRecipe(w.suite))
	if err != nil || kernel == "" {
		need = need.add(kernelSpace())
	}
	base, _, err := s.known(baseRecipe(w.suite, kernel))
	if err != nil || base == "" {
		need = need.add(baseSpace())
	}
	if len(w.packages()) > 0 {
		if id, _, err := s.known(packagesRecipe(w.suite, base, w.packages())); base == "" || err != nil || id == "" {
			need = need.add(packagesSpace())
		}
	}
	if id, _, err := s.known(agentsRecipe(w.agents)); len(w.agents) > 0 && (err != nil || id == "") {
		need = need.add(agentsSpace(w.agents))
	}
	return need
}

// builder builds one image.
type builder struct {
	*Store
	want    wanted
	mirrors apt.Mirrors
	report  *reporter
	refresh *refresh // nil to take what there is
	asRoot  sync.Once
}

// once returns what a recipe gives: from the store, or by make, which one
// process at a time runs.
func (b *builder) once(ctx context.Context, r recipe, need space, make func() (string, error)) (string, error) {
	id, recipeKey, err := b.known(r)
	// What the lock file of the agents pins does not change.
	anew := b.refresh != nil && r.Role != RoleAgents
	if err != nil || id != "" && !anew {
		return id, err
	}
	release, err := b.acquire(ctx, "recipe-"+recipeKey, true, b.report.waiting(r.Role))
	if err != nil {
		return "", err
	}
	defer release()
	if id, _, err = b.known(r); err != nil || id != "" && !anew {
		return id, err
	}
	if err := b.checkSpace(need); err != nil {
		return "", err
	}
	if anew {
		id, err = b.again(ctx, r, recipeKey, id, make)
	} else {
		id, err = make()
	}
	if err == nil {
		err = b.remember(recipeKey, r, id)
	}
	if err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", fmt.Errorf("%s: %w", r.Role, b.explainSpace(err, need))
	}
	b.report.event(PhaseDone, r.Role, "")
	return id, nil
}

// findMirrors finds out where Debian is: the host's choice, for it is near and
// perhaps the only one that can be reached, else mmdebstrap's, as on Ubuntu. The
// answer is not kept: it takes half a second, and only before a build.
func (b *builder) findMirrors(ctx context.Context) error {
	b.mirrors = apt.ReadMirrors(b.opts.AptDir)
	if b.mirrors.Archive != "" {
		return nil
	}
	_, err := b.withDebian(ctx, RoleBase, func(d debian.Builder) (_ string, err error) {
		b.mirrors, err = d.DefaultMirrors(ctx)
		return "", err
	})
	return err
}

// apt returns the private apt of the image's suite, with a package list that
// is not older than maxAge.
func (b *builder) apt(ctx context.Context, maxAge time.Duration, artifact string) (apt.Root, error) {
	root := apt.Root{
		Dir:      filepath.Join(b.opts.CacheDir, "apt", b.want.suite),
		Suite:    b.want.suite,
		Mirror:   b.mirrors.Archive,
		Progress: func(text string) { b.report.event(PhaseDownload, artifact, text) },
	}
	if err := os.MkdirAll(root.Dir, 0o755); err != nil {
		return root, err
	}
	if b.refresh != nil {
		maxAge = min(maxAge, time.Minute)
	}
	if time.Since(root.Updated()) < maxAge {
		return root, nil
	}
	return root, root.Update(ctx)
}

func (b *builder) checkPackages(ctx context.Context) error {
	if len(b.want.packages()) == 0 {
		return nil
	}
	root, err := b.apt(ctx, 24*time.Hour, RolePackages)
	if err != nil {
		return err
	}
	missing, err := root.Missing(ctx, b.want.packages()...)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return debian.UnknownPackages(b.want.suite, missing)
	}
	return nil
}

func (b *builder) kernel(ctx context.Context) (string, error) {
	return b.once(ctx, kernelRecipe(b.want.suite), kernelSpace(), func() (string, error) {
		root, err := b.apt(ctx, 10*time.Minute, roleKernel)
		if err != nil {
			return "", err
		}
		return b.fetchKernel(ctx, root)
	})
}

// base builds the layer of what every machine has, with all modules of a kernel.
func (b *builder) base(ctx context.Context, kernel string) (string, error) {
	r := baseRecipe(b.want.suite, kernel)
	return b.once(ctx, r, baseSpace(), func() (string, error) {
		b.report.event(PhaseBuild, RoleBase, "unpacking Debian packages")
		return b.withDebian(ctx, RoleBase, func(d debian.Builder) (string, error) {
			modules, err := b.modulesOf(kernel)
			if err != nil {
				return "", err
			}
			return b.addLayer(ctx, r, func(w io.Writer) error { return d.Base(ctx, r.Packages, modules, w) })
		})
	})
}

// packages builds the layer with the image's own packages: it installs them into the
// base, and keeps what that has changed.
func (b *builder) packages(ctx context.Context, base string) (string, error) {
	r := packagesRecipe(b.want.suite, base, b.want.packages())
	return b.once(ctx, r, packagesSpace(), func() (string, error) {
		b.report.event(PhaseBuild, RolePackages, "unpacking Debian packages")
		return b.withDebian(ctx, RolePackages, func(d debian.Builder) (string, error) {
			below, closer, err := b.openLayer(base)
			if err != nil {
				return "", err
			}
			defer closer.Close()
			return b.addLayer(ctx, r, func(w io.Writer) error {
				pr, pw, err := os.Pipe()
				if err != nil {
					return err
				}
				defer pr.Close()
				installed := make(chan error, 1)
				go func() {
					unpack := func(w io.Writer) error { return erofs.ToTar(below, w, erofs.TarOptions{}) }
					err := d.Install(ctx, unpack, r.Packages, pw)
					installed <- errors.Join(err, pw.Close())
				}()
				err = diff.Write(w, below, pr)
				pr.Close()
				if installErr := <-installed; installErr != nil {
					return installErr
				}
				return err
			})
		})
	})
}

// withDebian runs fn with a directory to unpack a root file system in.
func (b *builder) withDebian(ctx context.Context, artifact string, fn func(debian.Builder) (string, error)) (id string, err error) {
	settings := apt.HostSettings(ctx)
	dir, lock, release, err := b.buildDir(settings)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	return fn(debian.Builder{
		Suite:     b.want.suite,
		Mirrors:   b.mirrors,
		AptConfig: settings,
		Dir:       dir,
		Lock:      lock,
		Text:      func(text string) { b.report.event(PhaseBuild, artifact, text) },
		AsRoot: func(why error) {
			b.asRoot.Do(func() { b.report.event(PhaseAsRoot, artifact, why.Error()) })
		},
	})
}

// buildDir makes a directory in Options.BuildDir for a build with those settings of apt.
// The store remembers it, so that a prune can remove it after a crash.
func (b *builder) buildDir(settings string) (dir string, lock *os.File, release func() error, err error) {
	temp, lock, err := b.lockedTemp()
	if err != nil {
		return "", nil, nil, err
	}
	dir = filepath.Join(b.opts.BuildDir, fmt.Sprintf("%s%d-%s", buildPrefix, os.Getuid(), filepath.Base(temp)))
	release = func() error {
		defer lock.Close()
		// Also after the context has ended.
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		// The store forgets the tree when it is gone.
		if err := debian.Remove(ctx, dir); err != nil {
			return err
		}
		return os.RemoveAll(temp)
	}
	err = os.WriteFile(filepath.Join(temp, buildDirFile), []byte(dir), 0o600)
	if err == nil {
		err = debian.MakeDir(dir, settings)
	}
	if err != nil {
		return "", nil, nil, errors.Join(err, os.RemoveAll(temp), lock.Close())
	}
	return dir, lock, release, nil
}

const (
	buildPrefix  = "mayfly-build-"
	buildDirFile = "build-dir"
)

func (b *builder) agents(ctx context.Context) (string, error) {
	r := agentsRecipe(b.want.agents)
	return b.once(ctx, r, agentsSpace(b.want.agents), func() (string, error) {
		dir, release, err := b.temp()
		if err != nil {
			return "", err
		}
		defer release()
		var names []string
		for _, a := range b.want.agents {
			names = append(names, a.Name+" "+a.Version)
		}
		b.report.event(PhaseDownload, RoleAgents, strings.Join(names, ", "))
		archives, err := agents.Fetch(ctx, b.want.agents, dir)
		if err != nil {
			return "", err
		}
		b.report.event(PhaseWrite, RoleAgents, "")
		return b.addLayer(ctx, r, func(w io.Writer) error {
			return agents.WriteLayer(ctx, b.want.agents, archives, w)
		})
	})
}
