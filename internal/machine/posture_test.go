package machine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/confine"
)

// What a VMM can do that a guest has taken over: this test binary, executed in the place
// of QEMU by the same way, tries all that it must not and reports what became of it.

// hostileWord makes this binary such a VMM. It gets a target as JSON.
const hostileWord = "hostile-vmm"

// target is what a hostile VMM goes for. The files are of the user who started it.
type target struct {
	Control string // a UNIX socket, such as control.sock or docker.sock
	File    string // can be read and written by the user
	Dir     string // of that file
	Lent    string // what the VMM may open for reading
	Own     string // what the VMM may open for writing
	Parent  int    // a process of the user's
	TCP     string // a port of the host's own
}

// hostile tries everything and says what came of it on descriptor 4. Descriptor 3 is a
// file that is open for reading only, 5 one that is open for writing.
func hostile(arg string) {
	var t target
	out := os.NewFile(4, "out")
	if err := json.Unmarshal([]byte(arg), &t); err != nil {
		fmt.Fprintln(out, err)
		return
	}
	say := func(what string, err error) { fmt.Fprintf(out, "%s: %v\n", what, err) }
	raw := func(what string, number uintptr, args ...uintptr) {
		var a [6]uintptr
		copy(a[:], args)
		_, _, errno := unix.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
		if errno == 0 {
			say(what, nil)
		} else {
			say(what, errno)
		}
	}
	var kept []*byte
	bytePointer := func(text string) uintptr {
		p := unsafe.StringData(text + "\x00")
		kept = append(kept, p)
		return uintptr(unsafe.Pointer(p))
	}
	open := func(what, path string, flags int) {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o600)
		if err == nil {
			unix.Close(fd)
		}
		say(what, err)
	}

	// what it is for
	open("open what is lent", t.Lent, unix.O_RDONLY)
	open("open its own", t.Own, unix.O_RDWR)
	open("open random", "/dev/urandom", unix.O_RDONLY)
	_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
	say("make code", err)

	// other processes and what they listen on
	for _, kind := range []struct {
		name         string
		family, kind int
	}{
		{"unix", unix.AF_UNIX, unix.SOCK_STREAM}, {"datagram", unix.AF_UNIX, unix.SOCK_DGRAM}, {"inet", unix.AF_INET, unix.SOCK_STREAM},
		{"inet6", unix.AF_INET6, unix.SOCK_STREAM}, {"raw", unix.AF_INET, unix.SOCK_RAW}, {"netlink", unix.AF_NETLINK, unix.SOCK_RAW},
		{"vsock", unix.AF_VSOCK, unix.SOCK_STREAM}, {"packet", unix.AF_PACKET, unix.SOCK_RAW}, {"alg", unix.AF_ALG, unix.SOCK_SEQPACKET},
	} {
		_, err := unix.Socket(kind.family, kind.kind, 0)
		say("socket "+kind.name, err)
	}
	_, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	say("socketpair datagram", err)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	say("socketpair", err)
	say("connect", unix.Connect(fds[0], &unix.SockaddrUnix{Name: t.Control}))
	say("bind", unix.Bind(fds[0], &unix.SockaddrUnix{Name: "\x00mayfly-test"}))
	_, err = net.Dial("unix", t.Control)
	say("dial unix", errors.Unwrap(errors.Unwrap(err)))
	_, err = net.Dial("tcp", t.TCP)
	say("dial tcp", errors.Unwrap(errors.Unwrap(err)))
	raw("kill", unix.SYS_KILL, uintptr(t.Parent), 0)
	raw("kill everybody", unix.SYS_KILL, ^uintptr(0), 0)
	raw("tkill", unix.SYS_TKILL, uintptr(t.Parent), 0)
	raw("tgkill", unix.SYS_TGKILL, uintptr(t.Parent), uintptr(t.Parent), 0)
	raw("queue a signal", unix.SYS_RT_SIGQUEUEINFO, uintptr(t.Parent), 0, 0)
	raw("trace", unix.SYS_PTRACE, unix.PTRACE_ATTACH, uintptr(t.Parent))
	raw("read memory", unix.SYS_PROCESS_VM_READV, uintptr(t.Parent), 0, 0, 0, 0, 0)
	raw("write memory", unix.SYS_PROCESS_VM_WRITEV, uintptr(t.Parent), 0, 0, 0, 0, 0)
	raw("pidfd", unix.SYS_PIDFD_OPEN, uintptr(t.Parent), 0)
	raw("pidfd_getfd", unix.SYS_PIDFD_GETFD, 0, 0, 0)
	raw("pidfd signal", unix.SYS_PIDFD_SEND_SIGNAL, 0, 0, 0, 0)
	raw("limits of another", unix.SYS_PRLIMIT64, uintptr(t.Parent), unix.RLIMIT_NOFILE, 1)
	raw("priority of another", unix.SYS_SETPRIORITY, 0, uintptr(t.Parent), 1)
	raw("affinity of another", unix.SYS_SCHED_SETAFFINITY, uintptr(t.Parent), 0, 0)
	raw("kcmp", unix.SYS_KCMP, 1, 1, 0, 0, 0)
	raw("shared memory", unix.SYS_SHMGET, 1, 4096, unix.IPC_CREAT|0o600)
	raw("message queue", unix.SYS_MSGGET, 1, unix.IPC_CREAT|0o600)
	raw("posix queue", unix.SYS_MQ_OPEN, 0, 0, 0, 0)

	// files of the user's
	for _, flags := range []struct {
		name  string
		flags int
	}{{"read", unix.O_RDONLY}, {"write", unix.O_RDWR}, {"path", unix.O_PATH}} {
		open("open a file to "+flags.name, t.File, flags.flags)
	}
	for _, path := range []string{"/etc/passwd", "/root", "/home", "/tmp", "/var", "/run", "/proc/1/status", "/proc/self/mem", "/sys/kernel"} {
		open("open "+path, path, unix.O_RDONLY)
	}
	// Of a file that it has it may have the attributes of a path, too.
	open("open what is lent to write", t.Lent, unix.O_RDWR)
	open("open the descriptor anew to write", "/proc/self/fd/3", unix.O_RDWR)
	open("make a file", t.Dir+"/made", unix.O_CREAT|unix.O_WRONLY)
	open("make a file in the root", "/made", unix.O_CREAT|unix.O_WRONLY)
	raw("make a directory", unix.SYS_MKDIR, bytePointer("/made-dir"), 0o755)
	raw("remove", unix.SYS_UNLINK, bytePointer(t.Own))
	raw("rename", unix.SYS_RENAME, bytePointer(t.Own), bytePointer(t.Own+"2"))
	raw("link", unix.SYS_LINK, bytePointer(t.Own), bytePointer(t.Own+"2"))
	raw("symlink", unix.SYS_SYMLINK, bytePointer(t.Own), bytePointer(t.Own+"2"))
	raw("mknod", unix.SYS_MKNOD, bytePointer("/made-node"), unix.S_IFIFO|0o600, 0)
	raw("truncate", unix.SYS_TRUNCATE, bytePointer(t.Lent), 0)
	for _, of := range []struct {
		name, path string
		fd         uintptr
	}{{"a file", t.File, 3}, {"what is lent", t.Lent, 3}, {"its own", t.Own, 5}} {
		path := bytePointer(of.path)
		raw("chmod setuid "+of.name, unix.SYS_CHMOD, path, 0o4777)
		raw("fchmod setuid "+of.name, unix.SYS_FCHMOD, of.fd, 0o4777)
		raw("fchmodat setuid "+of.name, unix.SYS_FCHMODAT, atCWD, path, 0o4777)
		raw("fchmodat2 setuid "+of.name, unix.SYS_FCHMODAT2, atCWD, path, 0o4777, 0)
		raw("chown "+of.name, unix.SYS_CHOWN, path, 0, 0)
		raw("fchown "+of.name, unix.SYS_FCHOWN, of.fd, 0, 0)
		raw("utime "+of.name, unix.SYS_UTIME, path, 0)
		raw("utimes "+of.name, unix.SYS_UTIMES, path, 0)
		raw("utimensat "+of.name, unix.SYS_UTIMENSAT, atCWD, path, 0, 0)
		raw("futimens "+of.name, unix.SYS_UTIMENSAT, of.fd, 0, 0, 0)
		raw("setxattr "+of.name, unix.SYS_SETXATTR, path, bytePointer("user.x"), bytePointer("x"), 1, 0)
		raw("fsetxattr "+of.name, unix.SYS_FSETXATTR, of.fd, bytePointer("user.x"), bytePointer("x"), 1, 0)
		raw("removexattr "+of.name, unix.SYS_REMOVEXATTR, path, bytePointer("user.x"))
	}
	raw("flags of a file", unix.SYS_IOCTL, 3, unix.FS_IOC_SETFLAGS, bytePointer(string(make([]byte, 8))))
	raw("verity", unix.SYS_IOCTL, 3, unix.FS_IOC_ENABLE_VERITY, 0)
	raw("freeze", unix.SYS_IOCTL, 3, 0xC0045877, 0)

	// the kernel
	env := []string{"PATH=/usr/bin:/bin"}
	say("execute itself", syscall.Exec(os.Args[0], []string{os.Args[0]}, env))
	say("execute a shell", syscall.Exec("/bin/sh", []string{"sh", "-c", "exit 0"}, env))
	empty := bytePointer("")
	raw("execveat", unix.SYS_EXECVEAT, 3, empty, 0, 0, unix.AT_EMPTY_PATH)
	raw("fork", unix.SYS_FORK)
	raw("vfork", unix.SYS_FORK+1)
	raw("clone", unix.SYS_CLONE, uintptr(unix.SIGCHLD))
	raw("clone a namespace", unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD))
	raw("clone3", unix.SYS_CLONE3, 0, 0)
	raw("unshare", unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
	raw("setns", unix.SYS_SETNS, 3, 0)
	raw("mount", unix.SYS_MOUNT, bytePointer("tmpfs"), bytePointer("/usr"), bytePointer("tmpfs"), 0, 0)
	raw("umount", unix.SYS_UMOUNT2, bytePointer("/usr"), unix.MNT_DETACH)
	raw("open_tree", unix.SYS_OPEN_TREE, atCWD, bytePointer("/"), 0)
	raw("move_mount", unix.SYS_MOVE_MOUNT, 3, 0, 3, 0, 0)
	raw("fsopen", unix.SYS_FSOPEN, bytePointer("tmpfs"), 0)
	raw("mount_setattr", unix.SYS_MOUNT_SETATTR, 3, 0, 0, 0, 0)
	raw("pivot_root", unix.SYS_PIVOT_ROOT, bytePointer("/"), bytePointer("/"))
	raw("chroot", unix.SYS_CHROOT, bytePointer("/"))
	raw("name_to_handle", unix.SYS_NAME_TO_HANDLE_AT, 0, 0, 0, 0, 0)
	raw("open_by_handle", unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0)
	raw("openat2", unix.SYS_OPENAT2, atCWD, bytePointer("/"), 0, 0)
	raw("io_uring", unix.SYS_IO_URING_SETUP, 1, 0)
	raw("io_uring_enter", unix.SYS_IO_URING_ENTER, 0, 0, 0, 0, 0)
	raw("aio", unix.SYS_IO_SETUP, 1, 0)
	raw("bpf", unix.SYS_BPF, 0, 0, 0)
	raw("perf", unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, 0, 0)
	raw("userfaultfd", unix.SYS_USERFAULTFD, 0)
	raw("keyctl", unix.SYS_KEYCTL, 0, 0, 0)
	raw("add_key", unix.SYS_ADD_KEY, 0, 0, 0, 0, 0)
	raw("request_key", unix.SYS_REQUEST_KEY, 0, 0, 0, 0)
	raw("fanotify", unix.SYS_FANOTIFY_INIT, 0, 0)
	raw("inotify", unix.SYS_INOTIFY_INIT1, 0)
	raw("personality", unix.SYS_PERSONALITY, 0)
	raw("modify_ldt", unix.SYS_MODIFY_LDT, 0, 0, 0)
	raw("iopl", unix.SYS_IOPL, 3)
	raw("kexec", unix.SYS_KEXEC_LOAD, 0, 0, 0, 0)
	raw("module", unix.SYS_FINIT_MODULE, 0, 0, 0)
	raw("reboot", unix.SYS_REBOOT, 0, 0, 0, 0)
	raw("host name", unix.SYS_SETHOSTNAME, bytePointer("x"), 1)
	raw("clock", unix.SYS_CLOCK_SETTIME, 0, 0)
	raw("swap", unix.SYS_SWAPON, 0, 0)
	raw("setuid", unix.SYS_SETUID, 0)
	raw("setresuid", unix.SYS_SETRESUID, 0, 0, 0)
	raw("setgroups", unix.SYS_SETGROUPS, 0, 0)
	raw("capset", unix.SYS_CAPSET, 0, 0)
	raw("session", unix.SYS_SETSID)
	raw("process group", unix.SYS_SETPGID, 0, 0)
	raw("dumpable", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1)
	raw("child reaper", unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 1)
	raw("outlive", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, 0)
	raw("listen to a filter", unix.SYS_SECCOMP, 1, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, 0)
	raw("raise a limit", unix.SYS_SETRLIMIT, unix.RLIMIT_NOFILE, bytePointer(string(make([]byte, 16))))
	raw("landlock", unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, 1)
	raw("a call of the future", 1000)
	fmt.Fprintln(out, "done")
	runtime.KeepAlive(kept)
}

const atCWD = ^uintptr(99) // AT_FDCWD

// hostileVMM starts a hostile VMM and returns what it said, line by line.
func hostileVMM(t *testing.T, isolate bool) map[string]string {
	t.Helper()
	// Not t.TempDir, in which another user finds nothing: the VMM is to have any right
	// to the files that it can have.
	dir, err := os.MkdirTemp("/var/tmp", "mayfly-machine-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	h := target{
		Control: filepath.Join(dir, "docker.sock"), File: filepath.Join(dir, "file"), Dir: dir,
		Lent: filepath.Join(dir, "lent"), Own: filepath.Join(dir, "own"), Parent: os.Getpid(),
	}
	for _, path := range []string{h.File, h.Lent, h.Own} {
		if err := os.WriteFile(path, []byte("of the host\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", h.Control)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := os.Chmod(h.Control, 0o777); err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close() })
	h.TCP = tcp.Addr().String()
	arg, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	before := make(map[string]unix.Stat_t)
	for _, path := range []string{h.File, h.Lent, h.Own} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		before[path] = st
	}
	p, output := start(t, Command{
		Path: probe(t), Args: []string{hostileWord, string(arg)}, Isolate: isolate,
		Files:    []File{{Path: h.Lent}, {Socket: Control}, {Path: h.Own, Writable: true}},
		Readable: []string{"/dev/urandom", h.Lent}, Writable: []string{h.Own},
	})
	conn := p.Sockets[Control]
	conn.SetDeadline(time.Now().Add(time.Minute))
	said, err := io.ReadAll(conn)
	if err != nil || !bytes.HasSuffix(said, []byte("done\n")) {
		t.Fatalf("the VMM said %v\n%s\n%s", err, said, output())
	}
	answers := make(map[string]string)
	for line := range strings.Lines(string(said)) {
		what, answer, _ := strings.Cut(strings.TrimSpace(line), ": ")
		answers[what] = answer
	}
	for path, st := range before {
		var now unix.Stat_t
		if err := unix.Stat(path, &now); err != nil {
			t.Errorf("%s is gone: %v", path, err)
			continue
		}
		if now.Mode != st.Mode && path != h.Lent || now.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 || now.Mtim != st.Mtim || now.Size != st.Size {
			t.Errorf("%s became %+v; want %+v", path, now, st)
		}
	}
	return answers
}

// probe returns the path of this binary, in a place where everybody may execute it.
func probe(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/var/tmp", "mayfly-machine-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "probe")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, data, 0o755), os.Chmod(path, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

// A VMM that a guest has taken over has what it was given, and nothing else.
func TestPosture(t *testing.T) {
	needLandlock(t)
	// As services have it: what a VMM needs is open to its own user all the same.
	defer syscall.Umask(syscall.Umask(0o077))
	granted := []string{"open what is lent", "open its own", "open random", "make code", "socketpair", "done"}
	refused := []string{"operation not permitted", "function not implemented", "permission denied"}
	// In a root of its own there is no such file; and none that could be written.
	absent := append(slices.Clone(refused), "no such file or directory", "read-only file system")
	for _, isolate := range []bool{true, false} {
		t.Run(fmt.Sprintf("isolate=%v", isolate), func(t *testing.T) {
			if isolate {
				needNamespaces(t)
			}
			for what, answer := range hostileVMM(t, isolate) {
				switch {
				case slices.Contains(granted, what):
					if answer != "<nil>" && answer != "" {
						t.Errorf("%s: %s; want it to be possible", what, answer)
					}
				case what == "open a file to path" && !isolate:
					// By such a descriptor nothing can be done.
				case strings.HasPrefix(what, "open "), strings.HasPrefix(what, "make a file"):
					if !slices.Contains(absent, answer) {
						t.Errorf("%s: %s; want it to be refused", what, answer)
					}
				case !slices.Contains(refused, answer):
					t.Errorf("%s: %s; want it to be refused by a wall, not by what it asks for", what, answer)
				}
			}
		})
	}
}

// needNamespaces skips t where none can be made.
func needNamespaces(t *testing.T) {
	t.Helper()
	p, err := Start(t.Context(), Command{Path: "/bin/sh", Args: []string{"-c", "exit 0"}, Isolate: true}, io.Discard, nil)
	refused := func(errno unix.Errno) bool { return errors.Is(err, errno) } // and not what became of them
	switch {
	case slices.ContainsFunc([]unix.Errno{unix.EPERM, unix.EINVAL, unix.ENOSPC, unix.ENOSYS}, refused):
		t.Skipf("may not make namespaces: %v", err)
	case err != nil:
		t.Fatal(err)
	}
	p.Kill()
}

// The same holds when a normal user starts the VMM.
func TestPostureOfNormalUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the other tests are a normal user's already")
	}
	cmd := exec.Command(probe(t), "-test.run=^(TestPosture|TestConfine.*|TestDiesWithParent)$", "-test.v")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestPosture/isolate=false") {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// What the kernel says of a real QEMU.
func TestQEMUPosture(t *testing.T) {
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skip(err)
	}
	needNamespaces(t)
	p, output := start(t, Command{
		Path: path, Isolate: true, Files: []File{{Socket: Monitor}}, Readable: []string{"/dev/urandom", path},
		Args: []string{
			"-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35,usb=off", "-accel", "tcg,thread=multi", "-m", "64M", "-S",
			"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
			"-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng0",
			"-chardev", "socket,id=monitor,fd=3", "-mon", "chardev=monitor,mode=control",
		},
	})
	conn := p.Sockets[Monitor]
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatalf("QEMU does not start: %v: %s", err, output())
	}
	status := procStatus(t, p.PID)
	user := os.Geteuid()
	if user == 0 && OwnUser() != 0 {
		user = OwnUser()
		if first := confine.FirstUser; user <= first || user >= first+confine.Users {
			t.Errorf("the user of the VMM is %d; want one of the range from %d", user, first)
		}
	}
	for field, want := range map[string]string{
		"NoNewPrivs": "1", "Seccomp": "2", "NSpid": fmt.Sprintf("%d\t1", p.PID),
		"Uid":    strings.TrimSuffix(strings.Repeat(fmt.Sprintf("%d\t", user), 4), "\t"),
		"CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapInh": "0000000000000000", "CapAmb": "0000000000000000", "CapBnd": "0000000000000000",
	} {
		if status[field] != want {
			t.Errorf("%s of QEMU is %q; want %q", field, status[field], want)
		}
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", p.PID))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		point, options := fields[4], strings.Split(fields[5], ",")
		if point != "/" && point != "/dev/urandom" && !slices.ContainsFunc(systemFiles, func(f string) bool { return point == f || strings.HasPrefix(point, f+"/") }) && point != path {
			t.Errorf("QEMU has the mount %s", point)
		}
		if !slices.Contains(options, "nosuid") || point != "/dev/urandom" && (!slices.Contains(options, "ro") || !slices.Contains(options, "nodev")) {
			t.Errorf("the mount %s of QEMU has the options %s", point, fields[5])
		}
	}
	for _, ns := range []string{"mnt", "pid", "net", "ipc", "uts"} {
		ours, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		if theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", p.PID, ns)); err == nil && theirs == ours {
			t.Errorf("QEMU has our namespace %s", theirs)
		}
	}
}
