package supervisor

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/confine"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/proc"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/test/env"
)

// The supervisor of this test is a process of its own, which is this test again: what it
// gives up it never gets back. When its machine is ready it tries what one tries that was
// taken over.

// confinedVariable holds a directory that is none of the machine's. With it, the test is
// the supervisor.
const confinedVariable = "MAYFLY_TEST_CONFINED"

// attempt is what a confined supervisor tried.
type attempt struct {
	Thread string // on which thread
	What   string
	Error  string
	Errno  syscall.Errno
}

func TestConfined(t *testing.T) {
	if outside := os.Getenv(confinedVariable); outside != "" {
		beConfined(t, outside)
		return
	}
	outside := t.TempDir()
	// For everybody: root's supervisor is another user, and not that is what is to keep it out.
	err := errors.Join(os.Chmod(filepath.Dir(outside), 0o755), os.Chmod(outside, 0o777))
	for name, content := range map[string]string{"secret": "secret", "program": "#!/bin/sh\n"} {
		path := filepath.Join(outside, name)
		err = errors.Join(err, os.WriteFile(path, []byte(content), 0o700), os.Chmod(path, 0o777))
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(env.WithoutC(t), "-test.run=^TestConfined$", "-test.count=1")
	cmd.Env = append(os.Environ(), confinedVariable+"="+outside, "TMPDIR="+t.TempDir())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	var report struct {
		Dir      string
		VMM      state.Process // a program that runs as its VMM would
		Sign     string        // what that could do to the supervisor
		Allowed  []attempt
		Refused  []attempt
		Duration time.Duration
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &report)
	}
	if err != nil {
		rest, _ := io.ReadAll(lines)
		t.Fatalf("the supervisor said %q: %v", append(line, rest...), err)
	}
	t.Logf("to confine it took %v", report.Duration)
	if len(report.Refused) < 100 || len(report.Allowed) < 10 {
		t.Errorf("%d attempts are to be refused, and %d allowed; want at least 100 and 10", len(report.Refused), len(report.Allowed))
	}
	for _, a := range report.Allowed {
		if a.Error != "" {
			t.Errorf("%s on %s: %s; want no error", a.What, a.Thread, a.Error)
		}
	}
	for _, a := range report.Refused {
		switch a.Errno {
		case unix.EPERM, unix.EACCES, unix.ENOSYS, unix.ENOTTY, unix.EXDEV:
		default:
			t.Errorf("%s on %s: %q (%d); want it refused", a.What, a.Thread, a.Error, a.Errno)
		}
	}
	checkThreads(t, cmd.Process.Pid)
	if report.Sign != "" {
		t.Errorf("its VMM could reach the supervisor: %s", report.Sign)
	}

	in.Close()
	rest, err := io.ReadAll(lines)
	if err != nil || string(rest) != "ended\n" {
		t.Errorf("at its end the supervisor said %q, %v; want ended", rest, err)
	}
	cmd.Wait()
	for deadline := time.Now().Add(time.Minute); lives(report.VMM); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("what runs as its VMM has outlived the supervisor")
			report.VMM.Kill()
			break
		}
	}
	if machine.OwnUser() != 0 {
		checkLeft(t, state.Machine{Name: "m", Dir: report.Dir})
	}
	if _, err := os.Lstat(report.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory of the machine that has ended: %v; want it removed", err)
	}
}

// lives reports whether p runs. One that has ended may be there still, for who inherits it.
func lives(p state.Process) bool {
	now, err := state.ProcessOf(p.PID)
	if err != nil || now != p {
		return false
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	return err == nil && !strings.Contains(string(status), "\nState:\tZ")
}

// checkLeft fails the test unless the supervisor of m, which was another user than root, has
// removed what is large and left what root believes. It then removes m as root does.
func checkLeft(t *testing.T, m state.Machine) {
	t.Helper()
	if _, err := os.Lstat(m.File(state.ScratchFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the scratch disk: %v; want it removed", err)
	}
	for _, name := range []string{state.PlanFile, state.TokenFile} {
		var st unix.Stat_t
		if err := unix.Lstat(m.File(name), &st); err != nil || st.Uid != 0 || st.Mode&0o777 != 0o600 {
			t.Errorf("%s: %v, of user %d, mode %o; want root's alone", name, err, st.Uid, st.Mode)
		}
	}
	if err := control.Remove(m); err != nil {
		t.Errorf("Remove() = %v; want nil", err)
	}
}

// checkThreads fails the test if a thread of the process pid has more than others.
func checkThreads(t testing.TB, pid int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(tasks) < 3 {
		t.Fatalf("it has %d threads, %v; want at least 3", len(tasks), err)
	}
	kept := uint64(1 << unix.CAP_NET_BIND_SERVICE)
	want := map[string]string{"NoNewPrivs": "1", "Seccomp": "2", "CapInh": fmt.Sprintf("%016x", 0), "CapAmb": fmt.Sprintf("%016x", 0)}
	if os.Geteuid() == 0 {
		if machine.OwnUser() == 0 {
			kept |= 1 << unix.CAP_KILL
		} else {
			own, vmm := confine.SupervisorUser(pid), confine.User(pid)
			want["Uid"], want["Gid"] = fmt.Sprintf("%d\t%d\t%[1]d\t%[1]d", own, vmm), fmt.Sprintf("%d\t%[1]d\t%[1]d\t%[1]d", own)
			want["Groups"] = ""
		}
		want["CapEff"], want["CapPrm"] = fmt.Sprintf("%016x", kept), fmt.Sprintf("%016x", kept)
	}
	for _, task := range tasks {
		data, err := os.ReadFile(task)
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(data)) {
			key, value, _ := strings.Cut(line, ":")
			if w, ok := want[key]; ok && strings.TrimSpace(value) != w {
				t.Errorf("%s: %s is %s; want %s", task, key, strings.TrimSpace(value), w)
			}
		}
	}
}

// beConfined is the supervisor. It never returns to the test, which could not clean up.
func beConfined(t *testing.T, outside string) {
	r := newRig(t, nil, func(p *plan.Plan) { p.Machine.Engine.Isolate = true })
	vmm, sign := startAsVMM(t)
	process, err := state.ProcessOf(vmm.Pid)
	if err != nil {
		t.Fatal(err)
	}
	var took time.Duration
	r.confine = func(m *running) error {
		start := time.Now()
		err := r.confineProcess(m)
		took = time.Since(start)
		return err
	}
	// Threads that are there before, one that waits in a call of the kernel.
	before := startThread("a thread from before")
	waiting := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(waiting)
		for {
			time.Sleep(time.Hour)
		}
	}()
	<-waiting
	other := filepath.Join(filepath.Dir(filepath.Dir(r.machine.AuditFile())), "other")
	if err := os.MkdirAll(other, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "other.jsonl"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	wait := r.life(t)
	after := startThread("a new thread")

	audits := filepath.Dir(r.machine.AuditFile())
	a := attempts{
		dir: r.held.path(r.machine.Dir), path: r.machine.Dir, outside: outside,
		audit: r.held.path(audits), audits: audits, vmm: vmm,
	}
	var allowed, refused []attempt
	for _, thread := range []*thread{before, after} {
		thread.run(func() {
			allowed = append(allowed, try(thread.name, a.allowed())...)
			refused = append(refused, try(thread.name, a.refused())...)
		})
	}
	report := map[string]any{"Dir": r.machine.Dir, "VMM": process, "Sign": sign(), "Allowed": allowed, "Refused": refused, "Duration": took}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		fmt.Println(err)
	}
	io.Copy(io.Discard, os.Stdin)
	r.owner.requestStop()
	if err := wait(); err != nil {
		fmt.Println(err)
	}
	fmt.Println("ended")
	syscall.Exit(0)
}

// startAsVMM starts a program as the user that the VMM of this process has, which dies with
// this process as a VMM does. sign says what it could do to this process, once that is
// confined.
func startAsVMM(t *testing.T) (vmm *os.Process, sign func() string) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "read line; kill -0 $PPID 2>/dev/null && echo signalled; "+
		"cat /proc/$PPID/environ >/dev/null 2>&1 && echo read; echo .; exec sleep 1000")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if user := machine.OwnUser(); user != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}
	}
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	started := make(chan error)
	proc.OnThread(func() {
		started <- cmd.Start()
		cmd.Wait()
	})
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	return cmd.Process, func() string {
		if os.Getuid() == os.Geteuid() {
			return "" // they are one user
		}
		io.WriteString(in, "\n")
		var said strings.Builder
		for lines := bufio.NewReader(out); ; {
			line, err := lines.ReadString('\n')
			if err != nil || line == ".\n" {
				return said.String()
			}
			said.WriteString(line)
		}
	}
}

// thread is a thread that does what it is told.
type thread struct {
	name string
	work chan func()
}

func startThread(name string) *thread {
	th := &thread{name, make(chan func())}
	go func() {
		runtime.LockOSThread()
		for f := range th.work {
			f()
		}
	}()
	th.run(func() {})
	return th
}

func (th *thread) run(f func()) {
	done := make(chan struct{})
	th.work <- func() { defer close(done); f() }
	<-done
}

func try(thread string, what map[string]func() error) (all []attempt) {
	for name, f := range what {
		a := attempt{Thread: thread, What: name}
		if err := f(); err != nil {
			a.Error = err.Error()
			a.Errno, _ = errors.AsType[syscall.Errno](err)
		}
		all = append(all, a)
	}
	return all
}

// attempts are what is tried.
type attempts struct {
	dir, audit   string // as the supervisor reaches them
	path, audits string // the same, by their names
	outside      string
	vmm          *os.Process
}

// allowed is what a supervisor goes on to do.
func (a attempts) allowed() map[string]func() error {
	return map[string]func() error{
		"write the status":   func() error { return state.WriteJSON(filepath.Join(a.dir, state.StatusFile), state.Status{}) },
		"end its VMM":        func() error { return a.vmm.Signal(syscall.Signal(0)) },
		"list its directory": func() error { _, err := os.ReadDir(a.dir); return err },
		"rotate the audit log": func() error {
			path := filepath.Join(a.audit, "m.jsonl")
			f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
			if err != nil {
				return err
			}
			f.Close()
			return os.Rename(path+".new", path)
		},
		"read the resolver's file": func() error {
			_, err := os.ReadFile("/etc/resolv.conf")
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		},
		"list the addresses of this computer": func() error { _, err := net.InterfaceAddrs(); return err },
		"listen and connect": func() error {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			defer l.Close()
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				return err
			}
			return conn.Close()
		},
		"send a datagram": func() error {
			conn, err := net.Dial("udp", "127.0.0.1:9")
			if err != nil {
				return err
			}
			return conn.Close()
		},
	}
}

// calls are system calls that are refused with any arguments. Those here would mostly be
// wrong in another way, if they were not.
var calls = map[string]uintptr{
	"execve": unix.SYS_EXECVE, "execveat": unix.SYS_EXECVEAT, "fork": unix.SYS_FORK, "vfork": unix.SYS_VFORK,
	"ptrace": unix.SYS_PTRACE, "process_vm_readv": unix.SYS_PROCESS_VM_READV, "process_vm_writev": unix.SYS_PROCESS_VM_WRITEV,
	"kcmp": unix.SYS_KCMP, "pidfd_open": unix.SYS_PIDFD_OPEN, "pidfd_getfd": unix.SYS_PIDFD_GETFD,
	"process_madvise": unix.SYS_PROCESS_MADVISE, "tkill": unix.SYS_TKILL, "rt_sigqueueinfo": unix.SYS_RT_SIGQUEUEINFO,
	"mount": unix.SYS_MOUNT, "umount2": unix.SYS_UMOUNT2, "pivot_root": unix.SYS_PIVOT_ROOT, "chroot": unix.SYS_CHROOT,
	"open_tree": unix.SYS_OPEN_TREE, "move_mount": unix.SYS_MOVE_MOUNT, "fsopen": unix.SYS_FSOPEN, "mount_setattr": unix.SYS_MOUNT_SETATTR,
	"unshare": unix.SYS_UNSHARE, "setns": unix.SYS_SETNS, "clone3": unix.SYS_CLONE3, "clone of a process": unix.SYS_CLONE,
	"io_uring_setup": unix.SYS_IO_URING_SETUP, "io_uring_enter": unix.SYS_IO_URING_ENTER,
	"keyctl": unix.SYS_KEYCTL, "add_key": unix.SYS_ADD_KEY, "request_key": unix.SYS_REQUEST_KEY,
	"bpf": unix.SYS_BPF, "perf_event_open": unix.SYS_PERF_EVENT_OPEN, "userfaultfd": unix.SYS_USERFAULTFD,
	"kexec_load": unix.SYS_KEXEC_LOAD, "init_module": unix.SYS_INIT_MODULE, "finit_module": unix.SYS_FINIT_MODULE,
	"chmod": unix.SYS_CHMOD, "fchmod": unix.SYS_FCHMOD, "fchmodat": unix.SYS_FCHMODAT, "fchmodat2": unix.SYS_FCHMODAT2,
	"chown": unix.SYS_CHOWN, "fchown": unix.SYS_FCHOWN, "lchown": unix.SYS_LCHOWN, "fchownat": unix.SYS_FCHOWNAT,
	"utimensat": unix.SYS_UTIMENSAT, "utime": unix.SYS_UTIME, "setxattr": unix.SYS_SETXATTR, "fsetxattr": unix.SYS_FSETXATTR,
	"mknod": unix.SYS_MKNOD, "mknodat": unix.SYS_MKNODAT, "link": unix.SYS_LINK, "linkat": unix.SYS_LINKAT, "symlink": unix.SYS_SYMLINK,
	"setuid": unix.SYS_SETUID, "setresuid": unix.SYS_SETRESUID, "setgroups": unix.SYS_SETGROUPS, "capset": unix.SYS_CAPSET,
	"reboot": unix.SYS_REBOOT, "swapon": unix.SYS_SWAPON, "sethostname": unix.SYS_SETHOSTNAME, "settimeofday": unix.SYS_SETTIMEOFDAY,
	"personality": unix.SYS_PERSONALITY, "memfd_create": unix.SYS_MEMFD_CREATE, "open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT,
	"seccomp": unix.SYS_SECCOMP, "openat2": unix.SYS_OPENAT2, "socketpair": unix.SYS_SOCKETPAIR, "shmget": unix.SYS_SHMGET,
	"a call of the future": 600,
}

// refused is what it can do no more.
func (a attempts) refused() map[string]func() error {
	what := make(map[string]func() error)
	for name, call := range calls {
		what[name] = func() error {
			r, _, errno := unix.Syscall6(call, 0, 0, 0, 0, 0, 0)
			if errno == 0 {
				if r == 0 && strings.Contains(name, "fork") || strings.Contains(name, "of a process") {
					unix.Exit(1) // the child
				}
				return nil
			}
			return errno
		}
	}
	socket := func(family, kind, protocol int) func() error {
		return func() error {
			fd, err := unix.Socket(family, kind, protocol)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}
	}
	what["a UNIX socket"] = socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	what["a datagram of UNIX"] = socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	what["vsock"] = socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	what["packets"] = socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	what["the kernel's crypto"] = socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0)
	what["netlink of netfilter"] = socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER)
	what["raw IP"] = socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)

	what["memory that is code"] = func() error {
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
		return err
	}
	what["memory that becomes code"] = func() error {
		b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return nil
		}
		defer unix.Munmap(b)
		return unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC)
	}
	what["kill another process"] = func() error { return unix.Kill(os.Getppid(), 0) }
	what["kill its group"] = func() error { return unix.Kill(0, 0) }
	what["signal a thread of another process"] = func() error { return unix.Tgkill(os.Getppid(), os.Getppid(), 0) }
	what["a signal by a descriptor"] = func() error {
		_, err := unix.FcntlInt(uintptr(os.Stdin.Fd()), unix.F_SETOWN, os.Getppid())
		return err
	}
	what["the limits of another process"] = func() error { return unix.Prlimit(os.Getppid(), unix.RLIMIT_CORE, nil, &unix.Rlimit{}) }
	what["be dumpable again"] = func() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) }
	what["an ioctl"] = func() error { _, err := unix.IoctlGetInt(0, unix.TIOCGPGRP); return err }
	what["a filter of a socket"] = func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			return nil
		}
		defer unix.Close(fd)
		program := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
		prog := unix.SockFprog{Len: 1, Filter: &program[0]}
		_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			uintptr(unsafe.Pointer(&prog)), unsafe.Sizeof(prog), 0)
		if errno != 0 {
			return errno
		}
		return nil
	}
	if proc.LandlockVersion() < 3 {
		return what
	}
	neighbour := filepath.Join(filepath.Dir(a.path), "neighbour")
	for name, f := range map[string]func() error{
		"read a file outside":      func() error { _, err := os.ReadFile(filepath.Join(a.outside, "secret")); return err },
		"write a file outside":     func() error { return os.WriteFile(filepath.Join(a.outside, "secret"), nil, 0o600) },
		"truncate a file outside":  func() error { return os.Truncate(filepath.Join(a.outside, "secret"), 0) },
		"make a file outside":      func() error { return os.WriteFile(filepath.Join(a.outside, "new"), nil, 0o600) },
		"remove a file outside":    func() error { return os.Remove(filepath.Join(a.outside, "secret")) },
		"list a directory outside": func() error { _, err := os.ReadDir(a.outside); return err },
		"list the root":            func() error { _, err := os.ReadDir("/"); return err },
		"list the machines":        func() error { _, err := os.ReadDir(filepath.Dir(a.path)); return err },
		"rename its own directory": func() error { return os.Rename(a.path, neighbour) },
		"make a machine":           func() error { return os.Mkdir(neighbour, 0o700) },
		"write another machine's audit log": func() error {
			return os.WriteFile(filepath.Join(filepath.Dir(a.audits), "other", "other.jsonl"), nil, 0o600)
		},
		"make another machine's audit log": func() error {
			return os.WriteFile(filepath.Join(filepath.Dir(a.audits), "new.jsonl"), nil, 0o600)
		},
		"move the audit log":        func() error { return os.Rename(a.audits, a.audits+"2") },
		"read audit logs":           func() error { _, err := os.ReadFile(filepath.Join(a.audit, "m.jsonl")); return err },
		"read another's memory":     func() error { _, err := os.ReadFile(fmt.Sprintf("/proc/%d/mem", os.Getppid())); return err },
		"read another's variables":  func() error { _, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", os.Getppid())); return err },
		"read its own command line": func() error { _, err := os.ReadFile("/proc/self/cmdline"); return err },
		"write to a device":         func() error { return os.WriteFile("/dev/null", nil, 0) },
		"move a file out":           func() error { return os.Rename(filepath.Join(a.dir, state.ImageFile), filepath.Join(a.outside, "x")) },
		"make a socket with a name": func() error { return unix.Mknod(filepath.Join(a.dir, "socket"), unix.S_IFSOCK|0o600, 0) },
	} {
		what[name] = f
	}
	what["read the passwords"] = func() error { _, err := os.ReadFile("/etc/shadow"); return err }
	if os.Getuid() != os.Geteuid() {
		a.refusedToUser(what)
	}
	return what
}

// refusedToUser adds what a supervisor that is not root cannot do to what root believes.
func (a attempts) refusedToUser(what map[string]func() error) {
	for _, name := range []string{state.PlanFile, state.TokenFile, "lock", "apply.lock", state.SocketFile} {
		path := filepath.Join(a.dir, name)
		what["remove "+name] = func() error { return os.Remove(path) }
		what["move "+name] = func() error { return os.Rename(path, path+".moved") }
		what["replace "+name] = func() error {
			own := path + fmt.Sprint(unix.Gettid())
			if err := os.WriteFile(own, nil, 0o600); err != nil {
				return nil // that it can make files is not what is asked
			}
			defer os.Remove(own)
			return os.Rename(own, path)
		}
		if name != state.SocketFile {
			what["read "+name] = func() error { _, err := os.ReadFile(path); return err }
			what["write "+name] = func() error { f, err := os.OpenFile(path, os.O_WRONLY, 0); f.Close(); return err }
		}
	}
}
