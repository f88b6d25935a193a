package machine

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A VMM is only as strong as the guest's way out of it is long. What it starts
// with, open files and sockets, is all that it ever needs, so the thread that
// starts it gives up the rest first: a program inherits these limits and can
// only tighten them.
//
//   - Landlock: no file but those of Command.Readable and Command.Writable can
//     be opened, nothing can be made, removed or executed beside it, no TCP
//     port can be used, and no process outside can be signalled or traced,
//     userspace-api/landlock.rst.
//   - As root: no capability survives the exec, capabilities(7).
//   - QEMU adds its own seccomp filter (-sandbox), Start the namespaces.

// confineThread limits the calling thread, which must be locked and must end
// with its goroutine, to what c needs.
func confineThread(c Command) error {
	if os.Geteuid() == 0 {
		if err := dropCapabilitiesOnExec(); err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid new privileges: %w", err)
	}
	return restrictFiles(c)
}

// dropCapabilitiesOnExec makes uid 0 an ordinary user to the programs that the
// thread executes.
func dropCapabilitiesOnExec() error {
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		// EINVAL: a kernel that does not know it; EPERM: a container's
		// root who has too little left to give up.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("drop capabilities: %w", err)
		}
	}
	// linux/securebits.h
	const (
		noRoot, noRootLocked                  = 1 << 0, 1 << 1
		noSetuidFixup, noFixupLocked          = 1 << 2, 1 << 3
		keepCapsLocked                        = 1 << 5
		noAmbientRaise, noRaiseLocked         = 1 << 6, 1 << 7
		bits                          uintptr = noRoot | noRootLocked | noSetuidFixup | noFixupLocked | keepCapsLocked | noAmbientRaise | noRaiseLocked
	)
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, bits, 0, 0, 0); err != nil && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("make root an ordinary user: %w", err)
	}
	return nil
}

// The rights of Landlock, by the ABI that brought them.
const (
	fsFileRead  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_EXECUTE
	fsRead      = fsFileRead | unix.LANDLOCK_ACCESS_FS_READ_DIR
	fsFileWrite = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	fsABI1      = 1<<13 - 1 // execute … make_sym
)

// handled returns the accesses that a kernel of this ABI can refuse: all of
// them.
func handled(abi int) unix.LandlockRulesetAttr {
	a := unix.LandlockRulesetAttr{Handled_access_fs: fsABI1}
	if abi >= 2 {
		a.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		a.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 4 {
		a.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if abi >= 5 {
		a.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi >= 6 {
		a.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return a
}

// restrictFiles lets the thread open c's files only. A kernel without Landlock
// leaves the other walls; package host says so in mayfly doctor.
func restrictFiles(c Command) error {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return nil
	}
	attr := handled(int(abi))
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return fmt.Errorf("make a Landlock ruleset: %w", errno)
	}
	defer unix.Close(int(ruleset))

	for _, path := range append(systemFiles, c.Readable...) {
		if err := allow(int(ruleset), path, fsRead, attr); err != nil {
			return err
		}
	}
	for _, path := range c.Writable {
		if err := allow(int(ruleset), path, fsFileWrite|unix.LANDLOCK_ACCESS_FS_IOCTL_DEV, attr); err != nil {
			return err
		}
	}
	if os.Geteuid() != 0 {
		// To write the maps of the VMM's user namespace, which is done
		// from this thread; package syscall opens them for both. An
		// ordinary user can change nothing there, and Landlock keeps
		// other processes' memory and environment closed.
		const both = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE
		if err := allow(int(ruleset), "/proc", both, attr); err != nil {
			return err
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0); errno != 0 {
		return fmt.Errorf("restrict the virtual machine monitor's files: %w", errno)
	}
	return nil
}

// systemFiles is what any program needs to start: its libraries.
var systemFiles = []string{"/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/ld.so.conf.d", "/sys/devices/system/cpu"}

// allow adds the rights access to what is beneath path, if that exists.
func allow(ruleset int, path string, access uint64, attr unix.LandlockRulesetAttr) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= fsFileRead | fsFileWrite | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access & attr.Handled_access_fs, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("allow %s: %w", path, errno)
	}
	return nil
}
