package share

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A server makes what the guest says in the user's directory, under the user's
// name: there a setuid program or a device is the user's for everybody on the host.
// Neither Landlock nor mount options see the bits of a mode, but they are an
// argument in a register, which a filter does see, seccomp(2).

// Offsets in struct seccomp_data, linux/seccomp.h.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16 // of 64 bits each, the low half first
)

const (
	setIDBits = unix.S_ISUID | unix.S_ISGID
	x32Bit    = 0x40000000
	makesFile = unix.O_CREAT | unix.O_TMPFILE&^unix.O_DIRECTORY
)

func statement(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }

func jump(code uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | code, Jt: yes, Jf: no, K: k}
}

func load(offset uint32) unix.SockFilter {
	return statement(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset)
}

func loadArg(i uint32) unix.SockFilter { return load(offsetArgs + 8*i) }

func returns(action uint32) unix.SockFilter { return statement(unix.BPF_RET|unix.BPF_K, action) }

func fails(errno unix.Errno) unix.SockFilter {
	return returns(unix.SECCOMP_RET_ERRNO | uint32(errno))
}

var allows = returns(unix.SECCOMP_RET_ALLOW)

// noSetID refuses a mode with setuid or setgid.
func noSetID(mode uint32) []unix.SockFilter {
	return []unix.SockFilter{loadArg(mode), jump(unix.BPF_JSET, setIDBits, 0, 1), fails(unix.EPERM), allows}
}

// noSetIDFile is noSetID where flags say that there is a mode.
func noSetIDFile(flags, mode uint32) []unix.SockFilter {
	return append([]unix.SockFilter{loadArg(flags), jump(unix.BPF_JSET, makesFile, 1, 0), allows}, noSetID(mode)...)
}

// noDevice refuses devices, and setuid and setgid.
func noDevice(mode uint32) []unix.SockFilter {
	return []unix.SockFilter{
		loadArg(mode),
		jump(unix.BPF_JSET, setIDBits, 4, 0),
		statement(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, unix.S_IFMT),
		jump(unix.BPF_JEQ, unix.S_IFCHR, 2, 0),
		jump(unix.BPF_JEQ, unix.S_IFBLK, 1, 0),
		allows,
		fails(unix.EPERM),
	}
}

// noOther refuses owners other than uid and gid, and than -1, which keeps what is.
func noOther(uidArg, gidArg, uid, gid uint32) []unix.SockFilter {
	const keep = 1<<32 - 1
	return []unix.SockFilter{
		loadArg(uidArg),
		jump(unix.BPF_JEQ, keep, 1, 0),
		jump(unix.BPF_JEQ, uid, 0, 4),
		loadArg(gidArg),
		jump(unix.BPF_JEQ, keep, 1, 0),
		jump(unix.BPF_JEQ, gid, 0, 1),
		allows,
		fails(unix.EPERM),
	}
}

func always(answer unix.SockFilter) []unix.SockFilter { return []unix.SockFilter{answer} }

// filter returns the program for a server whose files belong to uid and gid.
func filter(uid, gid uint32) []unix.SockFilter {
	// A server changes to the user of the guest's process before it makes a
	// file. It cannot, and need not know: the file is the user's. As an error
	// it would go to the guest, whose root could make nothing.
	pretends := always(fails(0))
	program := []unix.SockFilter{
		load(offsetArch),
		jump(unix.BPF_JEQ, unix.AUDIT_ARCH_X86_64, 1, 0),
		returns(unix.SECCOMP_RET_KILL_PROCESS),
		load(offsetNumber),
		jump(unix.BPF_JGE, x32Bit, 0, 1),
		returns(unix.SECCOMP_RET_KILL_PROCESS),
	}
	for _, rule := range []struct {
		number uint32
		body   []unix.SockFilter // ends in an answer on every way
	}{
		{unix.SYS_OPENAT, noSetIDFile(2, 3)},
		{unix.SYS_OPEN, noSetIDFile(1, 2)},
		{unix.SYS_CREAT, noSetID(1)},
		{unix.SYS_OPENAT2, always(fails(unix.ENOSYS))}, // its mode is in memory
		{unix.SYS_CHMOD, noSetID(1)},
		{unix.SYS_FCHMOD, noSetID(1)},
		{unix.SYS_FCHMODAT, noSetID(2)},
		{unix.SYS_FCHMODAT2, noSetID(2)},
		{unix.SYS_MKNOD, noDevice(1)},
		{unix.SYS_MKNODAT, noDevice(2)},
		{unix.SYS_RENAMEAT2, []unix.SockFilter{ // a whiteout is a device
			loadArg(4), jump(unix.BPF_JSET, unix.RENAME_WHITEOUT, 0, 1), fails(unix.EINVAL), allows,
		}},
		{unix.SYS_CHOWN, noOther(1, 2, uid, gid)},
		{unix.SYS_LCHOWN, noOther(1, 2, uid, gid)},
		{unix.SYS_FCHOWN, noOther(1, 2, uid, gid)},
		{unix.SYS_FCHOWNAT, noOther(2, 3, uid, gid)},
		{unix.SYS_SETRESUID, pretends},
		{unix.SYS_SETRESGID, pretends},
		{unix.SYS_SETGROUPS, pretends},
		{unix.SYS_SETXATTR, always(fails(unix.EOPNOTSUPP))},
		{unix.SYS_LSETXATTR, always(fails(unix.EOPNOTSUPP))},
		{unix.SYS_FSETXATTR, always(fails(unix.EOPNOTSUPP))},
		{unix.SYS_SETXATTRAT, always(fails(unix.ENOSYS))},
		// What listens in the directory, such as a program of the user's, is
		// to be spoken to by its own.
		{unix.SYS_SOCKET, always(fails(unix.EPERM))},
		{unix.SYS_CONNECT, always(fails(unix.EPERM))},
		// It would do all of the above unseen.
		{unix.SYS_IO_URING_SETUP, always(fails(unix.ENOSYS))},
	} {
		program = append(program, jump(unix.BPF_JEQ, rule.number, 0, uint8(len(rule.body))))
		program = append(program, rule.body...)
	}
	return append(program, allows)
}

// installFilter puts the filter on the calling thread, which must be locked and
// have given up new privileges.
func installFilter(uid, gid uint32) error {
	program := filter(uid, gid)
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("filter system calls: %w", errno)
	}
	return nil
}
