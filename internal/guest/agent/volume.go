package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// Where a machine's lasting disks are mounted, and what is on them.
const (
	keepDir    = "/mayfly/keep"
	volumesDir = "/mayfly/volumes"
	volumeData = "data"     // on a volume: what is mounted
	volumeNew  = "data.new" // the same, while it is filled
)

// mountKeep mounts the disk of what is kept.
func (p *prepared) mountKeep(serial string) error {
	if serial == "" {
		return nil
	}
	dev, err := p.disks.find(serial)
	if err != nil {
		return err
	}
	return mount{dev, keepDir, "ext4", unix.MS_NOATIME | nosuid, ""}.do()
}

// workspaceDir makes and returns the directory for the changes of the workspace, and
// whether it lasts. Those of other copies are removed: they say nothing about this one.
func workspaceDir(req *wire.Configure) (dir string, lasting bool, err error) {
	if req.Keep == "" || req.Workspace.Copy == "" {
		return filepath.Join(scratchDir, "workspace"), false, nil
	}
	if filepath.Base(req.Workspace.Copy) != req.Workspace.Copy {
		return "", false, fmt.Errorf("bad name of a copy %q", req.Workspace.Copy)
	}
	all := filepath.Join(keepDir, "workspace")
	entries, err := os.ReadDir(all)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", false, err
	}
	for _, e := range entries {
		if e.Name() != req.Workspace.Copy {
			if err := os.RemoveAll(filepath.Join(all, e.Name())); err != nil {
				return "", false, err
			}
		}
	}
	return filepath.Join(all, req.Workspace.Copy), true, nil
}

// mountKeepDirs mounts directories of the disk of what is kept in the root, which is
// mounted.
func mountKeepDirs(req *wire.Configure) error {
	if req.Keep == "" {
		return nil
	}
	for _, d := range req.KeepDirs {
		if filepath.Base(d.Name) != d.Name {
			return fmt.Errorf("bad name of a directory %q", d.Name)
		}
		dir := filepath.Join(keepDir, "dirs", d.Name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := mendOwners(dir, req.User, mendDepth); err != nil {
			return err
		}
		target := filepath.Join(rootDir, d.Path)
		// A volume may be mounted above it.
		if err := makeMountPoint(rootDir, d.Path, req.User); err != nil {
			return err
		}
		if err := unix.Mount(dir, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", d.Path, err)
		}
	}
	return nil
}

// mendDepth is how deep mount points of shares are looked for in what is kept.
const mendDepth = 4

// mendOwners gives the directory dir, and directories in it that are root's, to the user:
// mount points of shares that are no more. Links are left alone.
func mendOwners(dir string, u wire.User, depth int) error {
	fi, err := os.Lstat(dir)
	if err != nil || !fi.IsDir() {
		return err
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != u.UID && (st.Uid == 0 || depth == mendDepth) {
		if err := os.Lchown(dir, u.UID, u.GID); err != nil {
			return err
		}
	}
	if depth == 0 {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := mendOwners(filepath.Join(dir, e.Name()), u, depth-1); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeMountPoint makes the directory name below root, with the directories on the way.
// Those in the user's home are the user's.
func makeMountPoint(root, name string, u wire.User) error {
	r, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer r.Close()
	at := ""
	for part := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		at = filepath.Join(at, part)
		switch err := r.Mkdir(at, 0o755); {
		case errors.Is(err, fs.ErrExist):
		case err != nil:
			return err
		case strings.HasPrefix("/"+at, u.Home+"/"):
			if err := r.Lchown(at, u.UID, u.GID); err != nil {
				return err
			}
		}
	}
	return nil
}

// mountVolumes mounts the volumes in the root, which is mounted. A new one is first
// filled with what the image has in its place, as a container's volumes are: programs
// would not start with an empty /var.
func (p *prepared) mountVolumes(req *wire.Configure) error {
	for i, v := range req.Volumes {
		if err := p.mountVolume(volumeDir(i), v, req.User); err != nil {
			return fmt.Errorf("mount the volume on %s: %w", v.Mount, err)
		}
	}
	return nil
}

func (p *prepared) mountVolume(disk string, v wire.Volume, u wire.User) error {
	dev, err := p.disks.find(v.Serial)
	if err != nil {
		return err
	}
	if err := (mount{dev, disk, "ext4", unix.MS_NOATIME, ""}).do(); err != nil {
		return err
	}
	if err := grow(disk, v.Blocks); err != nil {
		return err
	}
	// The way to it was made in the root, from where the volumes above it were
	// filled when they were new. It is the machine's own: whatever it made of it
	// since, a link leads nowhere else.
	if err := makeMountPoint(rootDir, v.Mount, u); err != nil {
		return err
	}
	target := filepath.Join(rootDir, v.Mount)
	data := filepath.Join(disk, volumeData)
	if _, err := os.Lstat(data); errors.Is(err, fs.ErrNotExist) {
		if err := fillVolume(disk, target); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if err := unix.Mount(data, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return nil
}

// fillVolume makes the data of the volume at disk a copy of source, all or nothing.
func fillVolume(disk, source string) error {
	temp := filepath.Join(disk, volumeNew)
	if err := os.RemoveAll(temp); err != nil { // of a machine that was killed meanwhile
		return err
	}
	if err := copyTree(source, temp); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(disk, volumeData))
}

// copyTree copies the directory source with all in it. Devices and sockets are left
// out, and hard links become files of their own.
func copyTree(source, target string) error {
	fi, err := os.Lstat(source)
	if err != nil {
		return err
	}
	switch {
	case fi.IsDir():
		if err := os.Mkdir(target, 0o700); err != nil {
			return err
		}
		entries, err := os.ReadDir(source)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := copyTree(filepath.Join(source, e.Name()), filepath.Join(target, e.Name())); err != nil {
				return err
			}
		}
	case fi.Mode().IsRegular():
		if err := copyFile(source, target); err != nil {
			return err
		}
	case fi.Mode()&fs.ModeSymlink != 0:
		link, err := os.Readlink(source)
		if err != nil {
			return err
		}
		if err := os.Symlink(link, target); err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		return os.Lchown(target, int(st.Uid), int(st.Gid))
	default:
		return nil
	}
	if err := own(target, fi); err != nil {
		return err
	}
	return os.Chtimes(target, fi.ModTime(), fi.ModTime())
}

func copyFile(source, target string) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// ext4ResizeFS is EXT4_IOC_RESIZE_FS, _IOW('f', 16, __u64) of linux/ext4.h.
const ext4ResizeFS = 0x40086610

// grow makes the ext4 file system at dir one of at least that many blocks of 4 KiB.
func grow(dir string, blocks uint64) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return err
	}
	// What statfs counts lacks the file system's own blocks, a few in a hundred:
	// only a clear difference is one that somebody asked for, and to ask for the
	// present size does nothing.
	if blocks <= st.Blocks {
		return nil
	}
	if err := ioctl(f, ext4ResizeFS, unsafe.Pointer(&blocks)); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("grow the file system: %w", err)
	}
	return nil
}
