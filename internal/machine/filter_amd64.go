package machine

import (
	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/confine"
)

// A VMM works with the files and sockets that it was started with. It makes threads
// and memory, also memory with code in it (TCG), and nothing else of the calls that
// the kernel has: no sockets, connections or other programs, and no change of what a
// file is. Neither Landlock nor namespaces see the latter for a file that is open.

// allowed are the calls of a VMM that need no look at their arguments.
var allowed = []uint32{
	// files that are open, and opening what the root has
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_PWRITE64,
	unix.SYS_PREADV, unix.SYS_PWRITEV, unix.SYS_PREADV2, unix.SYS_PWRITEV2, unix.SYS_LSEEK,
	unix.SYS_OPEN, unix.SYS_OPENAT, unix.SYS_CLOSE, unix.SYS_CLOSE_RANGE, unix.SYS_DUP, unix.SYS_DUP2, unix.SYS_DUP3,
	unix.SYS_FCNTL, unix.SYS_FLOCK, unix.SYS_STAT, unix.SYS_FSTAT, unix.SYS_LSTAT, unix.SYS_NEWFSTATAT, unix.SYS_STATX,
	unix.SYS_STATFS, unix.SYS_FSTATFS, unix.SYS_ACCESS, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2,
	unix.SYS_GETDENTS64, unix.SYS_READLINK, unix.SYS_READLINKAT, unix.SYS_GETCWD,
	unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_FADVISE64, unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNC_FILE_RANGE,
	unix.SYS_PIPE, unix.SYS_PIPE2, unix.SYS_EVENTFD, unix.SYS_EVENTFD2, unix.SYS_SIGNALFD, unix.SYS_SIGNALFD4,
	unix.SYS_TIMERFD_CREATE, unix.SYS_TIMERFD_SETTIME, unix.SYS_TIMERFD_GETTIME,
	unix.SYS_POLL, unix.SYS_PPOLL, unix.SYS_SELECT, unix.SYS_PSELECT6,
	unix.SYS_EPOLL_CREATE, unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2,
	// sockets that are connected
	unix.SYS_SENDTO, unix.SYS_RECVFROM, unix.SYS_SENDMSG, unix.SYS_RECVMSG, unix.SYS_SHUTDOWN,
	unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_GETSOCKOPT, unix.SYS_SETSOCKOPT,
	// memory
	unix.SYS_BRK, unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MREMAP, unix.SYS_MPROTECT, unix.SYS_MADVISE, unix.SYS_MSYNC,
	unix.SYS_MINCORE, unix.SYS_MEMFD_CREATE, unix.SYS_MEMBARRIER,
	// threads and time
	unix.SYS_FUTEX, unix.SYS_SET_ROBUST_LIST, unix.SYS_GET_ROBUST_LIST, unix.SYS_SET_TID_ADDRESS, unix.SYS_RSEQ, unix.SYS_ARCH_PRCTL,
	unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_SCHED_GETPARAM, unix.SYS_SCHED_GETSCHEDULER, unix.SYS_SCHED_GETATTR,
	unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES, unix.SYS_GETTIMEOFDAY, unix.SYS_TIME, unix.SYS_TIMES,
	unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_GETTIME, unix.SYS_TIMER_DELETE, unix.SYS_TIMER_GETOVERRUN,
	unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_RESTART_SYSCALL,
	// signals of its own
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGPENDING, unix.SYS_RT_SIGSUSPEND,
	unix.SYS_RT_SIGTIMEDWAIT, unix.SYS_SIGALTSTACK,
	// what it is, and where
	unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_GETTID, unix.SYS_GETPGRP, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID,
	unix.SYS_GETRESUID, unix.SYS_GETRESGID, unix.SYS_GETGROUPS, unix.SYS_CAPGET, unix.SYS_UNAME, unix.SYS_SYSINFO, unix.SYS_GETRLIMIT,
	unix.SYS_GETRUSAGE, unix.SYS_GETCPU, unix.SYS_GETRANDOM,
}

// filter returns the filter of a VMM whose process is pid in its namespace. execve is
// what becomes of the call that starts it.
func filter(pid uint32, execve confine.Answer) confine.Filter {
	const (
		setFilter, actionAvailable = 1, 2 // operations of seccomp(2)
		stream                     = unix.SOCK_STREAM
		// Types of ioctl(2), Documentation/userspace-api/ioctl/ioctl-number.rst:
		// flags of files, fs-verity and encryption; XFS's, and freezing.
		fileFlags, fileSystem = 'f', 'X'
		firstNew              = unix.SYS_PIDFD_SEND_SIGNAL // the tables of all architectures are one since
	)
	noListener := confine.FailBits(1, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, unix.EPERM)
	rules := []confine.Rule{
		// First, since they are asked for most often.
		{Call: unix.SYS_IOCTL, Answer: confine.FailIoctls(1, unix.EPERM, fileFlags, fileSystem)},
		{Call: unix.SYS_TGKILL, Answer: confine.OnlyIf(0, unix.EPERM, pid)},
	}
	for _, call := range allowed {
		rules = append(rules, confine.Rule{Call: call, Answer: confine.Allow()})
	}
	rules = append(rules, []confine.Rule{
		{Call: unix.SYS_EXECVE, Answer: execve},
		// Threads only. The flags of the newer call are in memory.
		{Call: unix.SYS_CLONE, Answer: confine.NeedBits(0, unix.CLONE_THREAD, unix.EPERM, confine.Allow())},
		{Call: unix.SYS_PRLIMIT64, Answer: confine.OnlyNull(2, unix.EPERM)},
		{Call: unix.SYS_PRCTL, Answer: confine.OnlyIf(0, unix.EPERM,
			unix.PR_SET_NAME, unix.PR_GET_NAME, unix.PR_SET_NO_NEW_PRIVS, unix.PR_GET_NO_NEW_PRIVS, unix.PR_SET_TIMERSLACK,
			unix.PR_CAPBSET_READ, unix.PR_SET_VMA, unix.PR_SET_THP_DISABLE, unix.PR_GET_SECCOMP)},
		// A VMM's own filter comes on top of this one. libseccomp asks for it by a
		// call that has to be invalid.
		{Call: unix.SYS_SECCOMP, Answer: confine.When(0, setFilter, noListener,
			confine.When(0, actionAvailable, noListener, confine.Fail(unix.EINVAL)))},
		// For the other end of which it has nobody but who it is connected to.
		// Datagrams could go to any socket with a name.
		{Call: unix.SYS_SOCKETPAIR, Answer: confine.OnlyIf(1, unix.EPERM,
			stream, stream|unix.SOCK_CLOEXEC, stream|unix.SOCK_NONBLOCK, stream|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)},
	}...)
	return confine.NewFilter(rules, confine.FailSince(firstNew, unix.ENOSYS, unix.EPERM))
}
