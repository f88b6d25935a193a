package share

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/proc"
)

// treeDir is where the shared directory is in the server's root.
const treeDir = "/tree"

// maxFiles bounds the files that a server has open: one for each file that the
// guest's kernel knows of.
const maxFiles = 1 << 18

// Spawned reports whether this process was started by Start.
func Spawned() bool {
	for fd, kind := range map[int]uint32{fdListener: unix.S_IFSOCK, fdReady: unix.S_IFIFO} {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != kind {
			return false
		}
	}
	return true
}

// Main is the body of the hidden command: it limits this process to what arg, a
// Spec, needs and becomes the server. It returns only after an error, which Start
// returns in the other process.
func Main(arg string) {
	ready := os.NewFile(fdReady, "ready")
	unix.CloseOnExec(fdReady)
	var spec Spec
	err := json.Unmarshal([]byte(arg), &spec)
	if err == nil {
		err = become(spec)
	}
	fmt.Fprint(ready, err)
}

func become(spec Spec) error {
	// Limits, and the death signal, are the thread's.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("die with the supervisor: %w", err)
	}
	if err := makeRoot(spec); err != nil {
		return err
	}
	if err := limitResources(); err != nil {
		return err
	}
	if err := proc.NoNewPrivileges(); err != nil {
		return err
	}
	// The first Landlock forbids to move files between directories.
	if proc.LandlockVersion() >= 2 {
		if err := proc.Restrict(rules(spec)); err != nil {
			return err
		}
	}
	if err := dropCapabilities(spec.Server.Kind == plan.VirtiofsdC); err != nil {
		return err
	}
	if err := installFilter(uint32(spec.UID), uint32(spec.GID)); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(fdListener, unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("hand over the socket: %w", err)
	}
	argv := append([]string{spec.Server.Path}, Args(spec.Server, treeDir, fdListener, spec.Share.ReadOnly)...)
	err := syscall.Exec(spec.Server.Path, argv, []string{"PATH=/usr/bin:/bin"})
	return fmt.Errorf("start %s: %w", spec.Server.Path, err)
}

// systemFiles is what a server needs to start: its libraries.
var systemFiles = []string{"/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/nix/store", "/gnu/store"}

// rules returns what a server may do with files.
func rules(spec Spec) []proc.Rule {
	access := proc.Change
	if spec.Share.ReadOnly {
		access = proc.Read
	}
	rules := []proc.Rule{{Path: treeDir, Access: access}, {Path: "/proc", Access: proc.Read}}
	for _, path := range append(systemFiles, spec.Server.Path) {
		rules = append(rules, proc.Rule{Path: path, Access: proc.Run})
	}
	return rules
}

// makeRoot makes a root of its own for this process: its program's files, its own
// /proc, and the directory.
func makeRoot(spec Spec) error {
	// Nothing of this is to be seen outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("leave the host's mounts: %w", err)
	}
	// The path is a real one. A link in it was put there since, by whoever
	// wants something else to be shared.
	fd, err := unix.Openat2(unix.AT_FDCWD, spec.Share.Source, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return fmt.Errorf("open the directory: %w", err)
	}
	defer unix.Close(fd)
	attr := uint64(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC)
	if spec.Share.ReadOnly {
		attr |= unix.MOUNT_ATTR_RDONLY
	}
	tree, err := cloneMount(fd, "", attr)
	if err != nil {
		return err
	}
	defer unix.Close(tree)

	const root = "/proc" // any directory that is everywhere; it is hidden here alone
	system, err := cloneSystem(spec.Server.Path)
	if err != nil {
		return err
	}
	procfs, err := cloneMount(unix.AT_FDCWD, "/proc", 0)
	if err != nil {
		return err
	}
	defer unix.Close(procfs)
	if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=1m"); err != nil {
		return fmt.Errorf("make a root: %w", err)
	}
	for _, s := range system {
		if err := s.place(root); err != nil {
			return err
		}
	}
	if err := place(tree, root+treeDir, true); err != nil {
		return err
	}
	if err := mountProc(root+"/proc", procfs); err != nil {
		return err
	}
	return enter(root)
}

// part is a piece of the host's system in the server's root: a mount, or a
// symbolic link.
type part struct {
	path  string
	link  string
	mount int
	dir   bool
}

// cloneSystem clones what the program needs of the system.
func cloneSystem(program string) ([]part, error) {
	var parts []part
	for _, path := range append(systemFiles, program) {
		covered := func(p part) bool { return p.link == "" && strings.HasPrefix(path, p.path+"/") }
		if slices.ContainsFunc(parts, covered) {
			continue
		}
		fi, err := os.Lstat(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("find the system's files: %w", err)
		}
		p := part{path: path, dir: fi.IsDir()}
		if fi.Mode()&os.ModeSymlink != 0 {
			if p.link, err = os.Readlink(path); err != nil {
				return nil, fmt.Errorf("find the system's files: %w", err)
			}
		} else if p.mount, err = cloneMount(unix.AT_FDCWD, path, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV); err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
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

// cloneMount returns a mount of what is at path, with all that is mounted below,
// that has the attributes attr everywhere and is nowhere yet.
func cloneMount(dirfd int, path string, attr uint64) (int, error) {
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

// limitResources bounds what a guest can make its server use.
func limitResources() error {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("limit open files: %w", err)
	}
	files.Max = min(files.Max, maxFiles)
	files.Cur = files.Max
	// By way of package syscall, which would put the old limit back at exec.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: files.Cur, Max: files.Max}); err != nil {
		return fmt.Errorf("limit open files: %w", err)
	}
	// The guest's memory is in the server's.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	return nil
}

// dropCapabilities gives up all capabilities for ever, but if chroot for that to
// change the root, and that to give up both, which the server does when it has. It
// would not start without.
func dropCapabilities(chroot bool) error {
	var keep []uintptr
	if chroot {
		keep = []uintptr{unix.CAP_SYS_CHROOT, unix.CAP_SETPCAP}
	}
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
