package host

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/apt"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/test/env"
)

// fakeDeb builds a package whose QEMU is the script.
func fakeDeb(t *testing.T, version, script string) apt.Deb {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("dpkg-deb is not installed")
	}
	root := tree(t, map[string]string{
		"DEBIAN/control":                       fmt.Sprintf("Package: qemu-system-x86\nVersion: %s\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n", version),
		"usr/bin/" + qemuBinary() + "*":        script,
		"usr/share/qemu/firmware.bin":          "",
		"usr/lib/x86_64-linux-gnu/qemu/any.so": "",
	})
	// dpkg-deb wants a directory that only its owner may write to.
	if err := os.Chmod(filepath.Join(root, "DEBIAN"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "qemu.deb")
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "-Znone", "--build", root, path).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	return apt.Deb{Name: "qemu-system-x86", Version: version, Path: path}
}

func TestUnpackQEMU(t *testing.T) {
	good := fakeDeb(t, "1:10.0.2+ds-2~bpo12+1", fakeQEMU("10.0.2"))
	bad := fakeDeb(t, "1:11.0.0+ds-1", "#!/bin/sh\necho 'libx.so.1: cannot open shared object file' >&2\nexit 127\n")
	tests := []struct {
		name   string
		deb    apt.Deb
		before map[string]string
		want   string // the version, or "" for a failure
	}{
		{"into nothing", good, nil, "10.0.2"},
		{"over an interrupted run", good, map[string]string{"10.0.2.tmp/usr/bin/old": "", "10.0.2.tmp/x": ""}, "10.0.2"},
		{"over one that does not start", good, map[string]string{"10.0.2/usr/bin/" + qemuBinary() + "*": "#!/bin/sh\nexit 1\n"}, "10.0.2"},
		{"beside another version", good, map[string]string{"9.0.0/usr/bin/" + qemuBinary() + "*": fakeQEMU("9.0.0")}, "10.0.2"},
		{"one that does not start", bad, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := tree(t, tt.before)
			q, err := unpackQEMU(t.Context(), []apt.Deb{tt.deb}, dir)
			if tt.want == "" {
				if fault.CodeOf(err) != fault.QEMULibrariesMissing {
					t.Errorf("unpackQEMU = %+v, %v; want %s", q, err, fault.QEMULibrariesMissing)
				}
			} else if err != nil || q.Version.String() != tt.want || len(q.DataDirs) != 1 || q.ModuleDir == "" {
				t.Errorf("unpackQEMU = %+v, %v; want %s", q, err, tt.want)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
			if old, _ := filepath.Glob(filepath.Join(dir, tt.want, "usr/bin/old")); len(old) > 0 {
				t.Error("the interrupted run's files are among the new ones")
			}
		})
	}
}

// TestUnpackQEMUTwice keeps a good one: machines may be running from it.
func TestUnpackQEMUTwice(t *testing.T) {
	deb, dir := fakeDeb(t, "1:10.0.2+ds-2", fakeQEMU("10.0.2")), t.TempDir()
	for range 2 {
		if _, err := unpackQEMU(t.Context(), []apt.Deb{deb}, dir); err != nil {
			t.Fatal(err)
		}
		marker := filepath.Join(dir, "10.0.2", "marker")
		if _, err := os.Stat(marker); err == nil {
			return
		}
		if err := os.WriteFile(marker, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Error("the second run replaced a QEMU that starts")
}

func TestCanInstallQEMU(t *testing.T) {
	f := laptop()
	if f.CanInstallQEMU() || f.NeedsQEMU() {
		t.Error("Debian 13 needs a newer QEMU")
	}
	if _, err := InstallQEMU(t.Context(), f, nil); err == nil || !strings.Contains(err.Error(), "trixie") {
		t.Errorf("InstallQEMU on Debian 13 = %v; want a refusal", err)
	}
	f.OS.Codename, f.QEMU.Version = "bookworm", Version{7, 2, 22}
	if !f.CanInstallQEMU() || f.NeedsQEMU() {
		t.Error("Debian 12 with KVM needs a newer QEMU")
	}
	f.KVM.Proven = false
	if !f.NeedsQEMU() {
		t.Error("Debian 12 without KVM needs no newer QEMU")
	}
}

// TestInstallQEMU fetches the real one.
func TestInstallQEMU(t *testing.T) {
	env.NeedVM(t)
	f := realFacts(t)
	if !f.CanInstallQEMU() {
		t.Skipf("%s comes with a good QEMU or has none to fetch", f.OS.Name)
	}
	f.Dirs.Data = t.TempDir()
	q, err := InstallQEMU(t.Context(), f, func(s string) { t.Log(s) })
	if err != nil {
		t.Fatal(err)
	}
	if !q.Version.TCGSafe() || len(q.DataDirs) != 2 || q.ModuleDir == "" {
		t.Errorf("InstallQEMU = %+v", q)
	}
	reason, err := runGuest(t.Context(), q, "tcg", "max", guestTimeout)
	if reason != "" || err != nil {
		t.Errorf("its guest: %q, %v", reason, err)
	}
}
