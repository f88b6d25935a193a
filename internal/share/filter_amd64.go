package share

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/confine"
)

// A server makes what the guest says in the user's directory, under the user's
// name: there a setuid program or a device is the user's for everybody on the host.
// Neither Landlock nor mount options see the bits of a mode, but they are an
// argument in a register, which a filter does see.

const (
	setIDBits = unix.S_ISUID | unix.S_ISGID
	makesFile = unix.O_CREAT | unix.O_TMPFILE&^unix.O_DIRECTORY
)

// noSetID refuses a mode with setuid or setgid.
func noSetID(mode uint32) confine.Answer { return confine.FailBits(mode, setIDBits, unix.EPERM) }

// noSetIDFile is noSetID where flags say that there is a mode.
func noSetIDFile(flags, mode uint32) confine.Answer {
	return confine.IfBits(flags, makesFile, noSetID(mode))
}

// noDevice refuses devices, and setuid and setgid.
func noDevice(mode uint32) confine.Answer { return confine.NoDevice(mode, setIDBits) }

// refused are calls that no server needs. Most would fail in its namespaces, without
// capabilities; what is not asked for cannot be a way into the kernel.
var refused = []uint32{
	// other processes
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE, unix.SYS_KCMP, unix.SYS_PIDFD_GETFD,
	unix.SYS_EXECVEAT,
	// namespaces and mounts
	unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN,
	unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_QUOTACTL,
	// keys, programs in the kernel, and the computer
	unix.SYS_ADD_KEY, unix.SYS_KEYCTL, unix.SYS_REQUEST_KEY, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	unix.SYS_FANOTIFY_INIT, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE,
	unix.SYS_DELETE_MODULE, unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME,
	unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_MODIFY_LDT,
}

// namespaces are the flags of clone(2) and unshare(2) that make some. That of time is a
// part of another argument of the former.
const namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// filter returns the program for a server whose files belong to uid and gid. execve is
// what becomes of the call that starts it.
func filter(uid, gid uint32, execve confine.Answer) confine.Filter {
	// A server changes to the user of the guest's process before it makes a
	// file. It cannot, and need not know: the file is the user's. As an error
	// it would go to the guest, whose root could make nothing.
	pretends := confine.Fail(0)
	rules := []confine.Rule{
		{Call: unix.SYS_OPENAT, Answer: noSetIDFile(2, 3)},
		{Call: unix.SYS_OPEN, Answer: noSetIDFile(1, 2)},
		{Call: unix.SYS_CREAT, Answer: noSetID(1)},
		{Call: unix.SYS_OPENAT2, Answer: confine.Fail(unix.ENOSYS)}, // its mode is in memory
		{Call: unix.SYS_CHMOD, Answer: noSetID(1)},
		{Call: unix.SYS_FCHMOD, Answer: noSetID(1)},
		{Call: unix.SYS_FCHMODAT, Answer: noSetID(2)},
		{Call: unix.SYS_FCHMODAT2, Answer: noSetID(2)},
		{Call: unix.SYS_MKNOD, Answer: noDevice(1)},
		{Call: unix.SYS_MKNODAT, Answer: noDevice(2)},
		{Call: unix.SYS_RENAMEAT2, Answer: confine.FailBits(4, unix.RENAME_WHITEOUT, unix.EINVAL)}, // a whiteout is a device
		{Call: unix.SYS_CHOWN, Answer: confine.NoOther(1, 2, uid, gid)},
		{Call: unix.SYS_LCHOWN, Answer: confine.NoOther(1, 2, uid, gid)},
		{Call: unix.SYS_FCHOWN, Answer: confine.NoOther(1, 2, uid, gid)},
		{Call: unix.SYS_FCHOWNAT, Answer: confine.NoOther(2, 3, uid, gid)},
		{Call: unix.SYS_SETRESUID, Answer: pretends},
		{Call: unix.SYS_SETRESGID, Answer: pretends},
		{Call: unix.SYS_SETGROUPS, Answer: pretends},
		{Call: unix.SYS_SETXATTR, Answer: confine.Fail(unix.EOPNOTSUPP)},
		{Call: unix.SYS_LSETXATTR, Answer: confine.Fail(unix.EOPNOTSUPP)},
		{Call: unix.SYS_FSETXATTR, Answer: confine.Fail(unix.EOPNOTSUPP)},
		{Call: unix.SYS_SETXATTRAT, Answer: confine.Fail(unix.ENOSYS)},
		// What listens in the directory, such as a program of the user's, is
		// to be spoken to by its own.
		{Call: unix.SYS_SOCKET, Answer: confine.Fail(unix.EPERM)},
		{Call: unix.SYS_CONNECT, Answer: confine.Fail(unix.EPERM)},
		// It would do all of the above unseen.
		{Call: unix.SYS_IO_URING_SETUP, Answer: confine.Fail(unix.ENOSYS)},
		{Call: unix.SYS_IO_URING_ENTER, Answer: confine.Fail(unix.ENOSYS)},
		{Call: unix.SYS_REMOVEXATTR, Answer: confine.Fail(unix.EOPNOTSUPP)},
		{Call: unix.SYS_LREMOVEXATTR, Answer: confine.Fail(unix.EOPNOTSUPP)},
		{Call: unix.SYS_FREMOVEXATTR, Answer: confine.Fail(unix.EOPNOTSUPP)},
		{Call: unix.SYS_EXECVE, Answer: execve},
		{Call: unix.SYS_CLONE, Answer: confine.FailBits(0, namespaces, unix.EPERM)},
		{Call: unix.SYS_CLONE3, Answer: confine.Fail(unix.ENOSYS)}, // its flags are in memory
		{Call: unix.SYS_UNSHARE, Answer: confine.FailBits(0, namespaces|unix.CLONE_NEWTIME, unix.EPERM)},
	}
	for _, call := range refused {
		rules = append(rules, confine.Rule{Call: call, Answer: confine.Fail(unix.EPERM)})
	}
	return confine.NewFilter(rules, confine.Allow())
}

// installFilter puts the filter on the calling thread, which must be locked and
// have given up new privileges.
func installFilter(uid, gid uint32) error { return filter(uid, gid, confine.Allow()).Install() }

// installLastFilter is installFilter for who executes one more program, the server.
func installLastFilter(uid, gid uint32) error {
	err := filter(uid, gid, confine.Once()).InstallOnce()
	if errors.Is(err, unix.EBUSY) {
		// Who runs us looks at our calls in the same way: there is one such place.
		err = installFilter(uid, gid)
	}
	return err
}
