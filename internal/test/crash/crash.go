// Package crash kills a process before one of its calls that change files, so that a test
// can try each state that a kill -9 leaves.
//
// A test starts its own binary anew with Command, and the process that comes of it calls
// Arm where the interesting part begins.
package crash

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// variable holds the number of the call before which the process is killed.
const variable = "MAYFLY_CRASH_AT"

// Command returns a command that runs one test of this binary, which is killed before its
// n-th call that changes a file, counted from Arm. What it starts is killed with it.
func Command(test string, n int, env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$", "-test.count=1")
	// A thread that is interrupted in a call makes it again, and it would count twice.
	cmd.Env = append(append(os.Environ(), variable+"="+strconv.Itoa(n), "GODEBUG=asyncpreemptoff=1"), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	return cmd
}

// Run runs a command of Command to its end, and reports whether it was killed.
func Run(t testing.TB, cmd *exec.Cmd) (killed bool) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if status := exit.Sys().(syscall.WaitStatus); status.Signaled() && status.Signal() == unix.SIGKILL {
			return true
		}
	}
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return false
}

// Child reports whether this process was started by Command.
func Child() bool { return os.Getenv(variable) != "" }

// create is the flag of open(2) and openat(2) with which they change something.
const create = unix.O_CREAT

// data, notice and answer are those of linux/seccomp.h.
type data struct {
	number int32
	arch   uint32
	ip     uint64
	args   [6]uint64
}

type notice struct {
	id    uint64
	pid   uint32
	flags uint32
	data  data
}

type answer struct {
	id    uint64
	value int64
	err   int32
	flags uint32
}

// Arm counts the calls of this process, and of what it starts, from now on.
func Arm(t testing.TB) {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv(variable))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := listen()
	if err != nil {
		t.Skipf("no calls can be watched here: %v", err)
	}
	go watch(fd, n)
}

// listen installs the filter and returns the descriptor from which its notices are read.
func listen() (int, error) {
	f := filter()
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, err
	}
	const flags = unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return -1, fmt.Errorf("seccomp: %w", errno)
	}
	return int(fd), nil
}

// filter asks for each call that changes a file.
func filter() []unix.SockFilter {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	returns := func(k uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k}
	}
	// Go's runtime wakes its poller by a write of 8 bytes that it makes without giving up its
	// processor. If a collection of garbage waited for that, nobody could answer the notice.
	f := []unix.SockFilter{
		load(uint32(unsafe.Offsetof(data{}.number))),
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_WRITE, Jf: 3},
		load(uint32(unsafe.Offsetof(data{}.args)) + 8*2),
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 8, Jf: 1},
		returns(unix.SECCOMP_RET_ALLOW),
		load(uint32(unsafe.Offsetof(data{}.number))),
	}
	for _, call := range changing {
		f = append(f, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1}, returns(unix.SECCOMP_RET_USER_NOTIF))
	}
	for call, arg := range opening {
		f = append(f,
			load(uint32(unsafe.Offsetof(data{}.number))),
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 3},
			load(uint32(unsafe.Offsetof(data{}.args))+8*arg),
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: create, Jf: 1},
			returns(unix.SECCOMP_RET_USER_NOTIF))
	}
	return append(f, returns(unix.SECCOMP_RET_ALLOW))
}

// watch lets calls happen until the n-th, and kills before that. It makes none itself.
func watch(fd, n int) {
	runtime.LockOSThread()
	pids := make(map[int]bool)
	for {
		var got notice
		if err := ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&got)); err != nil {
			if err == unix.EINTR || err == unix.ENOENT {
				continue
			}
			panic(err)
		}
		pids[int(got.pid)] = true
		if n--; n == 0 {
			self := os.Getpid()
			for pid := range pids { // what it started may have left its group of processes
				if unix.Tgkill(self, pid, 0) != nil {
					unix.Kill(pid, unix.SIGKILL)
				}
			}
			unix.Kill(0, unix.SIGKILL)
		}
		reply := answer{id: got.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		if err := ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&reply)); err != nil && err != unix.ENOENT {
			panic(err)
		}
	}
}

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// common are the calls that change files on every architecture.
var common = []uint32{
	unix.SYS_RENAMEAT2, unix.SYS_LINKAT, unix.SYS_UNLINKAT, unix.SYS_MKDIRAT, unix.SYS_SYMLINKAT, unix.SYS_MKNODAT,
	unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_UTIMENSAT,
	unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR, unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR, unix.SYS_FREMOVEXATTR,
	unix.SYS_TRUNCATE, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_COPY_FILE_RANGE, unix.SYS_SENDFILE,
	unix.SYS_WRITE, unix.SYS_WRITEV, unix.SYS_PWRITE64, unix.SYS_PWRITEV,
}
