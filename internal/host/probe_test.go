package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree makes a directory of files; a name that ends in * is executable and a
// text that begins with -> is a symbolic link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		name, executable := strings.CutSuffix(name, "*")
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if executable {
			mode = 0o755
		}
		var err error
		if target, link := strings.CutPrefix(text, "->"); link {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(text), mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// fakeQEMU is a program that answers --version.
func fakeQEMU(version string) string {
	return fmt.Sprintf("#!/bin/sh\necho 'QEMU emulator version %s (made up)'\n", version)
}

func TestProbe(t *testing.T) {
	uid, gid := os.Geteuid(), os.Getegid()
	root := tree(t, map[string]string{
		"proc/sys/kernel/osrelease":         "6.12.1-test\n",
		"proc/sys/kernel/random/boot_id":    "b-o-o-t\n",
		"proc/sys/user/max_user_namespaces": "100\n",
		"proc/cpuinfo":                      "processor\t: 0\nmodel name\t: Fast CPU\nflags\t\t: fpu constant_tsc nonstop_tsc svm\nbogomips\t: 4200.00\n\nprocessor\t: 1\nmodel name\t: Slow CPU\nbogomips\t: 1.00\n",
		"proc/meminfo":                      "MemTotal:       8000000 kB\nMemFree: 1 kB\nMemAvailable:   4000000 kB\nHugePages_Total: 0\n",
		"etc/os-release":                    "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n",
		"etc/localtime":                     "->/usr/share/zoneinfo/Europe/Zurich",
		"etc/passwd":                        fmt.Sprintf("x:x:12345678:1:::\nme:x:%d:%d:Me,,,:/home/me:/bin/zsh\n", uid, gid),
		"etc/group":                         fmt.Sprintf("mine:x:%d:\n", gid),
		"etc/subuid":                        "other:100000:65536\nme:165536:65536\n",
		"etc/subgid":                        fmt.Sprintf("%d:165536:65536\n", uid),
		"usr/bin/newuidmap*":                "",
		"usr/bin/newgidmap*":                "",
		"usr/bin/mmdebstrap*":               "#!/usr/bin/perl\n#\nour $VERSION = '1.3.5';\n",
		"usr/bin/npm":                       "not executable",
		"usr/sbin/mkfs.ext4*":               "",
		"usr/share/keyrings/debian-archive-keyring.gpg": "",
		"usr/bin/qemu-system-x86_64*":                   fakeQEMU("7.2.22"),
		"usr/bin/qemu-system-aarch64*":                  fakeQEMU("7.2.22"),
	})
	env := map[string]string{"PATH": "relative:/usr/bin", "HOME": "/home/me"}
	o := Options{Root: root, Getenv: func(k string) string { return env[k] }, Dirs: Dirs{Data: filepath.Join(root, "data")}}
	got, err := Probe(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got.Disk.DataFree <= 0 || got.CPUs <= 0 || len(got.User.Groups) == 0 || got.User.Groups[0] != (Group{"mine", gid}) {
		t.Errorf("Probe = %+v", got)
	}
	// What is the test's host's and not the tree's.
	got.Disk, got.CPUs, got.User.Groups, got.Landlock = Disk{}, 0, nil, 0
	if len(got.CPUFingerprint) != 16 {
		t.Errorf("CPUFingerprint = %q; want 16 digits", got.CPUFingerprint)
	}
	got.CPUFingerprint = ""
	want := Facts{
		Version: 1, Kernel: "6.12.1-test", BootID: "b-o-o-t", Arch: got.Arch, CPUModel: "Fast CPU",
		MemoryBytes: 8000000 << 10, MemoryAvailableBytes: 4000000 << 10, TSCKHz: 2100000,
		OS:             OS{ID: "debian", Codename: "bookworm", Version: "12", Name: "Debian GNU/Linux 12 (bookworm)"},
		KVM:            KVM{Reason: "/dev/kvm does not exist"},
		QEMU:           QEMU{Path: filepath.Join(root, "usr/bin", qemuBinary()), Version: Version{7, 2, 22}, Build: "QEMU emulator version 7.2.22 (made up)"},
		Virtualization: "svm",
		UserNamespaces: true, SubUID: true, SubIDNext: 231072, UIDMap: true,
		Mmdebstrap:    Tool{filepath.Join(root, "usr/bin/mmdebstrap"), "1.3.5"},
		MkfsExt4:      Tool{Path: filepath.Join(root, "usr/sbin/mkfs.ext4")},
		DebianKeyring: true,
		Dirs:          o.Dirs,
		User:          User{Name: "me", UID: uid, GID: gid, Home: "/home/me", Shell: "/bin/zsh"},
		Timezone:      "Europe/Zurich",
	}
	// The binary is under the made root's usr/bin and so counts as unpacked there,
	// without firmware beside it.
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Probe (-want +got):\n%s", diff)
	}
}

// TestProbeNothing probes a host of which nothing is known.
func TestProbeNothing(t *testing.T) {
	f, err := Probe(t.Context(), Options{Root: t.TempDir(), Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	if f.TSCKHz != 0 || f.QEMU.Path != "" || f.QEMU.Problem == "" || f.Timezone != "UTC" || f.User.Name == "" || f.User.Shell == "" || f.KVM.Present {
		t.Errorf("Probe = %+v", f)
	}
}

func TestTSCKHz(t *testing.T) {
	tests := []struct {
		flags, bogomips string
		want            int
	}{
		{"constant_tsc nonstop_tsc", "4200.00", 2100000},
		{"constant_tsc nonstop_tsc", "5199.99", 2599995},
		{"constant_tsc", "4200.00", 0},
		{"nonstop_tsc", "4200.00", 0},
		{"constant_tsc nonstop_tsc", "", 0},
		{"constant_tsc nonstop_tsc", "NaN", 0},
		{"constant_tsc nonstop_tsc", "1e300", 0},
		{"constant_tsc nonstop_tsc", "-1", 0},
	}
	for _, tt := range tests {
		text := "model name : x\nflags : " + tt.flags + "\nbogomips : " + tt.bogomips + "\n"
		if got := parseCPUInfo(text).tscKHz; got != tt.want {
			t.Errorf("tscKHz of %q = %d; want %d", text, got, tt.want)
		}
	}
}

func TestUserNamespaces(t *testing.T) {
	const limit, clone, appArmor = "proc/sys/user/max_user_namespaces", "proc/sys/kernel/unprivileged_userns_clone", "proc/sys/kernel/apparmor_restrict_unprivileged_userns"
	me, root := User{UID: 1000}, User{}
	tests := []struct {
		files            map[string]string
		user             User
		usable, appArmor bool
	}{
		{nil, me, false, false},
		{map[string]string{limit: "100\n", appArmor: "1\n", "proc/self/attr/apparmor/current": "mayfly (unconfined)\n"}, me, true, false},
		{map[string]string{limit: "100\n", appArmor: "1\n", "proc/self/attr/current": "mayfly (unconfined)\n"}, me, true, false},
		{map[string]string{limit: "100\n", appArmor: "1\n", "proc/self/attr/apparmor/current": "unconfined\n"}, me, false, true},
		{map[string]string{limit: "0\n", appArmor: "1\n", "proc/self/attr/apparmor/current": "mayfly (unconfined)\n"}, me, false, false},
		{map[string]string{limit: "100\n", clone: "0\n", appArmor: "1\n", "proc/self/attr/apparmor/current": "mayfly (unconfined)\n"}, me, false, false},
		{map[string]string{limit: "0\n"}, me, false, false},
		{map[string]string{limit: "100\n"}, me, true, false},
		{map[string]string{limit: "100\n", clone: "0\n"}, me, false, false},
		{map[string]string{limit: "100\n", clone: "0\n"}, root, true, false},
		{map[string]string{limit: "100\n", "proc/self/status": "Name:\tx\nCapEff:\t000001ffffffffff\n"}, root, true, false},
		{map[string]string{limit: "100\n", "proc/self/status": "CapEff:\t00000000a80425fb\n"}, root, false, false}, // Docker's
		{map[string]string{limit: "100\n", "proc/self/status": "CapEff:\t0000000000000000\n"}, me, true, false},
		{map[string]string{limit: "100\n", clone: "1\n", appArmor: "1\n"}, me, false, true},
		{map[string]string{limit: "100\n", appArmor: "1\n"}, root, true, false},
		{map[string]string{limit: "100\n", appArmor: "0\n"}, me, true, false},
	}
	for _, tt := range tests {
		o := Options{Root: tree(t, tt.files)}
		usable, appArmor, problem := userNamespaces(o, tt.user, probeAppArmor(o))
		if usable != tt.usable || appArmor != tt.appArmor || (problem == "") != usable {
			t.Errorf("userNamespaces(%v, uid %d) = %v, %v, %q; want %v, %v", tt.files, tt.user.UID, usable, appArmor, problem, tt.usable, tt.appArmor)
		}
	}
}

// The users that root's machines have are to be nobody else's.
func TestMachineUsers(t *testing.T) {
	for _, tt := range []struct {
		files map[string]string
		want  string // a part of it
	}{
		{nil, ""},
		{map[string]string{"proc/self/uid_map": "0 0 4294967295\n", "proc/self/gid_map": "0 0 4294967295\n", "etc/subuid": "me:100000:65536\nold:524288:1879000000\n", "etc/passwd": "me:x:1000:1000::/:/bin/sh\n"}, ""},
		{map[string]string{"proc/self/uid_map": "0 100000 65536\n"}, "root of a container"},
		{map[string]string{"proc/self/uid_map": "0 0 4294967295\n", "proc/self/gid_map": "0 0 1900000001\n"}, "root of a container"},
		{map[string]string{"etc/subuid": "me:100000:65536\nbob:1899999999:2\n"}, "/etc/subuid gives some of them to bob"},
		{map[string]string{"etc/subuid": "bob:1899999999:1\nbob:1908454144:65536\n"}, ""},
		{map[string]string{"etc/subgid": "bob:1904259839:65536\n"}, "/etc/subgid gives some of them to bob"},
		{map[string]string{"etc/passwd": "eve:x:1900000007:1::/:/bin/sh\n"}, "/etc/passwd has one of them as eve"},
		{map[string]string{"etc/group": "eve:x:1900000000:\n"}, "/etc/group has one of them as eve"},
		{map[string]string{"etc/subuid": "bob:x:1\nbob\n:::\nbob:-1:99999999999\n", "etc/passwd": "a:b\n\n"}, ""},
	} {
		if got := machineUsers(Options{Root: tree(t, tt.files)}); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("machineUsers(%q) = %q; want %q", tt.files, got, tt.want)
		}
	}
}

func TestTimezone(t *testing.T) {
	tests := []struct {
		files map[string]string
		want  string
	}{
		{nil, "UTC"},
		{map[string]string{"etc/localtime": "->../usr/share/zoneinfo/America/Argentina/Buenos_Aires"}, "America/Argentina/Buenos_Aires"},
		{map[string]string{"etc/timezone": "Etc/GMT+5\n"}, "Etc/GMT+5"},
		{map[string]string{"etc/timezone": "../../etc/shadow\n"}, "UTC"},
		{map[string]string{"etc/localtime": "->/usr/share/zoneinfo/../../x"}, "UTC"},
		{map[string]string{"etc/localtime": "a copy", "etc/timezone": "Asia/Tokyo\n"}, "Asia/Tokyo"},
	}
	for _, tt := range tests {
		if got := timezone(Options{Root: tree(t, tt.files)}); got != tt.want {
			t.Errorf("timezone of %v = %q; want %q", tt.files, got, tt.want)
		}
	}
}

func TestFindQEMU(t *testing.T) {
	q := qemuBinary()
	root := tree(t, map[string]string{
		"bin/" + q + "*":                                   fakeQEMU("7.2.22"),
		"data/qemu/9.0.0/usr/bin/" + q + "*":               fakeQEMU("9.0.0"),
		"data/qemu/10.0.2/usr/bin/" + q + "*":              fakeQEMU("10.0.2"),
		"data/qemu/10.0.2/usr/share/qemu/x":                "",
		"data/qemu/10.0.2/usr/share/seabios/x":             "",
		"data/qemu/10.0.2/usr/lib/x86_64-linux-gnu/qemu/x": "",
		"data/qemu/11.0.0.tmp/usr/bin/" + q + "*":          fakeQEMU("11.0.0"),
		"broken/qemu/12.0.0/usr/bin/" + q + "*":            "#!/bin/sh\necho 'libfdt.so.1: cannot open' >&2; exit 127\n",
		"mine/qemu*":                                       fakeQEMU("8.2.0"),
		"bad*":                                             "#!/bin/sh\necho hello\n",
	})
	in := func(p string) string { return filepath.Join(root, p) }
	tests := []struct {
		name, env, data, path string
		want                  QEMU
	}{
		{"the newest private one", "", "data", "/bin", QEMU{
			Path: in("data/qemu/10.0.2/usr/bin/" + q), Version: Version{10, 0, 2},
			DataDirs:  []string{in("data/qemu/10.0.2/usr/share/qemu"), in("data/qemu/10.0.2/usr/share/seabios")},
			ModuleDir: in("data/qemu/10.0.2/usr/lib/x86_64-linux-gnu/qemu"),
		}},
		{"PATH", "", "none", "/bin", QEMU{Path: in("bin/" + q), Version: Version{7, 2, 22}}},
		{"a private one that does not start", "", "broken", "/bin", QEMU{Path: in("bin/" + q), Version: Version{7, 2, 22},
			Problem: in("broken/qemu/12.0.0/usr/bin/"+q) + ": start it: exit status 127: libfdt.so.1: cannot open"}},
		{"the variable", in("mine/qemu"), "data", "/bin", QEMU{Path: in("mine/qemu"), Version: Version{8, 2, 0}}},
		{"the variable, no such file", in("no"), "data", "/bin", QEMU{Problem: "MAYFLY_QEMU=" + in("no") + ": start it: fork/exec " + in("no") + ": no such file or directory"}},
		{"the variable, not QEMU", in("bad"), "data", "/bin", QEMU{Problem: "MAYFLY_QEMU=" + in("bad") + `: parse the output of --version: no QEMU version in "hello\n"`}},
		{"none", "", "none", "/none", QEMU{Problem: q + " is not installed"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := map[string]string{"PATH": tt.path, QEMUVariable: tt.env}
			got := findQEMU(t.Context(), Options{Root: root, Dirs: Dirs{Data: in(tt.data)}, Getenv: func(k string) string { return env[k] }})
			got.Build = ""
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("findQEMU (-want +got):\n%s", diff)
			}
		})
	}
}

func TestXDGDirs(t *testing.T) {
	env := map[string]string{"HOME": "/home/me", "XDG_DATA_HOME": "/data", "XDG_CACHE_HOME": "relative"}
	got, err := XDGDirs(func(k string) string { return env[k] })
	want := Dirs{"/home/me/.config/mayfly", "/data/mayfly", "/home/me/.local/state/mayfly", "/home/me/.cache/mayfly"}
	if got != want || err != nil {
		t.Errorf("XDGDirs = %+v, %v; want %+v", got, err, want)
	}
	if _, err := XDGDirs(func(string) string { return "" }); err == nil {
		t.Error("XDGDirs without HOME = nil; want an error")
	}
}
