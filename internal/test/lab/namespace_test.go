package lab

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// No device leads out of the lab.
func TestNothingLeaves(t *testing.T) {
	l := newLab(t)
	for name, ns := range map[string]*namespace{"host": l.host, "inet": l.inet} {
		err := ns.do(func() error {
			interfaces, err := net.Interfaces()
			if err != nil {
				return err
			}
			var up []string
			for _, i := range interfaces {
				if i.Flags&net.FlagUp != 0 { // some kernels have a sit0, tunl0, … in every namespace
					up = append(up, i.Name)
				}
			}
			slices.Sort(up)
			if want := []string{device, "lo"}; !slices.Equal(up, want) {
				t.Errorf("%s has the devices %q; want %q", name, up, want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// A command keeps what it was given: directory, process group, user.
func TestCommand(t *testing.T) {
	l := newLab(t)
	dir, err := os.MkdirTemp("/var/tmp", "lab-") // open to the other user
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `pwd; id -u; id -g; id -G; cat /etc/resolv.conf; ps -o pgid= -p $$ | tr -d ' '; echo $$; echo "$1"`, "sh", "two words")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: 1234, Gid: 2345, Groups: []uint32{7, 8}}}
	out, err := l.Command(cmd).CombinedOutput()
	pid := cmd.Process.Pid
	want := fmt.Sprintf("%s\n1234\n2345\n2345 7 8\nnameserver 10.9.0.1\n%d\n%d\ntwo words\n", dir, pid, pid)
	if err != nil || string(out) != want {
		t.Errorf("the command says %q, %v; want %q", out, err, want)
	}
}

// Nothing is left of a lab, nor of what was forgotten in it.
func TestEnd(t *testing.T) {
	before := namespaces(t)
	var inodes []string
	var daemon *exec.Cmd
	ended := make(chan error, 1)
	t.Run("lab", func(t *testing.T) {
		l := newLab(t)
		l.SSHKey()
		for _, request := range []string{"GET /slow HTTP/1.1\r\nHost: web.example\r\n\r\n", ""} {
			conn := dial(t, l, web+":80")
			io.WriteString(conn, request)
		}
		dial(t, l, web+":19")
		inodes = []string{l.host.inode, l.inet.inode}
		daemon = l.Command(exec.Command("sleep", "1000"))
		daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := daemon.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { ended <- daemon.Wait() }()
		// It is on its way: until it is there it is nobody's.
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if inside, err := l.host.processes(); err != nil || time.Now().After(deadline) {
				t.Fatalf("the command did not enter the lab: %v", err)
			} else if len(inside) > 0 {
				break
			}
		}
	})
	if len(inodes) == 0 {
		t.Skip("no lab was made")
	}
	if err := <-ended; err == nil {
		t.Error("what was left in the lab ended by itself")
	}
	// Threads end a moment after what they did.
	var after map[string]string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		after = namespaces(t)
		for inode := range before {
			delete(after, inode)
		}
		if !slices.ContainsFunc(inodes, func(inode string) bool { return after[inode] != "" }) {
			break
		}
	}
	for inode, holder := range after {
		if slices.Contains(inodes, inode) {
			t.Errorf("%s is left, held by %s", inode, holder)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), "/resolv.conf") && strings.Contains(string(mounts), t.Name()) {
		t.Error("a mount of the lab is left on the computer")
	}
}

// namespaces returns the network namespaces that there are, and for each who is in
// it or has it open.
func namespaces(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for _, pattern := range []string{"/proc/[0-9]*/task/[0-9]*/ns/net", "/proc/[0-9]*/fd/*"} {
		links, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range links {
			if inode, err := os.Readlink(link); err == nil && strings.HasPrefix(inode, "net:") {
				found[inode] = link
			}
		}
	}
	return found
}
