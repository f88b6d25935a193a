package agent

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWriteSystemdFiles(t *testing.T) {
	dir := t.TempDir()
	if err := writeSystemdFiles(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"systemd/system/mayfly-agent.service":         "\nExecStart=" + programFile + " " + serviceWord + "\n",
		"systemd/system/mayfly.slice":                 "[Unit]",
		"systemd/system/sysinit.target.d/mayfly.conf": "Wants=mayfly-agent.service",
		"systemd/system.conf.d/mayfly.conf":           "DefaultTimeoutStopSec=5s",
		"tmpfiles.d/tmp.conf":                         "#",
	} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s is %q, %v; want it to have %q", name, data, err, want)
		}
	}
	for below, names := range map[string][]string{"systemd/system": maskedUnits, "systemd/system-generators": maskedGenerators} {
		for i, name := range names {
			if fi, err := os.Stat(filepath.Join(dir, below, name)); err != nil || fi.Size() > 0 {
				t.Errorf("%s/%s is no mask: %v", below, name, err)
			}
			if slices.Contains(names[:i], name) {
				t.Errorf("%s is there twice", name)
			}
		}
	}
}

// Process 1 leaves only for what was prepared.
func TestHandOverNotPrepared(t *testing.T) {
	for name, a := range map[string]*agent{
		"not configured": {}, "of its own": {machine: &machine{}}, "the service": {machine: &machine{}, service: &service{}},
	} {
		if got := a.handOver(); got.Error == "" || a.leaves() {
			t.Errorf("%s: handOver() = %+v, and it leaves: %t; want an error", name, got, a.leaves())
		}
	}
	if got := (&agent{}).booted(); got.State != "" || got.Failed != nil {
		t.Errorf("booted() of process 1 = %+v; want nothing", got)
	}
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// fakeGroups are files as those of a kernel that ends nothing and freezes all.
func fakeGroups(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		write(t, filepath.Join(dir, name, "cgroup.events"), "populated 0\nfrozen 1\n")
	}
	return dir
}

func TestService(t *testing.T) {
	dir := fakeGroups(t, "init.scope", "system.slice", "user.slice", "mayfly.slice/mayfly-agent.service")
	write(t, filepath.Join(dir, "cgroup.procs"), "")
	self := filepath.Join(t.TempDir(), "cgroup")
	write(t, self, "0::/mayfly.slice/mayfly-agent.service\n")
	s, err := newService(dir, self)
	if err != nil {
		t.Fatal(err)
	}
	defer s.programs.f.Close()
	var attr syscall.SysProcAttr
	if s.programs.adopt(&attr); !attr.UseCgroupFD || attr.CgroupFD != int(s.programs.f.Fd()) {
		t.Errorf("adopt() = %+v", attr)
	}
	own := filepath.Join(dir, "mayfly.slice/mayfly-agent.service/programs")
	write(t, filepath.Join(own, "cgroup.events"), "populated 0\nfrozen 0\n")
	others, err := s.others()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, o := range others {
		names = append(names, filepath.Base(o.dir))
	}
	if want := []string{"system.slice", "user.slice"}; !slices.Equal(names, want) {
		t.Errorf("others() = %q; want %q", names, want)
	}
	wants := map[string]string{
		filepath.Join(own, "cgroup.kill"):                                     "1",
		filepath.Join(dir, "system.slice/cgroup.freeze"):                      "1",
		filepath.Join(dir, "user.slice/cgroup.freeze"):                        "1",
		filepath.Join(dir, "init.scope/cgroup.freeze"):                        "",
		filepath.Join(dir, "mayfly.slice/cgroup.freeze"):                      "",
		filepath.Join(dir, "mayfly.slice/mayfly-agent.service/cgroup.freeze"): "",
	}
	for name := range wants {
		write(t, name, "") // as the kernel has them: what the agent makes itself, a user cannot read
	}
	if err := s.quiesce(); err != nil {
		t.Fatal(err)
	}
	for name, want := range wants {
		if data, _ := os.ReadFile(name); string(data) != want {
			t.Errorf("%s is %q; want %q", name, data, want)
		}
	}
	if err := s.freeze(false); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(filepath.Join(dir, "system.slice/cgroup.freeze")); string(data) != "0" {
		t.Errorf("after freeze(false) there is %q", data)
	}
	for _, bad := range []string{"", "1:name=systemd:/x\n", "0::relative"} {
		write(t, self, bad)
		if _, err := newService(dir, self); err == nil {
			t.Errorf("newService(%q) = nil; want an error", bad)
		}
	}
}

func TestCgroupSignal(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// The kernel says 0 for a process of another namespace.
	write(t, filepath.Join(dir, "below/cgroup.procs"), fmt.Sprintf("0\n%d\n", cmd.Process.Pid))
	cgroup{dir: dir}.signal(unix.SIGTERM)
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("the process ended with %v; want %v", err, syscall.SIGTERM)
	}
	cgroup{dir: dir + "/gone"}.signal(unix.SIGTERM)
}
