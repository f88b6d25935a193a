package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/mayfly-vm/mayfly/internal/image/erofs"
)

// measureErofs compares the CPU time of our writer with that of mkfs.erofs on
// the same tree.
func (b *bench) measureErofs(ctx context.Context) error {
	mkfs, err := exec.LookPath("mkfs.erofs")
	if err != nil {
		fmt.Fprintln(b.log, "mkfs.erofs is not installed: left out")
		return nil
	}
	tree, what, err := b.rootTree(ctx)
	if err != nil {
		return err
	}
	if tree == "" {
		if tree, err = goRoot(ctx); err != nil {
			return err
		}
		what = "Go's own tree"
	}
	size, files, err := contents(tree)
	if err != nil {
		return err
	}
	gib := float64(size) / (1 << 30)
	out := filepath.Join(b.dir, "image.erofs")
	var user, all values
	for i := range b.runs(7) + 1 {
		c, err := b.inChild(ctx, "erofs", tree, out)
		if err != nil {
			return err
		}
		os.Remove(out)
		// Like ours without extended attributes and compression.
		cmd := exec.CommandContext(ctx, mkfs, "--quiet", "-x-1", out, tree)
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("mkfs.erofs: %w: %s", err, text)
		}
		os.Remove(out)
		if i == 0 {
			continue // it read the tree into the page cache
		}
		s := cmd.ProcessState
		user.compare(c.User.Seconds()/gib, s.UserTime().Seconds()/gib)
		all.compare((c.User+c.System).Seconds()/gib, (s.UserTime()+s.SystemTime()).Seconds()/gib)
	}
	of := fmt.Sprintf("a process that packs %s (%d files, %d MB, in the page cache); baseline: mkfs.erofs, uncompressed", what, files, size/1e6)
	b.add(user.row("erofs user", "s/GiB", "user time of "+of).ratioAtMost(0.5))
	b.add(all.row("erofs user+system", "s/GiB", "user and system time of "+of))
	return nil
}

// rootTree unpacks the base layer of the default image, which only root can.
func (b *bench) rootTree(ctx context.Context) (dir, what string, err error) {
	if os.Geteuid() != 0 || len(b.image.Layers) == 0 {
		return "", "", nil
	}
	layer := b.image.Layers[len(b.image.Layers)-1] // the base is at the bottom
	f, err := os.Open(layer.Path)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	im, err := erofs.Open(f, layer.Bytes)
	if err != nil {
		return "", "", err
	}
	dir = filepath.Join(b.dir, "root")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", "", err
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(erofs.ToTar(im, w, erofs.TarOptions{})) }()
	defer r.Close()
	cmd := exec.CommandContext(ctx, "tar", "-x", "--numeric-owner", "-C", dir)
	cmd.Stdin = r
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("unpack %s: %w: %s", layer.Path, err, text)
	}
	return dir, "the Debian root of the default image", nil
}

// measurePack packs Go's source as a workspace.
func (b *bench) measurePack(ctx context.Context) error {
	root, err := goRoot(ctx)
	if err != nil {
		return err
	}
	if err := b.pack(ctx, "pack Go's source", filepath.Join(root, "src"), true); err != nil {
		return err
	}
	return b.pack(ctx, "pack GOROOT", root, false)
}

func (b *bench) pack(ctx context.Context, name, dir string, promised bool) error {
	size, files, err := contents(dir)
	if err != nil {
		return err
	}
	out := filepath.Join(b.dir, "workspace.img")
	var wall, peak values
	for i := range b.runs(7) + 1 {
		os.Remove(out)
		c, err := b.inChild(ctx, "pack", dir, out)
		if err != nil {
			return err
		}
		os.Remove(out)
		took, err := timed(exec.CommandContext(ctx, "tar", "-cf", out, "-C", dir, "."))
		if err != nil {
			return err
		}
		if i == 0 {
			continue // it read the tree into the page cache
		}
		wall.compare(c.Wall.Seconds(), took.Seconds())
		peak.add(c.PeakMiB)
	}
	os.Remove(out)
	of := fmt.Sprintf("workspace.Pack of %d files, %d MB, in the page cache", files, size/1e6)
	time := wall.row(name, "s", of+"; baseline: tar -cf of the same")
	memory := peak.row(name+": memory", "MiB", "peak resident memory of a process that does nothing else than "+of)
	if promised {
		time, memory = time.atMost(1), memory.atMost(64)
	}
	b.add(time)
	b.add(memory)
	return nil
}

func goRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// contents returns the number of files in dir and their bytes, each once.
func contents(dir string) (size int64, files int, err error) {
	type id struct{ dev, ino uint64 }
	seen := make(map[id]bool)
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if !ok {
			return errors.ErrUnsupported
		}
		files++
		if key := (id{uint64(st.Dev), st.Ino}); !seen[key] {
			seen[key] = true
			size += fi.Size()
		}
		return nil
	})
	return size, files, err
}
