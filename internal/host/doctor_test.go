package host

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// laptop is a host that lacks nothing.
func laptop() Facts {
	return Facts{
		Version: FactsVersion, Kernel: "6.12.107+deb13-amd64", Arch: "amd64", CPUModel: "Fast CPU", CPUs: 8,
		MemoryBytes: 16 << 30, MemoryAvailableBytes: 9 << 30, Virtualization: "vmx",
		OS:             OS{ID: "debian", Codename: "trixie", Version: "13", Name: "Debian GNU/Linux 13 (trixie)"},
		KVM:            KVM{Present: true, Openable: true, Tested: true, Proven: true},
		QEMU:           QEMU{Path: "/usr/bin/qemu-system-x86_64", Version: Version{10, 0, 2}},
		UserNamespaces: true, Landlock: 6, SubUID: true, SubIDNext: 165536, UIDMap: true,
		Mmdebstrap: Tool{"/usr/bin/mmdebstrap", "1.5.7"}, MkfsExt4: Tool{Path: "/usr/sbin/mkfs.ext4"}, Npm: Tool{Path: "/usr/bin/npm"},
		DebianKeyring: true,
		Disk:          Disk{80 << 30, 80 << 30, 80 << 30},
		Dirs:          Dirs{Data: "/home/me/.local/share/mayfly", State: "/home/me/.local/state/mayfly", Cache: "/home/me/.cache/mayfly"},
		User:          User{Name: "me", UID: 1000, GID: 1000},
	}
}

// What only some machines need never makes a computer unhealthy.
func TestCheckShareServer(t *testing.T) {
	found := ShareServer{Path: "/usr/libexec/virtiofsd", Version: "1.13.2", Language: "Rust"}
	missing := ShareServer{Problem: errors.New("there is no virtiofsd on this computer")}
	old := ShareServer{Problem: errors.Join(errors.New("/a: too old"), errors.New("/b: too old"))}
	const purpose = `; only needed for live directories, as workspace.mode = "share" and --share make them`
	for _, tt := range []struct {
		name   string
		server ShareServer
		change func(*Facts)
		want   Check
	}{
		{"found", found, func(*Facts) {}, Check{Status: OK, Detail: "1.13.2 in Rust, /usr/libexec/virtiofsd"}},
		{"missing", missing, func(*Facts) {}, Check{Status: Warn, Detail: "there is no virtiofsd on this computer" + purpose,
			Fix: "sudo apt-get install --no-install-recommends virtiofsd"}},
		{"missing where it is QEMU's", missing, func(f *Facts) { f.OS.Codename = "bookworm" }, Check{Status: Warn,
			Detail: "there is no virtiofsd on this computer" + purpose, Fix: "sudo apt-get install --no-install-recommends qemu-system-common"}},
		{"missing elsewhere", missing, func(f *Facts) { f.OS = OS{} }, Check{Status: Warn, Detail: "there is no virtiofsd on this computer" + purpose}},
		{"unusable", old, func(f *Facts) { f.OS = OS{} }, Check{Status: Warn, Detail: "/a: too old; /b: too old" + purpose}},
		{"no namespaces", found, func(f *Facts) { f.UserNamespaces = false }, Check{Status: Warn,
			Detail: "1.13.2 in Rust, /usr/libexec/virtiofsd: a normal user cannot confine it, since there are no user namespaces" + purpose}},
		{"root needs none", found, func(f *Facts) { f.UserNamespaces, f.User = false, User{Name: "root"} }, Check{Status: OK, Detail: "1.13.2 in Rust, /usr/libexec/virtiofsd"}},
	} {
		f := laptop()
		tt.change(&f)
		tt.want.Name = "virtiofsd"
		if got := CheckShareServer(f, tt.server); got != tt.want || !Healthy([]Check{got}) {
			t.Errorf("%s: CheckShareServer() = %+v; want %+v", tt.name, got, tt.want)
		}
	}
}

func TestDoctor(t *testing.T) {
	bookworm := OS{ID: "debian", Codename: "bookworm", Version: "12", Name: "Debian GNU/Linux 12 (bookworm)"}
	ubuntu := OS{ID: "ubuntu", Like: []string{"debian"}, Codename: "noble", Version: "24.04", Name: "Ubuntu 24.04 LTS"}
	trap := KVM{Present: true, Openable: true, Tested: true, Reason: "a test guest hung before the switch to long mode"}
	tests := []struct {
		name   string
		change func(*Facts)
	}{
		{"laptop", func(*Facts) {}},
		{"root", func(f *Facts) { f.User, f.SubUID, f.UIDMap = User{Name: "root"}, false, false }},
		{"not-in-group-kvm", func(f *Facts) { f.KVM = KVM{Present: true, Reason: "/dev/kvm: permission denied", Group: "kvm"} }},
		{"kvm-of-root-alone", func(f *Facts) { f.KVM = KVM{Present: true, Reason: "/dev/kvm: permission denied"} }},
		{"no-kvm-module", func(f *Facts) { f.KVM = KVM{Reason: "/dev/kvm does not exist"} }},
		{"no-kvm-in-vm", func(f *Facts) { f.KVM, f.Virtualization = KVM{Reason: "/dev/kvm does not exist"}, "" }},
		{"kvm-untried", func(f *Facts) { f.KVM = KVM{Present: true, Openable: true, Reason: "not tried yet"} }},
		{"bookworm-old-qemu-kvm", func(f *Facts) { f.OS, f.QEMU.Version = bookworm, Version{7, 2, 22} }},
		{"bookworm-old-qemu-trap", func(f *Facts) { f.OS, f.QEMU.Version, f.KVM = bookworm, Version{7, 2, 22}, trap }},
		{"bookworm-broken-private-qemu", func(f *Facts) {
			f.OS, f.QEMU.Version, f.QEMU.Problem = bookworm, Version{7, 2, 22}, "/x/qemu: start it: exit status 127"
		}},
		{"jammy-old-qemu", func(f *Facts) {
			f.OS, f.KVM, f.QEMU.Version = OS{ID: "ubuntu", Like: []string{"debian"}, Codename: "jammy", Name: "Ubuntu 22.04"}, trap, Version{6, 2, 0}
		}},
		{"ubuntu-bare", func(f *Facts) {
			*f = Facts{Arch: "amd64", OS: ubuntu, AppArmorUserNS: true, SubIDNext: 100000,
				KVM: KVM{Reason: "/dev/kvm does not exist"}, QEMU: QEMU{Problem: "qemu-system-x86_64 is not installed"},
				Dirs: f.Dirs, User: f.User}
		}},
		{"apparmor", func(f *Facts) {
			f.OS, f.UserNamespaces, f.AppArmorUserNS = ubuntu, false, true
			f.UserNamespacesProblem, f.AppArmor = "AppArmor gives them to programs with a profile only", AppArmor{Restricts: true, Program: "/usr/bin/mayfly"}
		}},
		{"apparmor-users-program", func(f *Facts) {
			f.OS, f.UserNamespaces, f.AppArmorUserNS = ubuntu, false, true
			f.UserNamespacesProblem = "AppArmor gives them to programs with a profile only"
			f.AppArmor = AppArmor{Restricts: true, Program: "/home/me/my bin/mayfly", Problem: "/home/me/my bin/mayfly is not root's"}
		}},
		{"apparmor-profile", func(f *Facts) {
			f.OS, f.AppArmor = ubuntu, AppArmor{Restricts: true, Profile: true, Program: "/usr/bin/mayfly"}
		}},
		{"no-namespaces-no-landlock", func(f *Facts) {
			f.UserNamespaces, f.Landlock, f.UserNamespacesProblem = false, 0, "user.max_user_namespaces is 0"
		}},
		{"root-without-namespaces", func(f *Facts) {
			f.User, f.UserNamespaces, f.UserNamespacesProblem = User{Name: "root"}, false, "user.max_user_namespaces is 0"
		}},
		{"root-of-a-container", func(f *Facts) {
			f.User, f.UserNamespaces = User{Name: "root"}, false
			f.UserNamespacesProblem = "this root has not the right to make namespaces (CAP_SYS_ADMIN), as in a container"
		}},
		{"old-landlock", func(f *Facts) { f.Landlock = 2 }},
		{"older-landlock-and-root", func(f *Facts) {
			f.Landlock, f.User, f.MachineUsers = 4, User{Name: "root"}, "/etc/subuid gives some of them to bob, who could reach into machines of root's"
		}},
		{"fedora-bare", func(f *Facts) {
			*f = Facts{Arch: "amd64", OS: OS{ID: "fedora", Name: "Fedora Linux 43"}, SubIDNext: 100000,
				KVM: KVM{Reason: "/dev/kvm does not exist"}, QEMU: QEMU{Problem: "qemu-system-x86_64 is not installed"},
				Dirs: f.Dirs, User: f.User}
		}},
		{"unknown-arm", func(f *Facts) {
			f.Arch, f.OS, f.KVM, f.QEMU = "arm64", OS{}, KVM{Present: true, Openable: true, Reason: "there is no guest to prove it with on arm64"}, QEMU{Problem: "qemu-system-aarch64 is not installed"}
		}},
		{"disk-nearly-full", func(f *Facts) { f.Disk = Disk{3 << 30, 100 << 20, 1 << 30} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := laptop()
			tt.change(&f)
			var b strings.Builder
			checks := Doctor(f)
			for _, c := range checks {
				fmt.Fprintf(&b, "%-4s %s: %s\n", c.Status, c.Name, c.Detail)
				if c.Fix != "" {
					fmt.Fprintf(&b, "     fix: %s\n", c.Fix)
				}
				if c.Name == "" || c.Detail == "" || c.Status == OK && c.Fix != "" {
					t.Errorf("incomplete check %+v", c)
				}
			}
			fmt.Fprintf(&b, "healthy: %v\n", Healthy(checks))
			golden := filepath.Join("testdata", "doctor", tt.name+".txt")
			if *update {
				if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("Doctor (-want +got); go test -run Doctor -update writes it anew:\n%s", diff)
			}
		})
	}
}
