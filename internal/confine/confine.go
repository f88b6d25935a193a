// Package confine gives a process that meets a hostile guest a root with only
// its files, and filters its system calls.
//
// What flows in are paths and rules; what flows out is a confined process. It
// starts nothing and decides nothing: which files and calls a program needs is
// known by who starts it, packages share and machine. Landlock and capabilities
// are in package proc.
package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/proc"
)

// ReadOnly are the attributes of a mount that only gives a program its files.
const ReadOnly = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV

// Entry is a file or a directory, with all that is mounted below, in a root. A
// symbolic link on the host is one in the root. What does not exist is left out.
type Entry struct {
	Path string // in the root, and on the host
	Attr uint64 // of the mount, as unix.MOUNT_ATTR_RDONLY
	// From is what is to be at Path where that is not what the host has there.
	From *os.File
}

// Entries returns paths with the same attributes.
func Entries(attr uint64, paths ...string) []Entry {
	var entries []Entry
	for _, path := range paths {
		entries = append(entries, Entry{Path: path, Attr: attr})
	}
	return entries
}

// Root is a root of a process's own.
type Root struct {
	Entries []Entry
	// Proc adds the /proc of the process's own namespace.
	Proc bool
	// Masks adds MaskDir.
	Masks bool
	// Nodes are devices below /dev that the root has anew, open to everybody in
	// it, whoever may open the host's. Only root can make them.
	Nodes []string
}

// MaskDir is a directory of a root with something empty of each kind, to be mounted where
// something is not to be seen.
const (
	MaskDir       = "/masks"
	MaskEmptyDir  = "dir"
	MaskEmptyFile = "file"
)

// makeMasks makes MaskDir below root.
func makeMasks(root string) error {
	err := os.MkdirAll(root+MaskDir+"/"+MaskEmptyDir, 0o755)
	if err == nil {
		err = os.WriteFile(root+MaskDir+"/"+MaskEmptyFile, nil, 0o444)
	}
	if err != nil {
		return fmt.Errorf("make a root: %w", err)
	}
	return nil
}

// Enter makes r the root of this process, which must be in a mount namespace of its
// own.
func (r Root) Enter() error {
	// Another user may be who needs to look into it then.
	defer unix.Umask(unix.Umask(0o022))
	// Nothing of this is to be seen outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("leave the host's mounts: %w", err)
	}
	const root = "/proc" // any directory that is everywhere; it is hidden here alone
	parts, err := clone(r.Entries)
	if err != nil {
		return err
	}
	procfs := -1
	if r.Proc {
		if procfs, err = CloneMount(unix.AT_FDCWD, "/proc", 0); err != nil {
			return err
		}
		defer unix.Close(procfs)
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=1m"); err != nil {
		return fmt.Errorf("make a root: %w", err)
	}
	if err := makeNodes(root, r.Nodes); err != nil {
		return err
	}
	if r.Masks {
		if err := makeMasks(root); err != nil {
			return err
		}
	}
	for _, p := range parts {
		if err := p.place(root); err != nil {
			return err
		}
	}
	if r.Proc {
		if err := mountProc(root+"/proc", procfs); err != nil {
			return err
		}
	}
	return enter(root)
}

// part is an entry on its way into the root: a mount, or a symbolic link.
type part struct {
	path  string
	link  string
	mount int
	dir   bool
}

// clone clones entries. One below another is in that already.
func clone(entries []Entry) ([]part, error) {
	var parts []part
	for _, e := range entries {
		covered := func(p part) bool { return p.link == "" && strings.HasPrefix(e.Path, p.path+"/") }
		if slices.ContainsFunc(parts, covered) {
			continue
		}
		p, err := e.clone()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func (e Entry) clone() (p part, err error) {
	p = part{path: e.Path}
	if e.From != nil {
		fi, err := e.From.Stat()
		if err != nil {
			return p, err
		}
		p.dir = fi.IsDir()
		p.mount, err = CloneMount(int(e.From.Fd()), "", e.Attr)
		return p, err
	}
	fi, err := os.Lstat(e.Path)
	if err != nil {
		return p, fmt.Errorf("find the system's files: %w", err)
	}
	p.dir = fi.IsDir()
	if fi.Mode()&os.ModeSymlink != 0 {
		if p.link, err = os.Readlink(e.Path); err != nil {
			return p, fmt.Errorf("find the system's files: %w", err)
		}
		return p, nil
	}
	p.mount, err = CloneMount(unix.AT_FDCWD, e.Path, e.Attr)
	return p, err
}

// place puts p where it belongs below root.
func (p part) place(root string) error {
	if p.link == "" {
		defer unix.Close(p.mount)
		return place(p.mount, root+p.path, p.dir)
	}
	if err := os.Symlink(p.link, root+p.path); err != nil {
		return fmt.Errorf("make a root: %w", err)
	}
	return nil
}

// CloneMount returns a mount of what is at path below dirfd, with all that is mounted below,
// that has the attributes attr everywhere and is nowhere yet.
func CloneMount(dirfd int, path string, attr uint64) (int, error) {
	fd, err := unix.OpenTree(dirfd, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return -1, fmt.Errorf("clone the mount of %s: %w", name(path), err)
	}
	if attr == 0 {
		return fd, nil
	}
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: attr})
	if errors.Is(err, unix.ENOSYS) {
		err = fault.Wrap(err, fault.KernelTooOld, fault.Args{"needed": "5.12"})
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("limit the mount of %s: %w", name(path), err)
	}
	return fd, nil
}

func name(path string) string {
	if path == "" {
		return "the directory"
	}
	return path
}

// place mounts a mount that is nowhere on target, which it makes.
func place(mount int, target string, dir bool) error {
	parent := target
	if !dir {
		parent = filepath.Dir(target)
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("make a root: %w", err)
	}
	if !dir {
		f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return fmt.Errorf("make a root: %w", err)
		}
		f.Close()
	}
	if err := unix.MoveMount(mount, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}

// devDir is where nodes are.
const devDir = "/dev"

// makeNodes makes the devices of paths below root, on a file system of their own: that
// of the root is to have none.
func makeNodes(root string, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	if err := os.Mkdir(root+devDir, 0o755); err != nil {
		return fmt.Errorf("make a root: %w", err)
	}
	if err := unix.Mount("tmpfs", root+devDir, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755,size=64k"); err != nil {
		return fmt.Errorf("make a root: %w", err)
	}
	for _, path := range paths {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return fmt.Errorf("find the device %s: %w", path, err)
		}
		target := root + path
		err := unix.Mknod(target, unix.S_IFCHR|0o600, int(st.Rdev))
		if err == nil {
			err = unix.Chmod(target, 0o666) // whatever the umask
		}
		if err != nil {
			return fmt.Errorf("make the device %s: %w", path, err)
		}
	}
	return nil
}

// mountProc mounts the /proc of this process's namespace, or, where a container
// hides parts of its own and so forbids that, the host's.
func mountProc(target string, host int) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return fmt.Errorf("make a root: %w", err)
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	err := unix.Mount("proc", target, "proc", flags, "")
	if errors.Is(err, unix.EPERM) {
		err = unix.MoveMount(host, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	if err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}

// enter makes root this process's root, and lets go of the old one.
func enter(root string) error {
	if err := unix.Chdir(root); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	// The old root comes to lie on the new one, pivot_root(2).
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the host's root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("close the root: %w", err)
	}
	return nil
}

// LimitFiles bounds the open files, and forbids core files: the guest's memory is in
// them.
func LimitFiles(most uint64) error {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("limit open files: %w", err)
	}
	files.Max = min(files.Max, most)
	files.Cur = files.Max
	// By way of package syscall, which would put the old limit back at exec.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: files.Cur, Max: files.Max}); err != nil {
		return fmt.Errorf("limit open files: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	return nil
}

// DropCapabilities gives up all capabilities of the calling thread but keep for
// ever, and those, too, where a program that it executes gives them up.
func DropCapabilities(keep ...uintptr) error {
	if err := proc.DropBounding(keep...); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	var mask uint32
	for _, c := range keep {
		mask |= 1 << c
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: mask, Permitted: mask, Inheritable: mask}}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	for _, c := range keep {
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c, 0, 0); err != nil {
			return fmt.Errorf("keep a capability: %w", err)
		}
	}
	return nil
}
