package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// seedLink makes the place of a link one with its target, and shows the user's dotfiles
// there. It runs with the rights of the user, whose home is home. copies are the files that
// will be written into.
func seedLink(l wire.SeedLink, home, dotfiles string, copies map[string]bool) error {
	for _, below := range l.Below {
		if !filepath.IsLocal(below) {
			return fmt.Errorf("settings: bad name of a directory %q", below)
		}
		if err := showFiles(filepath.Join(dotfiles, below), l.Target, dotfiles, copies); err != nil {
			return fmt.Errorf("settings: the dotfiles' %s: %w", below, err)
		}
	}
	parent := filepath.Dir(l.Path)
	if err := makeDir(parent); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	// What is mounted on the way is a volume, or a directory of the host's.
	if same, err := sameDevice(home, parent); err != nil || !same {
		return err
	}
	old, err := os.Readlink(l.Path)
	switch {
	case err == nil:
		// A link of the dotfiles gives way: they are shown in the target.
		rel, err := filepath.Rel(home, l.Path)
		if err != nil || old != filepath.Join(dotfiles, rel) {
			return nil
		}
		if err := os.Remove(l.Path); err != nil {
			return fmt.Errorf("settings: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil // something else is there, which stays
	}
	if err := os.Symlink(l.Target, l.Path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("settings: %w", err)
	}
	return nil
}

func sameDevice(a, b string) (bool, error) {
	var x, y unix.Stat_t
	if err := errors.Join(unix.Stat(a, &x), unix.Stat(b, &y)); err != nil {
		return false, fmt.Errorf("settings: %w", err)
	}
	return x.Dev == y.Dev, nil
}

// showFiles makes links in target to the files below source, the host's read-only disk of
// dotfiles. Directories are target's own, so that it can have more files than source has.
// What is there stays, but for links to dotfiles that are no more.
func showFiles(source, target, dotfiles string, copies map[string]bool) error {
	entries, err := os.ReadDir(source)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return dropDangling(target, dotfiles)
	}
	if err != nil {
		return err
	}
	if err := makeDir(target); err != nil {
		return err
	}
	if err := dropDangling(target, dotfiles); err != nil {
		return err
	}
	for _, e := range entries {
		from, to := filepath.Join(source, e.Name()), filepath.Join(target, e.Name())
		switch {
		case e.IsDir():
			// Where the user has a file of the name, that stays.
			if fi, err := os.Stat(to); err == nil && !fi.IsDir() {
				continue
			}
			err = showFiles(from, to, dotfiles, copies)
		case copies[to]:
			err = copyOnce(from, to)
		default:
			if err = os.Symlink(from, to); errors.Is(err, fs.ErrExist) {
				err = nil
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dropDangling removes the links in dir that lead to dotfiles that are no more.
func dropDangling(dir, dotfiles string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // nothing of it is ours
	}
	for _, e := range entries {
		if e.Type()&fs.ModeSymlink == 0 {
			continue
		}
		name := filepath.Join(dir, e.Name())
		link, err := os.Readlink(name)
		if err != nil || !isBelow(link, dotfiles) {
			continue
		}
		if _, err := os.Lstat(link); errors.Is(err, fs.ErrNotExist) {
			if err := os.Remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

func isBelow(name, dir string) bool {
	rel, err := filepath.Rel(dir, name)
	return err == nil && rel != "." && filepath.IsLocal(rel)
}

// copyOnce copies a file that settings will be merged into, unless there is one.
func copyOnce(from, to string) error {
	if link, err := os.Readlink(to); err == nil && link == from {
		if err := os.Remove(to); err != nil {
			return err
		}
	} else if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSeeded+1))
	if err != nil {
		return err
	}
	if len(data) > maxSeeded {
		return fmt.Errorf("%s is larger than %d MiB", from, maxSeeded>>20)
	}
	return atomicfile.WriteUnsynced(to, data, 0o600)
}
