package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/test/env"
)

// provable are the facts of a host whose KVM has not been tried yet, with a
// program of the given text as QEMU.
func provable(t *testing.T, script string) Facts {
	t.Helper()
	dir := tree(t, map[string]string{"qemu*": "#!/bin/sh\n" + script})
	return Facts{
		Kernel: "6.12", BootID: "one", Arch: "amd64", CPUModel: "CPU",
		KVM:  KVM{Present: true, Openable: true, Reason: "not tried yet"},
		QEMU: QEMU{Path: filepath.Join(dir, "qemu"), Version: Version{10, 0, 2}, Build: "QEMU emulator version 10.0.2"},
		Dirs: Dirs{Cache: filepath.Join(dir, "cache")},
	}
}

func TestProveKVM(t *testing.T) {
	tests := []struct {
		name, script string
		timeout      time.Duration
		proven       bool
		reason       string
	}{
		{"works", "echo plcifhts; exit 33", 0, true, ""},
		{"works, after firmware's words", "printf 'SeaBIOS\\r\\nplcifhts\\n'; exit 33", 0, true, ""},
		{"right words, wrong status", "echo plcifhts; exit 0", 0, false, "a test guest stopped before its end (exit status 0)"},
		{"triple fault", "printf plc; exit 0", 0, false, "a test guest stopped before cmpxchg16b and SSE instructions in the kernel (exit status 0)"},
		{"hangs", "printf plcifh; exec sleep 60", 2 * time.Second, false, "a test guest hung before a timer interrupt in running code"},
		{"another hypervisor", "echo \"$0: ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy\" >&2; exit 1", 0, false, "QEMU did not start a guest: "},
		{"internal error", "printf plc; echo 'KVM internal error. Suberror: 1' >&2; exec sleep 60", 0, false, "a test guest stopped before cmpxchg16b and SSE instructions in the kernel: KVM internal error. Suberror: 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := provable(t, tt.script)
			start := time.Now()
			k, err := ProveKVM(t.Context(), f, ProveOptions{Timeout: tt.timeout})
			if err != nil {
				t.Fatal(err)
			}
			if !k.Tested || k.Proven != tt.proven || !strings.HasPrefix(k.Reason, tt.reason) || tt.proven != (k.Reason == "") {
				t.Errorf("ProveKVM = %+v; want proven %v, reason %q…", k, tt.proven, tt.reason)
			}
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("ProveKVM took %v", took)
			}
			if cached := cachedProof(f); cached != k {
				t.Errorf("cachedProof = %+v; want %+v", cached, k)
			}
		})
	}
}

// TestProveKVMUntried lists what is not tried at all.
func TestProveKVMUntried(t *testing.T) {
	for name, change := range map[string]func(*Facts){
		"no permission": func(f *Facts) { f.KVM.Openable = false },
		"no QEMU":       func(f *Facts) { f.QEMU = QEMU{Problem: "not installed"} },
		"another CPU":   func(f *Facts) { f.Arch = "arm64" },
	} {
		f := provable(t, "echo plcifhts; exit 33")
		change(&f)
		if k, err := ProveKVM(t.Context(), f, ProveOptions{}); k.Tested || k.Proven || k.Reason == "" || err != nil {
			t.Errorf("%s: ProveKVM = %+v, %v; want it untried, with a reason", name, k, err)
		}
	}
	f := provable(t, "exec sleep 60")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if k, err := ProveKVM(ctx, f, ProveOptions{}); !errors.Is(err, context.DeadlineExceeded) || k.Tested {
		t.Errorf("ProveKVM with a context that ends = %+v, %v; want no answer", k, err)
	}
	f.QEMU.Path = "/no-such-qemu"
	if k, err := ProveKVM(t.Context(), f, ProveOptions{}); err == nil || k.Tested {
		t.Errorf("ProveKVM with a QEMU that is gone = %+v, %v; want an error", k, err)
	}
}

func TestProofCache(t *testing.T) {
	const works, fails = "echo plcifhts; exit 33", "exit 1"
	tests := []struct {
		name   string
		first  string // what QEMU does when the answer is stored
		change func(*testing.T, *Facts)
		cached bool
	}{
		{"nothing changed", works, func(*testing.T, *Facts) {}, true},
		{"nothing changed, refused", fails, func(*testing.T, *Facts) {}, true},
		{"another kernel", works, func(_ *testing.T, f *Facts) { f.Kernel = "7.0" }, false},
		{"another CPU", works, func(_ *testing.T, f *Facts) { f.CPUModel = "new" }, false},
		{"another QEMU", works, func(_ *testing.T, f *Facts) { f.QEMU.Build = "11" }, false},
		{"another boot", works, func(_ *testing.T, f *Facts) { f.BootID = "two" }, true},
		{"another boot, refused", fails, func(_ *testing.T, f *Facts) { f.BootID = "two" }, false},
		{"damaged", works, func(t *testing.T, f *Facts) {
			if err := os.WriteFile(proofPath(*f), []byte(`{"proven": tr`), 0o600); err != nil {
				t.Fatal(err)
			}
		}, false},
	}
	for _, tt := range tests {
		f := provable(t, tt.first)
		first, err := ProveKVM(t.Context(), f, ProveOptions{})
		if err != nil {
			t.Fatal(err)
		}
		tt.change(t, &f)
		if got := cachedProof(f); got.Tested != tt.cached || got.Tested && got != first {
			t.Errorf("%s: cachedProof = %+v; want it cached: %v", tt.name, got, tt.cached)
		}
	}

	// A refresh asks again.
	f := provable(t, fails)
	if _, err := ProveKVM(t.Context(), f, ProveOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.QEMU.Path, []byte("#!/bin/sh\n"+works), 0o755); err != nil {
		t.Fatal(err)
	}
	if k, err := ProveKVM(t.Context(), f, ProveOptions{}); k.Proven || err != nil {
		t.Errorf("ProveKVM from the cache = %+v, %v; want it refused", k, err)
	}
	if k, err := ProveKVM(t.Context(), f, ProveOptions{Refresh: true}); !k.Proven || err != nil {
		t.Errorf("ProveKVM with Refresh = %+v, %v; want it proven", k, err)
	}
	if left, _ := filepath.Glob(filepath.Join(f.Dirs.Cache, ".*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// guestTimeout is for the emulator on a busy host.
const guestTimeout = time.Minute

// realFacts probes the test's own host.
func realFacts(t *testing.T) Facts {
	t.Helper()
	dirs, err := XDGDirs(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Probe(t.Context(), Options{Dirs: dirs})
	if err != nil {
		t.Fatal(err)
	}
	f.Dirs.Cache = t.TempDir()
	return f
}

// TestGuestRuns runs the tiny guest on the emulator, on which it must succeed:
// otherwise its failure on KVM would prove nothing.
func TestGuestRuns(t *testing.T) {
	env.NeedVM(t)
	f := realFacts(t)
	if !f.QEMU.Version.TCGSafe() {
		t.Skipf("QEMU %v is too old for guests without KVM", f.QEMU.Version)
	}
	start := time.Now()
	reason, err := runGuest(t.Context(), f.QEMU, "tcg", "max", guestTimeout)
	if reason != "" || err != nil {
		t.Fatalf("runGuest on TCG = %q, %v; want it to succeed", reason, err)
	}
	t.Logf("on TCG: %v", time.Since(start))
}

// TestProveKVMHere tries this host's KVM, whatever it is: the answer must come
// in time and say why.
func TestProveKVMHere(t *testing.T) {
	env.NeedVM(t)
	f := realFacts(t)
	start := time.Now()
	k, err := ProveKVM(t.Context(), f, ProveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if k.Proven != (k.Reason == "") {
		t.Errorf("ProveKVM = %+v; want either proven or a reason", k)
	}
	t.Logf("%v: %+v", time.Since(start), k)
}

// The group that a user is told to join is the one whose members may open the device.
func TestKVMGroup(t *testing.T) {
	gid := os.Getegid()
	if gid == 0 {
		gid = 4711
	}
	for _, tt := range []struct {
		name  string
		mode  os.FileMode
		gid   int
		group string // of /etc/group
		want  string
	}{
		{"udev", 0o660, gid, "kvm:x:%d:\n", "kvm"},
		{"another name", 0o660, gid, "virt:x:%d:me,you\n", "virt"},
		{"root alone", 0o600, gid, "kvm:x:%d:\n", ""},
		{"to read only", 0o640, gid, "kvm:x:%d:\n", ""},
		{"no such group, as in a container", 0o660, gid, "", ""},
		{"the group of root", 0o660, 0, "root:x:0:\nkvm:x:%d:\n", ""},
	} {
		group := tt.group
		if strings.Contains(group, "%d") {
			group = fmt.Sprintf(group, gid)
		}
		root := tree(t, map[string]string{"dev/kvm": "", "etc/group": group})
		if err := errors.Join(os.Chmod(filepath.Join(root, "dev/kvm"), tt.mode), os.Chown(filepath.Join(root, "dev/kvm"), -1, tt.gid)); err != nil {
			if os.Geteuid() != 0 && tt.gid == 0 {
				continue // for root only
			}
			t.Fatal(err)
		}
		if got := groupOf(Options{Root: root}, "/dev/kvm"); got != tt.want {
			t.Errorf("%s: the group is %q; want %q", tt.name, got, tt.want)
		}
	}
}
