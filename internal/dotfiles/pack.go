package dotfiles

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/image/erofs"
	"github.com/mayfly-vm/mayfly/internal/userfile"
)

// MaxTargets bounds what Pack returns: each becomes a link in the home.
const MaxTargets = 2000

// File is a file that is read already, for a place of its own on the disk.
type File struct {
	Path string // no target of a directory's: it does not begin with a dot
	Data []byte
	Exec bool
}

// Pack writes an EROFS image of what List says of directories, at its place in the home
// and owned by uid and gid, and returns the targets, sorted. What a later directory has
// takes the place of what an earlier one has. Symbolic links are written as links. The image
// also has files, which are no targets.
func Pack(out *os.File, dirs []string, files []File, uid, gid int) (targets []string, err error) {
	w, err := erofs.NewWriter(out, erofs.Options{})
	if err != nil {
		return nil, fmt.Errorf("pack the dotfiles: %w", err)
	}
	p := packer{w: w, uid: uint32(uid), gid: uint32(gid)}
	from := make(map[string]int)
	var entries [][]Entry
	for i, dir := range dirs {
		list, err := List(dir)
		if err != nil {
			return nil, err
		}
		entries = append(entries, list)
		for _, e := range list {
			from[e.Target] = i
		}
	}
	for i, dir := range dirs {
		if err := p.directory(dir, entries[i], func(target string) bool { return from[target] == i }); err != nil {
			return nil, fmt.Errorf("pack the dotfiles of %s: %w", dir, err)
		}
	}
	for _, f := range files {
		e := erofs.Entry{Path: f.Path, UID: p.uid, GID: p.gid, Mode: unix.S_IFREG | 0o644, Size: int64(len(f.Data))}
		if f.Exec {
			e.Mode |= 0o111
		}
		if err := w.Add(e, bytes.NewReader(f.Data)); err != nil {
			return nil, fmt.Errorf("pack %q: %w", f.Path, err)
		}
	}
	if _, err := w.Finish(); err != nil {
		return nil, fmt.Errorf("pack the dotfiles: %w", err)
	}
	for target := range from {
		targets = append(targets, target)
	}
	if len(targets) > MaxTargets {
		return nil, fmt.Errorf("pack the dotfiles: %d files and directories for the home; at most %d", len(targets), MaxTargets)
	}
	slices.Sort(targets)
	return targets, nil
}

type packer struct {
	w        *erofs.Writer
	root     *os.Root
	ignore   Ignore
	uid, gid uint32
}

func (p *packer) directory(dir string, entries []Entry, wanted func(target string) bool) (err error) {
	if p.root, err = userfile.OpenRoot(dir); err != nil {
		return err
	}
	defer p.root.Close()
	if p.ignore, err = readIgnore(p.root); err != nil {
		return err
	}
	for _, e := range entries {
		if !wanted(e.Target) {
			continue
		}
		if err := p.add(e.Source, e.Target, 0); err != nil {
			return err
		}
	}
	return nil
}

// add adds a file, or a directory with what is in it and not ignored.
func (p *packer) add(source, target string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%q is too deep", source)
	}
	fi, err := p.root.Lstat(source)
	if err != nil {
		return err
	}
	e := erofs.Entry{Path: target, UID: p.uid, GID: p.gid, MTime: fi.ModTime()}
	switch mode := fi.Mode(); {
	case mode.IsDir():
		e.Mode = unix.S_IFDIR | 0o755
		if err := p.w.Add(e, nil); err != nil {
			return err
		}
		d, err := p.root.Open(source)
		if err != nil {
			return err
		}
		names, err := d.Readdirnames(-1)
		if err := errors.Join(err, d.Close()); err != nil {
			return err
		}
		slices.Sort(names)
		for _, name := range names {
			if p.ignore.Match(path.Join(source, name)) {
				continue
			}
			if err := p.add(path.Join(source, name), path.Join(target, name), depth+1); err != nil {
				return err
			}
		}
		return nil
	case mode.IsRegular():
		e.Mode = unix.S_IFREG | uint32(mode.Perm()&0o755) | 0o444
		f, err := p.root.OpenFile(source, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		if fi, err = f.Stat(); err != nil {
			return err
		}
		if !fi.Mode().IsRegular() {
			return fmt.Errorf("%q is no file any more", source)
		}
		e.Size = fi.Size()
		return p.w.AddFile(e, f)
	case mode&fs.ModeSymlink != 0:
		e.Mode = unix.S_IFLNK | 0o777
		if e.Target, err = p.root.Readlink(source); err != nil {
			return err
		}
		return p.w.Add(e, nil)
	}
	return nil // no home needs a device or a socket
}
