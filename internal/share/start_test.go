package share

import (
	"bytes"
	"context"
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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/plan"
)

// This binary, executed again, is mayfly (Command), a server that tries to do what
// it must not (with the arguments of virtiofsd), or the parent of one.
const parentVariable = "MAYFLY_SHARE_TEST_PARENT"

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 3 && os.Args[1] == Command:
		Main(os.Args[2])
		os.Exit(1)
	case len(os.Args) > 2 && strings.HasPrefix(os.Args[1], "--fd="):
		if _, err := os.Lstat("/tree/guarded"); err == nil {
			hostileToGuards()
		} else {
			hostile()
		}
		serve()
		os.Exit(0)
	case os.Getenv(parentVariable) != "":
		parent(os.Getenv(parentVariable))
	}
	os.Exit(m.Run())
}

// hostile is a server that a guest has taken over. It prints what it can do, one
// line each, and ends when its VMM does.
func hostile() {
	say := func(what string, err error) { fmt.Printf("%s: %v\n", what, err) }
	try := func(what string, errno unix.Errno) {
		if errno == 0 {
			say(what, nil)
			return
		}
		say(what, errno)
	}
	root, err := os.ReadDir("/")
	for _, e := range root {
		fmt.Printf("root has %s\n", e.Name())
	}
	say("read the root", err)
	for _, name := range []string{"/etc/passwd", "/root", "/home", "/tmp", "/var", "/sys/kernel", "/dev/null", "/proc/1/root/etc/passwd", "/tree/../etc/passwd", "/tree/out"} {
		_, err := os.ReadFile(name)
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		say("read "+name, err)
	}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "Cap") || strings.HasPrefix(line, "NoNewPrivs") || strings.HasPrefix(line, "Seccomp:") ||
			strings.HasPrefix(line, "Uid") || strings.HasPrefix(line, "Gid") || strings.HasPrefix(line, "Groups") {
			fmt.Println(strings.Join(strings.Fields(line), " "))
		}
	}
	devices, err := os.ReadFile("/proc/self/net/dev")
	fmt.Printf("network devices: %d, %v\n", strings.Count(string(devices), ":"), err)
	_, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	say("make a socket", err)
	fds, _ := os.ReadDir("/proc/self/fd")
	fmt.Printf("descriptors beyond 3 of another: %v\n", func() (extra []string) {
		for _, e := range fds {
			if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && e.Name() > "3" && !strings.HasPrefix(target, "anon_inode:") && !strings.HasPrefix(target, "/proc/") {
				extra = append(extra, target)
			}
		}
		return extra
	}())

	const setuid = unix.S_ISUID | 0o755
	say("write a file", os.WriteFile("/tree/made", []byte("x"), 0o644))
	say("make a directory", os.Mkdir("/tree/dir", 0o755))
	say("move between directories", os.Rename("/tree/made", "/tree/dir/made"))
	say("chmod", unix.Chmod("/tree/file", 0o711))
	say("chmod setuid", unix.Chmod("/tree/file", setuid))
	say("chmod setgid", unix.Fchmodat(unix.AT_FDCWD, "/tree/file", unix.S_ISGID|0o711, 0))
	_, err = unix.Open("/tree/setuid", unix.O_CREAT|unix.O_WRONLY, setuid)
	say("create setuid", err)
	_, err = unix.Open("/tree", unix.O_TMPFILE|unix.O_WRONLY, setuid)
	say("create a nameless setuid", err)
	_, err = unix.Open("/tree/file", unix.O_RDONLY, setuid) // a mode that is none
	say("open", err)
	_, err = unix.Openat2(unix.AT_FDCWD, "/tree/setuid2", &unix.OpenHow{Flags: unix.O_CREAT | unix.O_WRONLY, Mode: setuid})
	say("create setuid with openat2", err)
	say("make a device", unix.Mknod("/tree/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	say("make a disk", unix.Mknodat(unix.AT_FDCWD, "/tree/disk", unix.S_IFBLK|0o666, int(unix.Mkdev(8, 0))))
	say("make a whiteout", unix.Mknod("/tree/whiteout", unix.S_IFCHR, 0))
	say("make a setuid fifo", unix.Mknod("/tree/fifo", unix.S_IFIFO|setuid, 0))
	say("rename to a whiteout", unix.Renameat2(unix.AT_FDCWD, "/tree/dir/made", unix.AT_FDCWD, "/tree/made", unix.RENAME_WHITEOUT))
	say("chown to root", unix.Lchown("/tree/file", 0, 0))
	say("chown to the same", unix.Fchownat(unix.AT_FDCWD, "/tree/file", os.Geteuid(), -1, unix.AT_SYMLINK_NOFOLLOW))
	say("chown to nobody's group", unix.Fchownat(unix.AT_FDCWD, "/tree/file", -1, 5, unix.AT_SYMLINK_NOFOLLOW))
	say("set an attribute", unix.Setxattr("/tree/file", "user.x", []byte("x"), 0))
	_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 0, ^uintptr(0))
	try("pretend to be root", errno)
	_, _, errno = unix.RawSyscall(unix.SYS_IO_URING_SETUP, 1, 0, 0)
	try("io_uring", errno)
	say("mount", unix.Mount("tmpfs", "/tree/dir", "tmpfs", 0, ""))
	_, _, errno = unix.RawSyscall(unix.SYS_UNSHARE, unix.CLONE_NEWUSER|unix.CLONE_NEWNS, 0, 0)
	try("unshare (threads)", errno)
	say("signal everybody", unix.Kill(-1, 0))
	env := []string{"PATH=/usr/bin:/bin"}
	say("execute itself", syscall.Exec("/proc/self/exe", []string{"x", "--version"}, env))
	say("execute a shell", syscall.Exec("/bin/sh", []string{"sh", "-c", "echo a shell runs"}, env))
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno == 0 && pid == 0 {
		unix.Exit(1) // the child
	}
	try("clone a namespace", errno)
	for name, call := range refusedCalls {
		_, _, errno := unix.RawSyscall6(call, 0, 0, 0, 0, 0, 0)
		try("call "+name, errno)
	}
	say("dump", func() error {
		var l unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_CORE, &l); err != nil || l.Max != 0 {
			return fmt.Errorf("core files of %d bytes, %w", l.Max, err)
		}
		return nil
	}())
	fmt.Fprintf(os.Stdout, "uid %d\n", os.Geteuid())
}

// serve says that all was tried, and waits for the end of the VMM.
func serve() {
	l, err := net.FileListener(os.NewFile(fdListener, "listener"))
	if err != nil {
		fmt.Println(err)
		return
	}
	conn, err := l.Accept()
	if err != nil {
		fmt.Println(err)
		return
	}
	conn.Write([]byte("done"))
	io.Copy(io.Discard, conn)
}

// refusedCalls are refused with any arguments. Those here would mostly be wrong in another
// way, if they were not.
var refusedCalls = map[string]uintptr{
	"ptrace": unix.SYS_PTRACE, "process_vm_readv": unix.SYS_PROCESS_VM_READV, "process_vm_writev": unix.SYS_PROCESS_VM_WRITEV,
	"kcmp": unix.SYS_KCMP, "pidfd_getfd": unix.SYS_PIDFD_GETFD, "execveat": unix.SYS_EXECVEAT, "clone3": unix.SYS_CLONE3,
	"setns": unix.SYS_SETNS, "umount2": unix.SYS_UMOUNT2, "pivot_root": unix.SYS_PIVOT_ROOT, "open_tree": unix.SYS_OPEN_TREE,
	"move_mount": unix.SYS_MOVE_MOUNT, "fsopen": unix.SYS_FSOPEN, "mount_setattr": unix.SYS_MOUNT_SETATTR,
	"open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT, "add_key": unix.SYS_ADD_KEY, "keyctl": unix.SYS_KEYCTL, "request_key": unix.SYS_REQUEST_KEY,
	"bpf": unix.SYS_BPF, "perf_event_open": unix.SYS_PERF_EVENT_OPEN, "userfaultfd": unix.SYS_USERFAULTFD, "fanotify_init": unix.SYS_FANOTIFY_INIT,
	"kexec_load": unix.SYS_KEXEC_LOAD, "finit_module": unix.SYS_FINIT_MODULE, "reboot": unix.SYS_REBOOT, "swapon": unix.SYS_SWAPON,
	"settimeofday": unix.SYS_SETTIMEOFDAY, "sethostname": unix.SYS_SETHOSTNAME, "io_uring_enter": unix.SYS_IO_URING_ENTER,
	"connect": unix.SYS_CONNECT,
}

// tree makes a directory to share, of a user, and returns it and the user's id.
func tree(t *testing.T) (dir string, uid int) {
	t.Helper()
	base, err := os.MkdirTemp("/var/tmp", "mayfly-share-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	uid = os.Geteuid()
	if uid == 0 {
		uid = 12345 // nobody's
	}
	inner := filepath.Join(base, "closed", "tree")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(inner, "file"), []byte("of the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(base, "canary"), []byte("canary\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../canary", filepath.Join(inner, "out")); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		for _, name := range []string{inner, filepath.Join(inner, "file")} {
			if err := os.Chown(name, uid, uid); err != nil {
				t.Fatal(err)
			}
		}
		// As root's home is.
		if err := os.Chmod(filepath.Join(base, "closed"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return inner, uid
}

// program copies this binary to where everybody can execute it.
func program(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/var/tmp", "mayfly-share-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "program")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, data, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

func needAMD64(t *testing.T) {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("the filter is for amd64")
	}
}

// run starts a hostile server on a share and returns what it printed.
func run(t *testing.T, readOnly bool) (output, dir string) {
	t.Helper()
	needAMD64(t)
	dir, uid := tree(t)
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p, err := Start(t.Context(), "/proc/self/exe", Spec{
		Server: plan.ShareServer{Path: program(t), Kind: plan.VirtiofsdRust, Version: "1.13.0"},
		Share:  plan.Share{Source: dir, Path: dir, Tag: "share0", ReadOnly: readOnly}, UID: uid, GID: uid,
	}, t.TempDir(), log)
	if err != nil {
		if errors.Is(err, unix.EPERM) {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	defer p.Kill()
	// The VMM's end: the server has accepted it when it is done.
	conn, err := net.FileConn(p.VMM)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		t.Errorf("the server said nothing: %v", err)
	}
	conn.Close()
	p.CloseVMM()
	select {
	case <-p.Done():
		if err := p.Err(); err != nil {
			t.Errorf("Err() = %v; want nil at the end of the VMM", err)
		}
	case <-time.After(time.Minute):
		t.Error("the server outlives its VMM")
	}
	data, err := os.ReadFile(log.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(data), dir
}

// A server that a guest has taken over has the directory, and nothing else.
func TestConfined(t *testing.T) {
	output, dir := run(t, false)
	lines := strings.Split(strings.TrimSpace(output), "\n")
	for _, want := range []string{
		"read /etc/passwd: no such file or directory", "read /root: no such file or directory", "read /home: no such file or directory",
		"read /sys/kernel: no such file or directory", "read /dev/null: no such file or directory", "read /tree/../etc/passwd: no such file or directory",
		"read /tree/out: no such file or directory", "read /proc/1/root/etc/passwd: no such file or directory",
		"CapPrm: 0000000000000000", "CapEff: 0000000000000000", "CapBnd: 0000000000000000", "CapAmb: 0000000000000000", "CapInh: 0000000000000000",
		"NoNewPrivs: 1", "Seccomp: 2", "descriptors beyond 3 of another: []",
		"write a file: <nil>", "make a directory: <nil>", "move between directories: <nil>", "chmod: <nil>", "open: <nil>",
		"chmod setuid: operation not permitted", "chmod setgid: operation not permitted", "create setuid: operation not permitted",
		"create a nameless setuid: operation not permitted", "create setuid with openat2: function not implemented",
		"make a device: operation not permitted", "make a disk: operation not permitted", "make a whiteout: operation not permitted",
		"make a setuid fifo: operation not permitted", "rename to a whiteout: invalid argument",
		"chown to root: operation not permitted", "chown to the same: <nil>", "chown to nobody's group: operation not permitted",
		"set an attribute: operation not supported", "pretend to be root: <nil>", "io_uring: function not implemented",
		"make a socket: operation not permitted", "network devices: 1, <nil>",
		"mount: operation not permitted", "unshare (threads): operation not permitted", "dump: <nil>",
		"execute itself: function not implemented", "execute a shell: function not implemented", "clone a namespace: operation not permitted",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("the server did not say %q", want)
		}
	}
	for name := range refusedCalls {
		if !slices.Contains(lines, "call "+name+": operation not permitted") && !slices.Contains(lines, "call "+name+": function not implemented") {
			t.Errorf("%s is not refused", name)
		}
	}
	uid := os.Geteuid()
	if uid == 0 {
		uid = 12345
	}
	for _, want := range []string{fmt.Sprintf("uid %d", uid), fmt.Sprintf("Uid: %d %[1]d %[1]d %[1]d", uid)} {
		if !slices.Contains(lines, want) {
			t.Errorf("the server did not say %q", want)
		}
	}
	for _, line := range lines {
		if strings.Contains(line, "canary") {
			t.Errorf("the server said %q", line)
		}
		if name, ok := strings.CutPrefix(line, "root has "); ok && !slices.Contains([]string{"tree", "proc", "usr", "lib", "lib64", "etc", "nix", "gnu", "var"}, name) {
			t.Errorf("the server's root has %s", name)
		}
	}
	if t.Failed() {
		t.Logf("the server said:\n%s", output)
	}
	// What is on the host is the user's, and ordinary.
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		owner := int(fi.Sys().(*syscall.Stat_t).Uid)
		if fi.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeDevice|fs.ModeNamedPipe) != 0 || owner != uid && d.Name() != "out" {
			t.Errorf("%s has mode %v and owner %d; want an ordinary file of %d", name, fi.Mode(), owner, uid)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Of a directory that is read-only nothing changes, whatever the server does.
func TestReadOnly(t *testing.T) {
	output, dir := run(t, true)
	for _, what := range []string{"write a file", "make a directory", "chmod", "make a device"} {
		line := ""
		for l := range strings.Lines(output) {
			if rest, ok := strings.CutPrefix(l, what+": "); ok {
				line = strings.TrimSpace(rest)
			}
		}
		if line == "" || line == "<nil>" || what != "make a device" && !strings.HasSuffix(line, "read-only file system") {
			t.Errorf("%s: %q; want %v", what, line, unix.EROFS)
		}
	}
	var names []string
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if d := cmp.Diff([]string{"file", "out"}, names); err != nil || d != "" {
		t.Errorf("on the host: %v\n%s", err, d)
	}
}

func TestStartFails(t *testing.T) {
	needAMD64(t)
	dir, uid := tree(t)
	link := filepath.Join(filepath.Dir(filepath.Dir(dir)), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	good := plan.ShareServer{Path: "/usr/bin/true", Kind: plan.VirtiofsdRust}
	for name, tt := range map[string]struct {
		server plan.ShareServer
		source string
		want   error
	}{
		"no directory":  {good, dir + "/none", fs.ErrNotExist},
		"a file":        {good, dir + "/file", unix.ENOTDIR},
		"a link":        {good, link, unix.ELOOP},
		"below a link":  {good, link + "/.", unix.ELOOP},
		"no program":    {plan.ShareServer{Path: "/usr/none", Kind: plan.VirtiofsdRust}, dir, fs.ErrNotExist},
		"no executable": {plan.ShareServer{Path: "/etc/passwd", Kind: plan.VirtiofsdRust}, dir, unix.EACCES},
	} {
		before := descriptors(t)
		p, err := Start(t.Context(), "/proc/self/exe", Spec{Server: tt.server, Share: plan.Share{Source: tt.source}, UID: uid, GID: uid}, t.TempDir(), os.Stderr)
		if err == nil {
			p.Kill()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want.Error()) && !errors.Is(err, tt.want) && !strings.Contains(err.Error(), errno(tt.want)) {
			t.Errorf("%s: Start() = %v; want %v", name, err, tt.want)
		}
		if after := descriptors(t); after != before {
			t.Errorf("%s: %d descriptors after a failure; want %d", name, after, before)
		}
	}
}

// errno returns what the kernel says for the errors of package fs.
func errno(err error) string {
	if err == fs.ErrNotExist {
		return unix.ENOENT.Error()
	}
	return err.Error()
}

func descriptors(t *testing.T) int {
	t.Helper()
	// The first file that can be waited for brings Go's own descriptors for that.
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// parent starts a server, prints its number and waits to be killed.
func parent(text string) {
	var spec Spec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	dir, err := os.MkdirTemp("", "mayfly-share-")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	p, err := Start(context.Background(), "/proc/self/exe", spec, dir, os.Stderr)
	os.RemoveAll(dir)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.PID())
	select {}
}

func TestDiesWithParent(t *testing.T) {
	needAMD64(t)
	dir, uid := tree(t)
	spec, err := json.Marshal(Spec{
		Server: plan.ShareServer{Path: program(t), Kind: plan.VirtiofsdRust, Version: "1.13.0"},
		Share:  plan.Share{Source: dir}, UID: uid, GID: uid,
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), parentVariable+"="+string(spec))
	r, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var line bytes.Buffer
	b := make([]byte, 1)
	for line.Len() < 200 {
		if _, err := r.Read(b); err != nil || b[0] == '\n' {
			break
		}
		line.Write(b)
	}
	pid, err := strconv.Atoi(line.String())
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatalf("the parent said %q", line.String())
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("the server: %v; want it to run", err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	for deadline := time.Now().Add(time.Minute); running(pid); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("the server outlives its parent")
		}
	}
}

// running reports whether pid is a process that has not ended.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	return err == nil && !strings.HasPrefix(rest, "Z")
}
