package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// mountDotfiles mounts the disk of the user's own files in the root, which is mounted.
func (p *prepared) mountDotfiles(d *wire.Dotfiles) error {
	if d == nil {
		return nil
	}
	dev, err := p.disks.find(d.Serial)
	if err != nil {
		return err
	}
	return mount{dev, filepath.Join(rootDir, wire.DotfilesDir), "erofs", unix.MS_RDONLY | nosuid, ""}.do()
}

// linkDotfiles makes the home show the user's own files. What shells begin with are files
// of their own that read them, since something may come after.
func (t tree) linkDotfiles(req *wire.Configure) error {
	if req.Dotfiles == nil {
		return nil
	}
	u := req.User
	if err := t.mkdir(wire.DotfilesDir, nil); err != nil {
		return err
	}
	for _, target := range req.Dotfiles.Targets {
		if !filepath.IsLocal(target) {
			return fmt.Errorf("bad name of a dotfile %q", target)
		}
		home, err := t.makePath(path.Join(u.Home, path.Dir(target)), u)
		if err != nil {
			return err
		}
		name, source := path.Join(home, path.Base(target)), path.Join(wire.DotfilesDir, target)
		file := filepath.Join(t.upper, name)
		if slices.Contains(rcFiles, target) {
			if err := t.writeFile(name, []byte(". "+source+"\n"), 0o644); err != nil {
				return err
			}
		} else {
			// What the image has there gives way.
			if err := os.RemoveAll(file); err != nil {
				return err
			}
			if err := os.Symlink(source, file); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
		if err := os.Lchown(file, u.UID, u.GID); err != nil {
			return err
		}
	}
	return nil
}
