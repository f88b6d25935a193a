package share

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/confine"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// mount guards the directory treeDir of this process's own root, in its own mount
// namespace: what is protected is mounted read-only on itself, and on what is hidden is
// something empty. No right that a server keeps takes a mount away.
//
// A name that something is mounted on can be neither renamed nor removed in this
// namespace, but its parents can, and then others can take their place. So they are
// mounted on themselves, too. Files cannot be moved or linked between mounts.
func (g Guard) mount(readOnly bool) error {
	root, err := unix.Open(treeDir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("guard the directory: %w", err)
	}
	defer unix.Close(root)
	type guarded struct {
		path string
		hide bool
	}
	var all []guarded
	for _, p := range g.Hide {
		all = append(all, guarded{string(p), true})
	}
	for _, p := range g.Protect {
		if !readOnly { // else nothing can be changed anyway
			all = append(all, guarded{string(p), false})
		}
	}
	slices.SortFunc(all, func(a, b guarded) int { return bytes.Compare([]byte(a.path), []byte(b.path)) })
	mounted := make(map[string]bool) // true for what is hidden
	for _, one := range all {
		var parents []string
		inHidden := false
		for dir := path.Dir(one.path); dir != "."; dir = path.Dir(dir) {
			parents = append(parents, dir)
			inHidden = inHidden || mounted[dir]
		}
		if inHidden {
			continue
		}
		slices.Reverse(parents)
		for _, dir := range parents {
			if _, done := mounted[dir]; done || readOnly {
				continue
			}
			if err := mountOn(root, dir, "", 0); err != nil {
				return err
			}
			mounted[dir] = false
		}
		attr, mask := uint64(unix.MOUNT_ATTR_RDONLY), ""
		if one.hide {
			attr, mask = 0, confine.MaskDir
		}
		if err := mountOn(root, one.path, mask, attr); err != nil {
			return err
		}
		mounted[one.path] = one.hide
	}
	return nil
}

// mountOn mounts what is at a path on itself with attributes, or what is empty in the
// directory masks.
func mountOn(root int, p, masks string, attr uint64) error {
	on, err := openIn(root, p, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("guard %s: %w", termsafe.Quote(p), err)
	}
	defer unix.Close(on)
	var st unix.Stat_t
	if err := unix.Fstat(on, &st); err != nil {
		return fmt.Errorf("guard %s: %w", termsafe.Quote(p), err)
	}
	from, name := on, ""
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return fmt.Errorf("guard %s: %w", termsafe.Quote(p), errors.New("it became a symbolic link"))
	case masks != "" && st.Mode&unix.S_IFMT == unix.S_IFDIR:
		from, name = unix.AT_FDCWD, path.Join(masks, confine.MaskEmptyDir)
	case masks != "":
		from, name = unix.AT_FDCWD, path.Join(masks, confine.MaskEmptyFile)
	}
	mount, err := confine.CloneMount(from, name, attr)
	if err != nil {
		return fmt.Errorf("guard %s: %w", termsafe.Quote(p), err)
	}
	defer unix.Close(mount)
	if err := unix.MoveMount(mount, "", on, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return fmt.Errorf("guard %s: %w", termsafe.Quote(p), err)
	}
	return nil
}
