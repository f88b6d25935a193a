package debian

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/confine"
	"github.com/mayfly-vm/mayfly/internal/image/tool"
	"github.com/mayfly-vm/mayfly/internal/test/env"
)

// What the script of a package can do when root builds: this test, executed in the place
// of mmdebstrap by the same way, tries all that it must not.

// hostileVariable holds a hostileTarget as JSON, and makes this test such a script.
const hostileVariable = "MAYFLY_TEST_BUILDER"

// hostileTarget is what a script goes for. All is root's.
type hostileTarget struct {
	Secret string // nobody else may read it
	Shown  string // everybody may read it
	Dir    string
	Socket string // as docker.sock
	Device string // such as a disk
	Parent int
}

func TestBuilderPosture(t *testing.T) {
	if arg := os.Getenv(hostileVariable); arg != "" {
		beHostile(arg)
	}
	env.NeedRoot(t)
	dir, err := os.MkdirTemp("/var/tmp", "mayfly-builder-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h, arg := newTarget(t, dir)
	script := fmt.Sprintf("#!/bin/sh\nexport %s='%s'\nexec %s/probe -test.run=^TestBuilderPosture$\n", hostileVariable, arg, dir)
	program := filepath.Join(dir, "bin", "mmdebstrap")
	if err := errors.Join(os.Mkdir(filepath.Dir(program), 0o755), os.WriteFile(program, []byte(script), 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	t.Setenv("GITHUB_TOKEN", "secret")
	t.Setenv("https_proxy", "http://proxy")

	b := Builder{Suite: "trixie", Dir: filepath.Join(dir, "build")}
	if err := MakeDir(b.Dir, ""); err != nil {
		t.Fatal(err)
	}
	if mode, _, _ := b.rootMode(t.Context()); mode != "unshare" {
		t.Skip("may not make user namespaces with many users here")
	}
	var out strings.Builder
	if err := b.run(t.Context(), nil, nil, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(out.String(), "done\n") {
		t.Fatalf("the script said %q; want done at its end", out.String())
	}
	h.check(t, out.String())
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(b.Dir, "setuid"), &st); err == nil && st.Uid != confine.FirstBuilder {
		t.Errorf("it made a setuid program of user %d; want its own, %d", st.Uid, confine.FirstBuilder)
	}
}

// A normal user's build is in a user namespace that mmdebstrap makes, without the user: its
// scripts have no right of who builds.
func TestBuilderPostureOfNormalUser(t *testing.T) {
	if os.Geteuid() == 0 {
		asNormalUser(t)
		return
	}
	dir, err := os.MkdirTemp("/var/tmp", "mayfly-builder-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h, arg := newTarget(t, dir)
	t.Setenv("GITHUB_TOKEN", "secret")
	t.Setenv("https_proxy", "http://proxy")
	b := Builder{Suite: "trixie", Dir: filepath.Join(dir, "build")}
	if err := MakeDir(b.Dir, ""); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.rootMode(t.Context()); err != nil {
		t.Skip(err)
	}
	if _, err := tool.Find("mmdebstrap"); err != nil {
		t.Skip(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	hook := fmt.Sprintf(`cd "$1" && %s='%s' %s/probe -test.run=^TestBuilderPosture$ > "$1/report"`, hostileVariable, arg, dir)
	var out bytes.Buffer
	if err := b.run(t.Context(), []string{"--variant=custom", "--skip=setup,update,cleanup/mmdebstrap", "--customize-hook=" + hook}, nil, &out); err != nil {
		t.Fatal(err)
	}
	said := ""
	for r := tar.NewReader(&out); ; {
		header, err := r.Next()
		if err != nil {
			break
		}
		if header.Name == "./report" {
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			said = string(data)
		}
	}
	if !strings.HasSuffix(said, "done\n") {
		t.Fatalf("the script said %q; want done at its end", said)
	}
	h.check(t, said, "kill init", "mount on the host", "host name")
	if now, err := os.Hostname(); err != nil || now != host {
		t.Errorf("the host's name is %q, %v; want %q", now, err, host)
	}
}

// asNormalUser runs this test as an account that it makes.
func asNormalUser(t *testing.T) {
	t.Helper()
	env.NeedVM(t) // not for every test of a developer's: it changes /etc/passwd for a moment
	for _, name := range []string{"useradd", "usermod", "userdel"} {
		if _, err := tool.Find(name); err != nil {
			t.Skip(err)
		}
	}
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %q: %v: %s", name, args, err, out)
		}
	}
	dir, err := os.MkdirTemp("/var/tmp", "mayfly-builder-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	name := fmt.Sprintf("mayflyb%d", os.Getpid())
	run("useradd", "--create-home", "--home-dir", filepath.Join(dir, "home"), name)
	t.Cleanup(func() { run("userdel", name) })
	if ids, err := os.ReadFile("/etc/subuid"); err != nil || !strings.Contains("\n"+string(ids), "\n"+name+":") {
		run("usermod", "--add-subuids", "1000000-1065535", "--add-subgids", "1000000-1065535", name)
	}
	account, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	probe, err := os.ReadFile("/proc/self/exe")
	program := filepath.Join(dir, "debian.test")
	if err := errors.Join(err, os.Chmod(dir, 0o755), os.WriteFile(program, probe, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestBuilderPostureOfNormalUser$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(dir, "home"), "USER=" + name}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestBuilderPostureOfNormalUser") {
		t.Errorf("as %s: %v\n%s", name, err, out)
	}
}

// Root that cannot have other users builds itself, and says so.
func TestBuildAsRootIsSaid(t *testing.T) {
	env.NeedRoot(t)
	dir := filepath.Join(t.TempDir(), "build")
	if err := MakeDir(dir, ""); err != nil {
		t.Fatal(err)
	}
	var said []error
	b := Builder{Suite: "trixie", Dir: dir, AsRoot: func(why error) { said = append(said, why) }}
	t.Setenv("PATH", "") // no program can be run as the others
	mode, _, err := b.rootMode(t.Context())
	if err != nil || mode != "root" || len(said) != 1 {
		t.Errorf("rootMode() = %s, %v, and said %v; want root, and why", mode, err, said)
	}
}

// newTarget makes in dir what a script goes for, and the program "probe" that it is. arg is
// the target as JSON.
func newTarget(t *testing.T, dir string) (h hostileTarget, arg []byte) {
	t.Helper()
	h = hostileTarget{
		Secret: filepath.Join(dir, "secret"), Shown: filepath.Join(dir, "shown"), Dir: dir,
		Socket: filepath.Join(dir, "docker.sock"), Device: filepath.Join(dir, "device"), Parent: os.Getpid(),
	}
	probe, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = errors.Join(os.Chmod(dir, 0o755), os.WriteFile(h.Secret, []byte("secret"), 0o600), os.WriteFile(h.Shown, []byte("shown"), 0o644),
			os.WriteFile(filepath.Join(dir, "probe"), probe, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(h.Device, unix.S_IFCHR|0o660, int(unix.Mkdev(1, 1))); err != nil { // /dev/mem
		t.Logf("no device here: %v", err)
	}
	l, err := net.Listen("unix", h.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := os.Chmod(h.Socket, 0o660); err != nil {
		t.Fatal(err)
	}
	arg, err = json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	return h, arg
}

// check fails the test if a script could do what it must not, by what it said, or could not
// what it is to do. Of what it does in namespaces of its own, own, nobody else sees anything.
func (h hostileTarget) check(t *testing.T, said string, own ...string) {
	t.Helper()
	granted := append([]string{"read what all may", "write in its directory", "be root there", "have the proxies", "done"}, own...)
	seen := 0
	for line := range strings.Lines(said) {
		what, answer, _ := strings.Cut(strings.TrimSpace(line), ": ")
		possible := answer == "<nil>" || answer == ""
		seen++
		if want := slices.Contains(granted, what); possible != want {
			t.Errorf("%s: %s; want it possible: %v", what, answer, want)
		}
	}
	if seen < 40 {
		t.Errorf("the script tried %d things; want at least 40", seen)
	}
	var st unix.Stat_t
	for path, mode := range map[string]uint32{h.Secret: 0o600, h.Shown: 0o644} {
		if err := unix.Stat(path, &st); err != nil || st.Mode&0o7777 != mode || int(st.Uid) != os.Geteuid() || st.Size == 0 {
			t.Errorf("%s became %+v, %v", path, st, err)
		}
	}
}

// beHostile tries everything and says what came of it.
func beHostile(arg string) {
	var h hostileTarget
	if err := json.Unmarshal([]byte(arg), &h); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	say := func(what string, err error) {
		if errno, ok := errors.AsType[syscall.Errno](err); ok {
			err = errno
		}
		fmt.Printf("%s: %v\n", what, err)
	}
	must := func(ok bool) error {
		if ok {
			return nil
		}
		return errors.New("no")
	}
	open := func(path string, flags int) error {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o600)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	raw := func(number uintptr, args ...uintptr) error {
		var a [6]uintptr
		copy(a[:], args)
		if _, _, errno := unix.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
			return errno
		}
		return nil
	}
	other := fmt.Sprintf("/proc/%d/", h.Parent)

	say("be root there", must(os.Getuid() == 0))
	say("have the proxies", must(os.Getenv("https_proxy") != ""))
	say("read what all may", open(h.Shown, unix.O_RDONLY))
	say("write in its directory", os.WriteFile("setuid", []byte("x"), 0o755))
	os.Chmod("setuid", 0o4755)

	say("have the user's tokens", must(os.Getenv("GITHUB_TOKEN") != ""))
	for _, path := range []string{h.Secret, "/etc/shadow", "/root", other + "mem", other + "environ", other + "maps", other + "fd", other + "root/"} {
		say("read "+path, open(path, unix.O_RDONLY))
	}
	say("write what all may read", open(h.Shown, unix.O_WRONLY))
	say("write the host's users", open("/etc/passwd", unix.O_WRONLY))
	say("make a file", open(filepath.Join(h.Dir, "made"), unix.O_CREAT|unix.O_WRONLY))
	say("remove", unix.Unlink(h.Shown))
	say("rename", unix.Rename(h.Shown, h.Shown+"2"))
	say("truncate", unix.Truncate(h.Shown, 0))
	say("chmod", unix.Chmod(h.Shown, 0o4777))
	say("chown", unix.Chown(h.Shown, 0, 0))
	say("chown its own to root", unix.Chown("setuid", 1<<31, -1))
	say("times", unix.Utimes(h.Shown, []unix.Timeval{{}, {}}))
	say("xattr", unix.Setxattr(h.Shown, "user.x", []byte("x"), 0))
	say("trusted xattr of its own", unix.Setxattr("setuid", "trusted.x", []byte("x"), 0))
	say("open a device", open(h.Device, unix.O_RDONLY))
	say("make a device", unix.Mknod("disk", unix.S_IFBLK|0o600, int(unix.Mkdev(254, 0))))
	_, err := net.Dial("unix", h.Socket)
	say("connect to a socket of root's", err)
	say("kill", unix.Kill(h.Parent, 0))
	say("kill init", unix.Kill(1, 0))
	say("trace", raw(unix.SYS_PTRACE, unix.PTRACE_ATTACH, uintptr(h.Parent)))
	say("limits of another", unix.Prlimit(h.Parent, unix.RLIMIT_CORE, &unix.Rlimit{}, nil))
	say("priority of another", unix.Setpriority(unix.PRIO_PROCESS, h.Parent, 5))
	for _, ns := range []string{"mnt", "net", "pid", "user"} {
		fd, err := unix.Open(other+"ns/"+ns, unix.O_RDONLY, 0)
		if err == nil {
			err = unix.Setns(fd, 0)
		}
		say("join the namespace "+ns, err)
	}
	say("mount on the host", unix.Mount("tmpfs", "/etc", "tmpfs", 0, ""))
	say("be a user of the host", unix.Setresuid(1<<31, 1<<31, 1<<31))
	say("load a module", raw(unix.SYS_FINIT_MODULE, 0, 0, 0))
	say("kexec", raw(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0))
	say("reboot", raw(unix.SYS_REBOOT, 0, 0, 0, 0))
	say("clock", unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{Sec: 1}))
	say("host name", unix.Sethostname([]byte("x")))
	say("swap", raw(unix.SYS_SWAPOFF, 0))
	say("handle", raw(unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0))
	say("write a setting of the kernel", open("/proc/sys/kernel/core_pattern", unix.O_WRONLY))
	say("write /sys", open("/sys/kernel/uevent_helper", unix.O_WRONLY))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err == nil {
		unix.Close(fd)
	}
	say("packets", err)
	fmt.Println("done")
	os.Exit(0)
}
