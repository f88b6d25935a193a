package share

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/confine"
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
	if err := spec.Guard.mount(spec.Share.ReadOnly); err != nil {
		return err
	}
	if err := confine.LimitFiles(maxFiles); err != nil {
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
	var keep []uintptr
	if spec.Server.Kind == plan.VirtiofsdC {
		// It changes the root and then gives both up. It would not start without.
		keep = []uintptr{unix.CAP_SYS_CHROOT, unix.CAP_SETPCAP}
	}
	if err := confine.DropCapabilities(keep...); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(fdListener, unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("hand over the socket: %w", err)
	}
	if err := installLastFilter(uint32(spec.UID), uint32(spec.GID)); err != nil {
		return err
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
	// The path is a real one. A link in it was put there since, by whoever
	// wants something else to be shared.
	fd, err := unix.Openat2(unix.AT_FDCWD, spec.Share.Source, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return fmt.Errorf("open the directory: %w", err)
	}
	tree := os.NewFile(uintptr(fd), spec.Share.Source)
	defer tree.Close()
	attr := uint64(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC)
	if spec.Share.ReadOnly {
		attr |= unix.MOUNT_ATTR_RDONLY
	}
	entries := confine.Entries(confine.ReadOnly, append(systemFiles, spec.Server.Path)...)
	entries = append(entries, confine.Entry{Path: treeDir, From: tree, Attr: attr})
	return confine.Root{Entries: entries, Proc: true, Masks: len(spec.Guard.Hide) > 0}.Enter()
}
