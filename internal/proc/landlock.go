package proc

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Access are rights of Landlock, userspace-api/landlock.rst. Of those that a
// kernel does not know it refuses nothing.
type Access uint64

// What can be allowed beneath a path.
const (
	ReadFiles  Access = unix.LANDLOCK_ACCESS_FS_READ_FILE
	Read       Access = ReadFiles | unix.LANDLOCK_ACCESS_FS_READ_DIR
	Run        Access = Read | unix.LANDLOCK_ACCESS_FS_EXECUTE
	WriteFiles Access = ReadFiles | unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	Ioctl      Access = unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	RemoveDirs Access = unix.LANDLOCK_ACCESS_FS_REMOVE_DIR // that are empty
	// Replace is to make files, write them, give them the name of another, and
	// remove them; not to read them.
	Replace Access = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE
	// Change is everything that changes a tree but making devices.
	Change Access = Read | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_REFER |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SYM
)

const (
	ofFiles Access = unix.LANDLOCK_ACCESS_FS_EXECUTE | WriteFiles | unix.LANDLOCK_ACCESS_FS_TRUNCATE | Ioctl // of no directory
	abi1    uint64 = 1<<13 - 1                                                                               // execute … make_sym
)

// Rule allows something beneath a path. A path that does not exist is no error.
type Rule struct {
	Path   string
	Access Access
}

// LandlockVersion returns the version of the kernel's Landlock, 0 for none.
func LandlockVersion() int {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}

// handled returns the accesses that a kernel of this ABI can refuse: all of
// them.
func handled(abi int) unix.LandlockRulesetAttr {
	a := unix.LandlockRulesetAttr{Handled_access_fs: abi1}
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

// Restrict lets the calling thread, which must be locked, do with files only what
// rules allow. No TCP port can be used, and no process outside be signalled or
// traced. A kernel without Landlock leaves the caller's other walls; package host
// says so in mayfly doctor.
func Restrict(rules []Rule) error {
	abi := LandlockVersion()
	if abi == 0 {
		return nil
	}
	ruleset, err := newRuleset(handled(abi), rules)
	if err != nil {
		return err
	}
	defer unix.Close(ruleset)
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0); errno != 0 {
		return fmt.Errorf("restrict the files of a program: %w", errno)
	}
	return nil
}

// RestrictProcess is Restrict for all threads of this process, which must have given
// up new privileges (NoNewPrivilegesProcess), where the process is to go on using the
// network and signalling what it started: only files are restricted, sockets with
// abstract names, and whom it can trace.
func RestrictProcess(rules []Rule) error {
	abi := LandlockVersion()
	if abi == 0 {
		return nil
	}
	attr := handled(abi)
	attr.Handled_access_net = 0
	attr.Scoped &= unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	ruleset, err := newRuleset(attr, rules)
	if err != nil {
		return err
	}
	defer unix.Close(ruleset)
	if err := OnAllThreads(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0); err != nil {
		return fmt.Errorf("restrict the files of this process: %w", err)
	}
	return nil
}

// newRuleset returns a descriptor of rules, of which attr is what they are rules for.
func newRuleset(attr unix.LandlockRulesetAttr, rules []Rule) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return -1, fmt.Errorf("make a Landlock ruleset: %w", errno)
	}
	for _, r := range rules {
		if err := allow(int(fd), r, attr); err != nil {
			unix.Close(int(fd))
			return -1, err
		}
	}
	return int(fd), nil
}

// allow adds a rule to the ruleset.
func allow(ruleset int, r Rule, attr unix.LandlockRulesetAttr) error {
	fd, err := unix.Open(r.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", r.Path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", r.Path, err)
	}
	access := r.Access
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= ofFiles
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: uint64(access) & attr.Handled_access_fs, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("allow %s: %w", r.Path, errno)
	}
	return nil
}
