package test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/systemd"
	"github.com/mayfly-vm/mayfly/internal/test/env"
	systemdtest "github.com/mayfly-vm/mayfly/internal/test/systemd"
	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// What mayfly systemd writes, the service manager takes at once.
func TestSystemdInstall(t *testing.T) {
	env.NeedVM(t)
	m := systemdtest.Start(t)
	mayfly, err := exec.LookPath("mayfly")
	if err != nil {
		t.Fatal(err)
	}
	// The home of root, who has no machine, but in this test.
	home := t.TempDir()
	m.Run(0, "mount", "-t", "tmpfs", "tmpfs", "/root")
	writeFile(t, filepath.Join(home, "machines/web-1.toml"), "version = 1\nmachine.vcpus = 2\nmachine.memory = \"3GiB\"\n")
	m.Run(0, "mkdir", "-p", "/root/.config")
	m.Run(0, "ln", "-s", home, "/root/.config/mayfly")

	run := func(args ...string) string {
		t.Helper()
		return m.Run(0, append([]string{"env", "-u", "XDG_CONFIG_HOME", "HOME=/root", mayfly}, args...)...)
	}
	out := run("systemd", "install", "--system", "--enable", "web-1")
	if !strings.Contains(out, "mayfly: next: sudo systemctl start mayfly@web-1") {
		t.Errorf("install says no next command:\n%s", out)
	}
	const unit = "mayfly@web-1.service"
	for property, want := range map[string]string{
		"LoadState": "loaded", "UnitFileState": "enabled", "NeedDaemonReload": "no",
		"MemoryMax": "4294967296", "CPUQuotaPerSecUSec": "2s", "TasksMax": "512", "User": "root",
	} {
		if got := m.Show(unit, property); got != want {
			t.Errorf("%s: %s=%s; want %s", unit, property, got, want)
		}
	}
	run("systemd", "timer", "--system")
	if got := m.Show("mayfly-update.timer", "ActiveState"); got != "active" {
		t.Errorf("the timer is %s; want active", got)
	}
	run("systemd", "timer", "--system", "--remove")
	run("systemd", "uninstall", "--system", "web-1")
	for _, unit := range []string{unit, "mayfly-update.timer"} {
		if got := m.Show(unit, "LoadState"); got != "not-found" {
			t.Errorf("%s is %s after its end; want not-found", unit, got)
		}
	}
}

// What the unit takes away, mayfly does not need: an ordinary user's images are
// built by newuidmap and with a /proc of their own, and machines run.
func TestSystemdWalls(t *testing.T) {
	env.NeedVM(t)
	h := vm.NewUser(t)
	m := systemdtest.Start(t)
	account := filepath.Base(h.Home)
	m.Install(systemd.Machine{Name: "image", Exe: h.Program, Owner: systemd.Owner{Account: account, Home: h.Home}})
	const build = `unshare --user --map-auto --map-root-user --mount --pid --fork sh -ec '
		id -u
		mkdir root && mount -t tmpfs -o mode=755 tmpfs root && mkdir root/proc root/sys && touch root/null
		mount -t proc proc root/proc
		mount --rbind /sys root/sys
		mount --bind /dev/null root/null && echo x >root/null
		touch root/file && chown 1000:1000 root/file && echo built'`
	m.Write(h.Home+"/build.sh", build)
	m.Write("/etc/systemd/system/mayfly@image.service.d/test.conf",
		"[Service]\nType=oneshot\nWorkingDirectory="+h.Home+"\nExecStart=\nExecStart=/bin/sh "+h.Home+"/build.sh\n")
	m.Run(0, "systemctl", "daemon-reload")
	m.Run(0, "sh", "-c", "systemctl start mayfly@image || { journalctl --sync; journalctl -u mayfly@image; exit 9; }")
	if journal := m.Journal("mayfly@image.service"); !strings.Contains(journal, "built") {
		t.Errorf("no image could be built:\n%s", journal)
	}
}

// A real machine is a service, within the walls and the limits of its unit.
func TestSystemdMachine(t *testing.T) {
	h := named(t, "--network", "none", "--memory", "1GiB", "--vcpus", "2")
	m := systemdtest.Start(t)
	mayfly, err := exec.LookPath("mayfly")
	if err != nil {
		t.Fatal(err)
	}
	const memoryMax = (1024 + 1024) << 20
	m.Install(systemd.Machine{
		Name: "m", Exe: mayfly,
		Limits: systemd.Limits{MemoryMax: memoryMax, CPUPercent: 200, TasksMax: 512},
		Owner:  systemd.Owner{Account: "root", Home: "/root", Env: h.Env},
	})
	const unit = "mayfly@m.service"
	start := func() {
		t.Helper()
		m.Run(0, "sh", "-c", "systemctl start mayfly@m || { journalctl --sync; journalctl --no-pager -u mayfly@m; exit 9; }")
		if got := m.Show(unit, "ActiveState"); got != "active" {
			t.Fatalf("after the start: %s; want active", got)
		}
	}
	start()
	// It was ready when systemctl returned.
	if got := h.Run(0, "exec", "m", "--", "uname", "-n").Stdout; got != "m\n" {
		t.Errorf("in the machine: %q", got)
	}
	if got := m.Controller(unit, "memory", "memory.max", "memory.limit_in_bytes"); got != fmt.Sprint(memoryMax) {
		t.Errorf("memory in the control group: %q; want %d", got, memoryMax)
	}
	if got := m.Controller(unit, "pids", "pids.max", "pids.max"); got != "512" {
		t.Errorf("tasks in the control group: %q; want 512", got)
	}
	m.Run(0, "systemctl", "stop", "mayfly@m")
	if state, result := m.Show(unit, "ActiveState"), m.Show(unit, "Result"); state != "inactive" || result != "success" {
		t.Errorf("after the stop: %s, %s; want inactive, success", state, result)
	}
	if left := h.Lasting(); left != "" {
		t.Errorf("left after the stop:\n%s", left)
	}
	start()
	h.Mayfly("exec", "m", "--", "sudo", "sh", "-c", "echo c > /proc/sysrq-trigger").Run()
	m.Until(unit, "ActiveState", "failed")
	journal := m.Journal(unit)
	for _, want := range []string{"the machine ended unexpectedly", "Kernel panic"} {
		if !strings.Contains(journal, want) {
			t.Errorf("the journal does not say %q:\n%s", want, journal)
		}
	}
	if got := m.Show(unit, "NRestarts"); got != "0" {
		t.Errorf("started again %s times; want never", got)
	}
}
