package share

import (
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

// filter returns the program for a server whose files belong to uid and gid.
func filter(uid, gid uint32) confine.Filter {
	// A server changes to the user of the guest's process before it makes a
	// file. It cannot, and need not know: the file is the user's. As an error
	// it would go to the guest, whose root could make nothing.
	pretends := confine.Fail(0)
	return confine.NewFilter([]confine.Rule{
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
	}, confine.Allow())
}

// installFilter puts the filter on the calling thread, which must be locked and
// have given up new privileges.
func installFilter(uid, gid uint32) error { return filter(uid, gid).Install() }
