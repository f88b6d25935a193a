package confine

import (
	"errors"
	"fmt"
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
	if auditArch == 0 {
		return errors.New("filter system calls: not on this architecture")
	}
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("filter system calls: %w", errno)
	}
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
