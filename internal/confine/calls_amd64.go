package confine

import "golang.org/x/sys/unix"

// maySignal bounds the processes that a process may signal by their numbers.
const maySignal = 32

// NetworkCalls returns the filter of system calls of a process that has started all that it
// ever starts and goes on with files and the network: what the Go runtime needs, files, and
// connections of the internet's families. What is not listed fails. children are the
// processes that it has started, self is its own number.
//
// Where a call has another way to be made, the answer is ENOSYS: who makes it tries that.
func NetworkCalls(self int, children []int) Filter {
	const refused = unix.EPERM
	processes := []uint32{uint32(self)}
	for _, pid := range children[:min(len(children), maySignal)] {
		processes = append(processes, uint32(pid))
	}
	var rules []Rule
	for _, call := range freeCalls {
		rules = append(rules, Rule{Call: call, Answer: Allow()})
	}
	rules = append(rules,
		// No code but ours: neither memory that becomes code nor a program.
		Rule{Call: unix.SYS_MMAP, Answer: FailBits(2, unix.PROT_EXEC, refused)},
		Rule{Call: unix.SYS_MPROTECT, Answer: FailBits(2, unix.PROT_EXEC, refused)},
		// Threads, and no processes.
		Rule{Call: unix.SYS_CLONE, Answer: NeedBits(0, unix.CLONE_THREAD, refused, FailBits(0, namespaces, refused))},
		Rule{Call: unix.SYS_CLONE3, Answer: Fail(unix.ENOSYS)}, // its flags are in memory
		// A file has the mode with which it is made, which is never setuid.
		Rule{Call: unix.SYS_OPENAT, Answer: IfBits(2, unix.O_CREAT, FailBits(3, unix.S_ISUID|unix.S_ISGID, refused))},
		Rule{Call: unix.SYS_OPENAT2, Answer: Fail(unix.ENOSYS)}, // its mode is in memory
		// No socket that leads to another program of this computer: connections
		// to the supervisor's own socket are accepted and not made. Routes and
		// addresses are read by netlink.
		Rule{Call: unix.SYS_SOCKET, Answer: When(0, unix.AF_NETLINK,
			OnlyIf(2, refused, unix.NETLINK_ROUTE), OnlyIf(0, refused, unix.AF_INET, unix.AF_INET6))},
		Rule{Call: unix.SYS_SETSOCKOPT, Answer: When(1, unix.SOL_SOCKET, noPrograms(refused), Allow())},
		// Descriptors are copied and made non-blocking. An owner or a signal of
		// one would be a way to signal any process.
		Rule{Call: unix.SYS_FCNTL, Answer: OnlyIf(1, refused, unix.F_DUPFD, unix.F_GETFD, unix.F_SETFD,
			unix.F_GETFL, unix.F_SETFL, unix.F_DUPFD_CLOEXEC, unix.F_GETPIPE_SZ, unix.F_SETPIPE_SZ)},
		Rule{Call: unix.SYS_IOCTL, Answer: Fail(unix.ENOTTY)},
		Rule{Call: unix.SYS_PRCTL, Answer: OnlyIf(0, refused, unix.PR_SET_VMA)},
		Rule{Call: unix.SYS_PRLIMIT64, Answer: OnlyIf(0, refused, 0)},
		// Where the kernel gave no descriptor of a child, it is killed by number.
		Rule{Call: unix.SYS_KILL, Answer: OnlyIf(0, refused, processes...)},
		Rule{Call: unix.SYS_TGKILL, Answer: OnlyIf(0, refused, uint32(self))},
	)
	return NewFilter(rules, Fail(refused))
}

const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// noPrograms refuses the options of a socket that give the kernel a program to run.
func noPrograms(errno unix.Errno) Answer {
	answer := Allow()
	for _, option := range []uint32{
		unix.SO_ATTACH_FILTER, unix.SO_ATTACH_BPF, unix.SO_ATTACH_REUSEPORT_CBPF, unix.SO_ATTACH_REUSEPORT_EBPF,
	} {
		answer = When(2, option, Fail(errno), answer)
	}
	return answer
}

// freeCalls are allowed with any arguments.
var freeCalls = []uint32{
	// What happens most often comes first.
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_FUTEX, unix.SYS_EPOLL_PWAIT, unix.SYS_NANOSLEEP,
	unix.SYS_SENDTO, unix.SYS_RECVFROM, unix.SYS_SENDMSG, unix.SYS_RECVMSG, unix.SYS_WRITEV, unix.SYS_READV,
	unix.SYS_SCHED_YIELD, unix.SYS_MADVISE, unix.SYS_CLOSE, unix.SYS_RT_SIGRETURN, unix.SYS_RESTART_SYSCALL,
	// Memory, threads, signals, time.
	unix.SYS_MUNMAP, unix.SYS_MREMAP, unix.SYS_MINCORE, unix.SYS_BRK, unix.SYS_MLOCK, unix.SYS_MUNLOCK,
	unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_SCHED_GETAFFINITY, unix.SYS_GETCPU,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_SIGALTSTACK,
	unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_GETTIMEOFDAY, unix.SYS_TIME,
	unix.SYS_GETRUSAGE, unix.SYS_GETRLIMIT, unix.SYS_GETRANDOM,
	// Its children. A descriptor of a process is that of a child: no other can be made.
	unix.SYS_WAIT4, unix.SYS_WAITID, unix.SYS_PIDFD_SEND_SIGNAL,
	// Who and where it is.
	unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID, unix.SYS_UNAME, unix.SYS_SYSINFO, unix.SYS_GETCWD,
	// Descriptors.
	unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_PIPE2, unix.SYS_EVENTFD2, unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_WAIT,
	unix.SYS_POLL, unix.SYS_PPOLL, unix.SYS_SPLICE, unix.SYS_SENDFILE, unix.SYS_COPY_FILE_RANGE,
	// Files, of which Landlock says which. Modes, owners, times and attributes,
	// which it does not see, are not changed.
	unix.SYS_PREAD64, unix.SYS_PWRITE64, unix.SYS_LSEEK, unix.SYS_FSTAT, unix.SYS_STAT, unix.SYS_LSTAT, unix.SYS_NEWFSTATAT, unix.SYS_STATX,
	unix.SYS_STATFS, unix.SYS_FSTATFS, unix.SYS_ACCESS, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_READLINK, unix.SYS_READLINKAT,
	unix.SYS_GETDENTS64, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_FLOCK, unix.SYS_UMASK,
	unix.SYS_RENAME, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_UNLINK, unix.SYS_UNLINKAT, unix.SYS_RMDIR,
	// Sockets, of which socket says which.
	unix.SYS_CONNECT, unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_SHUTDOWN,
	unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_GETSOCKOPT,
}
