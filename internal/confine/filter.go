package confine

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/proc"
)

// A filter sees the numbers of system calls and the registers of their arguments,
// and no memory, seccomp(2). Landlock and mount options see paths; a filter sees
// what those do not, such as the bits of a mode.

// Offsets in struct seccomp_data, linux/seccomp.h.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16 // of 64 bits each, the low half first
)

// Rule says what becomes of one system call.
type Rule struct {
	Call   uint32
	Answer Answer
}

// Answer is a piece of a filter that ends in an answer on every way. Arguments are
// counted from 0, and only their low halves looked at: what the kernel takes as an
// int or a mode has no other.
type Answer []unix.SockFilter

// Allow lets a call happen.
func Allow() Answer { return Answer{returns(unix.SECCOMP_RET_ALLOW)} }

// Fail answers with errno in place of the call. Zero pretends that it succeeded.
func Fail(errno unix.Errno) Answer { return Answer{fails(errno)} }

// FailBits answers with errno where the argument arg has one of bits.
func FailBits(arg, bits uint32, errno unix.Errno) Answer {
	return Answer{loadArg(arg), jump(unix.BPF_JSET, bits, 0, 1), fails(errno), allows()}
}

// IfBits is answer where the argument arg has one of bits, and else allows.
func IfBits(arg, bits uint32, answer Answer) Answer {
	return append(Answer{loadArg(arg), jump(unix.BPF_JSET, bits, 1, 0), allows()}, answer...)
}

// When is yes where the argument arg is value, and else no.
func When(arg, value uint32, yes, no Answer) Answer {
	answer := append(Answer{loadArg(arg), jump(unix.BPF_JEQ, value, 0, uint8(len(yes)))}, yes...)
	return append(answer, no...)
}

// OnlyIf allows a call where the argument arg is one of values, and else answers with
// errno.
func OnlyIf(arg uint32, errno unix.Errno, values ...uint32) Answer {
	answer := Fail(errno)
	for _, v := range slices.Backward(values) {
		answer = When(arg, v, Allow(), answer)
	}
	return answer
}

// NeedBits is answer where the argument arg has one of bits, and else fails with errno.
func NeedBits(arg, bits uint32, errno unix.Errno, answer Answer) Answer {
	return append(Answer{loadArg(arg), jump(unix.BPF_JSET, bits, 1, 0), fails(errno)}, answer...)
}

// OnlyNull fails with errno where the argument arg is a pointer to something.
func OnlyNull(arg uint32, errno unix.Errno) Answer {
	return Answer{
		loadArg(arg), jump(unix.BPF_JEQ, 0, 0, 2),
		load(offsetArgs + 8*arg + 4), jump(unix.BPF_JEQ, 0, 1, 0),
		fails(errno), allows(),
	}
}

// FailIoctls fails with errno where the argument arg is an ioctl(2) of one of types.
func FailIoctls(arg uint32, errno unix.Errno, types ...uint32) Answer {
	a := Answer{
		loadArg(arg),
		statement(unix.BPF_ALU|unix.BPF_RSH|unix.BPF_K, 8),
		statement(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, 0xff),
	}
	for i, v := range types {
		a = append(a, jump(unix.BPF_JEQ, v, uint8(len(types)-i), 0))
	}
	return append(a, allows(), fails(errno))
}

// FailSince answers with later for calls whose numbers are at least first, and with
// errno for others. It is for the end of a filter.
func FailSince(first uint32, later, errno unix.Errno) Answer {
	return Answer{jump(unix.BPF_JGE, first, 0, 1), fails(later), fails(errno)}
}

// Once lets a call happen until the program that installed the filter executes
// another, which includes that execution itself. After that it fails with ENOSYS.
func Once() Answer { return Answer{returns(unix.SECCOMP_RET_USER_NOTIF)} }

// NoDevice fails with EPERM where the mode makes a device or has one of bits.
func NoDevice(mode, bits uint32) Answer {
	return Answer{
		loadArg(mode),
		jump(unix.BPF_JSET, bits, 4, 0),
		statement(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, unix.S_IFMT),
		jump(unix.BPF_JEQ, unix.S_IFCHR, 2, 0),
		jump(unix.BPF_JEQ, unix.S_IFBLK, 1, 0),
		allows(),
		fails(unix.EPERM),
	}
}

// NoOther fails with EPERM for owners other than uid and gid, and than -1, which
// keeps what is.
func NoOther(uidArg, gidArg, uid, gid uint32) Answer {
	const keep = 1<<32 - 1
	return Answer{
		loadArg(uidArg),
		jump(unix.BPF_JEQ, keep, 1, 0),
		jump(unix.BPF_JEQ, uid, 0, 4),
		loadArg(gidArg),
		jump(unix.BPF_JEQ, keep, 1, 0),
		jump(unix.BPF_JEQ, gid, 0, 1),
		allows(),
		fails(unix.EPERM),
	}
}

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

func allows() unix.SockFilter { return returns(unix.SECCOMP_RET_ALLOW) }

// Filter is a program of seccomp.
type Filter []unix.SockFilter

// NewFilter returns the filter that answers rules in their order, and all other
// calls with otherwise. A process of another architecture than ours is killed.
func NewFilter(rules []Rule, otherwise Answer) Filter {
	f := Filter{
		load(offsetArch),
		jump(unix.BPF_JEQ, auditArch, 1, 0),
		returns(unix.SECCOMP_RET_KILL_PROCESS),
		load(offsetNumber),
		jump(unix.BPF_JGE, foreignBit, 0, 1),
		returns(unix.SECCOMP_RET_KILL_PROCESS),
	}
	for _, rule := range rules {
		f = append(f, jump(unix.BPF_JEQ, rule.Call, 0, uint8(len(rule.Answer))))
		f = append(f, rule.Answer...)
	}
	return append(f, otherwise...)
}

// Install puts the filter on the calling thread, which must be locked and have given
// up new privileges.
func (f Filter) Install() error {
	_, err := f.install(0)
	return err
}

func (f Filter) install(flags uintptr) (int, error) {
	if auditArch == 0 {
		return -1, errors.New("filter system calls: not on this architecture")
	}
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return -1, fmt.Errorf("filter system calls: %w", errno)
	}
	return int(fd), nil
}

// InstallOnce is Install for a filter with answers of Once. They are given by a thread
// of this process, which needs another CPU of Go's for it, and which ends with the
// execution of another program: with nobody to ask, the kernel answers ENOSYS,
// seccomp_unotify(2).
func (f Filter) InstallOnce() error {
	fd, err := f.install(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER) // closed on exec
	if err != nil {
		return err
	}
	// It runs before anything is executed: package syscall lets no thread be made
	// meanwhile, and this one would be waited for in vain.
	running := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(running)
		answerNotices(fd)
	}()
	<-running
	return nil
}

// InstallOnAllThreads puts the filter on all threads of this process, which must have
// given up new privileges.
func (f Filter) InstallOnAllThreads() error {
	if auditArch == 0 {
		return errors.New("filter system calls: not on this architecture")
	}
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	// The kernel gives all threads the same one, which costs least.
	other, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	var err error
	switch {
	case errno != 0:
		err = errno
	case other != 0:
		// That thread has a filter of its own, as one may that started a VMM: each
		// gets this one beside what it has.
		err = proc.OnAllThreads(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	}
	if err != nil {
		return fmt.Errorf("filter system calls: %w", err)
	}
	return nil
}

// notice and noticeAnswer are struct seccomp_notif and struct seccomp_notif_resp,
// linux/seccomp.h.
type notice struct {
	id         uint64
	pid, flags uint32
	number     int32
	arch       uint32
	pointer    uint64
	args       [6]uint64
}

type noticeAnswer struct {
	id    uint64
	value int64
	err   int32
	flags uint32
}

// answerNotices lets the calls happen that fd tells of. It keeps its CPU of Go's while it
// waits: getting one back may take another thread.
func answerNotices(fd int) {
	for {
		var notice notice
		if _, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&notice))); errno != 0 {
			if errno == unix.EINTR || errno == unix.ENOENT {
				continue
			}
			return
		}
		// One that a signal has broken off comes again.
		answer := noticeAnswer{id: notice.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&answer)))
	}
}
