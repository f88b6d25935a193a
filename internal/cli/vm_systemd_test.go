package cli_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/systemdtest"
	"github.com/mayfly-vm/mayfly/internal/testenv"
)

// What mayfly systemd writes, the service manager takes at once.
func TestSystemdInstall(t *testing.T) {
	testenv.NeedVM(t)
	m := systemdtest.Start(t)
	mayfly, err := exec.LookPath("mayfly")
	if err != nil {
		t.Fatal(err)
	}
	// The home of root, who has no machine, but in this test.
	home := t.TempDir()
	m.Run(0, "mount", "-t", "tmpfs", "tmpfs", "/root")
	store, err := state.Open(filepath.Join(home, "state/mayfly"))
	if err != nil {
		t.Fatal(err)
	}
	_, lock, err := store.Create(plan.Plan{Version: plan.Version, Name: "web-1", Machine: plan.Machine{VCPUs: 2, MemoryMiB: 3072}})
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	m.Run(0, "mkdir", "-p", "/root/.local/state")
	m.Run(0, "ln", "-s", filepath.Join(home, "state/mayfly"), "/root/.local/state/mayfly")

	out := m.Run(0, mayfly, "systemd", "install", "--system", "--enable", "web-1")
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
	m.Run(0, mayfly, "systemd", "timer", "--system")
	if got := m.Show("mayfly-update.timer", "ActiveState"); got != "active" {
		t.Errorf("the timer is %s; want active", got)
	}
	m.Run(0, mayfly, "systemd", "timer", "--system", "--remove")
	m.Run(0, mayfly, "systemd", "uninstall", "--system", "web-1")
	for _, unit := range []string{unit, "mayfly-update.timer"} {
		if got := m.Show(unit, "LoadState"); got != "not-found" {
			t.Errorf("%s is %s after its end; want not-found", unit, got)
		}
	}
}
