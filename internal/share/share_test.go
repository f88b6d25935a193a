package share

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

func TestArgs(t *testing.T) {
	c := plan.ShareServer{Path: "/usr/lib/qemu/virtiofsd", Kind: plan.VirtiofsdC, Version: "7.2.22"}
	rust := plan.ShareServer{Path: "/usr/libexec/virtiofsd", Kind: plan.VirtiofsdRust, Version: "1.13.2"}
	old := rust
	old.Version = "1.8.0"
	for _, tt := range []struct {
		name     string
		server   plan.ShareServer
		readOnly bool
		want     string
	}{
		{"c", c, false, "-f --fd=3 -o source=/tree -o sandbox=chroot -o modcaps=-chown:-dac_override:-fowner:-fsetid:-setgid:-setuid:-mknod:-setfcap " +
			"-o cache=auto -o no_posix_lock -o no_flock -o no_xattr -o log_level=err --rlimit-nofile=0"},
		{"rust", rust, false, "--fd=3 --shared-dir=/tree --sandbox=none --seccomp=kill --cache=auto --inode-file-handles=never --log-level=error --rlimit-nofile=0"},
		{"rust, read-only", rust, true, "--fd=3 --shared-dir=/tree --sandbox=none --seccomp=kill --cache=auto --inode-file-handles=never --log-level=error --rlimit-nofile=0 --readonly"},
		{"an old rust, read-only", old, true, "--fd=3 --shared-dir=/tree --sandbox=none --seccomp=kill --cache=auto --inode-file-handles=never --log-level=error --rlimit-nofile=0"},
	} {
		if got := strings.Join(Args(tt.server, treeDir, fdListener, tt.readOnly), " "); got != tt.want {
			t.Errorf("%s: Args() =\n%s; want\n%s", tt.name, got, tt.want)
		}
	}
	// That in C has no such option: the mount is read-only.
	if d := cmp.Diff(Args(c, "/d", 5, false), Args(c, "/d", 5, true)); d != "" {
		t.Errorf("Args() of the one in C differ when read-only:\n%s", d)
	}
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]struct {
		kind    plan.VirtiofsdKind
		version string
		ok      bool
	}{
		"virtiofsd version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright (c) 2003-2022": {plan.VirtiofsdC, "7.2.22", true},
		"virtiofsd version 6.2.0 (Debian 1:6.2+dfsg-2ubuntu6.26)\n":                        {plan.VirtiofsdC, "6.2.0", true},
		"virtiofsd version 5.2.0\n":  {plan.VirtiofsdC, "5.2.0", false},
		"virtiofsd 1.14.0\n":         {plan.VirtiofsdRust, "1.14.0", true},
		"virtiofsd 1.10.0":           {plan.VirtiofsdRust, "1.10.0", true},
		"virtiofsd backend 1.7.2\n":  {plan.VirtiofsdRust, "1.7.2", true},
		"virtiofsd backend 1.4.0\n":  {plan.VirtiofsdRust, "1.4.0", false},
		"virtiofsd v1.13\n":          {plan.VirtiofsdRust, "1.13", true},
		"":                           {},
		"virtiofsd":                  {},
		"QEMU emulator version 10.0": {},
		"virtiofsd 99999.1":          {},
		strings.Repeat("x", 8<<10) + "\nvirtiofsd 1.14.0": {},
	} {
		got, err := parseVersion(text)
		if got.Kind != want.kind || got.Version != want.version || (err == nil) != want.ok {
			t.Errorf("parseVersion(%.50q) = %+v, %v; want %+v", text, got, err, want)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	for _, s := range []string{"virtiofsd version 7.2.22 (Debian)", "virtiofsd 1.14.0\n", "virtiofsd backend 1.4.0", "virtiofsd 1..2", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseVersion(text)
		if err == nil && (s.Kind != plan.VirtiofsdC && s.Kind != plan.VirtiofsdRust || strings.Trim(s.Version, "0123456789.") != "") {
			t.Errorf("parseVersion(%q) = %+v", text, s)
		}
	})
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	script := func(name, text string, perm os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), perm); err != nil {
			t.Fatal(err)
		}
		return path
	}
	old := script("old", "echo virtiofsd version 5.2.0", 0o755)
	good := script("good", "echo virtiofsd 1.13.2", 0o755)
	other := script("other", "echo hello", 0o755)
	fails := script("fails", "exit 3", 0o755)
	data := script("data", "echo virtiofsd 1.13.2", 0o644)
	link := filepath.Join(dir, "link")
	if err := os.Symlink("good", link); err != nil {
		t.Fatal(err)
	}
	want := plan.ShareServer{Path: good, Kind: plan.VirtiofsdRust, Version: "1.13.2"}
	got, err := find(t.Context(), []string{dir + "/none", dir, data, other, fails, old, link})
	if err != nil || got != want {
		t.Errorf("find() = %+v, %v; want %+v", got, err, want)
	}
	for name, tt := range map[string]struct {
		candidates []string
		want       string
		code       fault.Code
	}{
		"nothing":    {[]string{dir + "/none"}, "there is no virtiofsd", fault.VirtiofsdMissing},
		"one is old": {[]string{dir + "/none", old}, "5.2.0 is too old", fault.VirtiofsdUnusable},
	} {
		if _, err := find(t.Context(), tt.candidates); err == nil || !strings.Contains(err.Error(), tt.want) || fault.CodeOf(err) != tt.code {
			t.Errorf("%s: find() = %v; want %q and %s", name, err, tt.want, tt.code)
		}
	}
}
