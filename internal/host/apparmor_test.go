package host

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/test/env"
)

// A profile is for a file that only root can change, whichever link leads there.
func TestProbeAppArmor(t *testing.T) {
	env.NeedRoot(t)
	const user = 1234
	for _, tt := range []struct {
		name    string
		change  func(root string) error
		program string
		problem string // a part of it
	}{
		{"root's", nil, "/usr/bin/mayfly", ""},
		{"a link to root's", func(root string) error { return os.Symlink("../../usr/bin/mayfly", root+"/home/me/mayfly") }, "/home/me/mayfly", ""},
		{"a user's", nil, "/home/me/bin/mayfly", "/home/me/bin/mayfly is not root's"},
		{"root's in a user's directory", func(root string) error { return os.Chown(root+"/home/me/bin/mayfly", 0, 0) }, "/home/me/bin/mayfly", "/home/me/bin is not root's"},
		{"for a group", func(root string) error {
			return errors.Join(os.Chown(root+"/usr/bin", 0, 50), os.Chmod(root+"/usr/bin", 0o775))
		}, "/usr/bin/mayfly", "others than root can write to /usr/bin"},
		{"for root's group", func(root string) error { return os.Chmod(root+"/usr/bin", 0o775) }, "/usr/bin/mayfly", ""},
		{"for all", func(root string) error { return os.Chmod(root+"/usr/bin/mayfly", 0o757) }, "/usr/bin/mayfly", "others than root can write to /usr/bin/mayfly"},
		{"a sticky directory", func(root string) error { return os.Chmod(root+"/usr", 0o777|os.ModeSticky) }, "/usr/bin/mayfly", "others than root can write to /usr"},
		{"a pattern", func(root string) error { return os.Rename(root+"/usr/bin/mayfly", root+"/usr/bin/may{fly}*") }, "/usr/bin/may{fly}*", "characters that a profile cannot name"},
		{"a line", func(root string) error { return os.Rename(root+"/usr/bin/mayfly", root+"/usr/bin/may\nfly") }, "/usr/bin/may\nfly", "characters that a profile cannot name"},
		{"a directory", nil, "/usr/bin", "/usr/bin is no file"},
		{"nothing", nil, "/usr/bin/other", "not known"},
		{"unknown", nil, "", "not known"},
	} {
		root := tree(t, map[string]string{"usr/bin/mayfly*": "", "home/me/bin/mayfly*": "", strings.TrimPrefix(restrictedFile, "/"): "1\n"})
		err := errors.Join(os.Chmod(root, 0o755), os.Chown(root+"/home/me/bin", user, user), os.Chown(root+"/home/me/bin/mayfly", user, user))
		for _, dir := range []string{"/usr", "/usr/bin", "/home", "/home/me", "/home/me/bin", "/usr/bin/mayfly"} {
			err = errors.Join(err, os.Chmod(root+dir, 0o755))
		}
		if tt.change != nil {
			err = errors.Join(err, tt.change(root))
		}
		if err != nil {
			t.Fatal(err)
		}
		a := probeAppArmor(Options{Root: root, Program: tt.program})
		if !a.Restricts || a.Profile || (a.Problem == "") != (tt.problem == "") || !strings.Contains(a.Problem, tt.problem) {
			t.Errorf("%s: probeAppArmor() = %+v; want the problem %q", tt.name, a, tt.problem)
		}
		if tt.problem == "" && a.Program != "/usr/bin/mayfly" {
			t.Errorf("%s: the program is %q; want its real path", tt.name, a.Program)
		}
	}
	if a := probeAppArmor(Options{Root: t.TempDir(), Program: "/usr/bin/mayfly"}); a != (AppArmor{}) {
		t.Errorf("probeAppArmor() without AppArmor = %+v; want nothing", a)
	}
}

func TestInstallProfile(t *testing.T) {
	good := AppArmor{Restricts: true, Program: "/usr/bin/mayfly"}
	const file = "etc/apparmor.d/mayfly"
	for _, tt := range []struct {
		name   string
		files  map[string]string
		a      AppArmor
		load   error
		want   fault.Code
		failed bool
		left   string // in the file afterwards, a part
	}{
		{"new", map[string]string{profileABI: ""}, good, nil, "", false, "profile mayfly /usr/bin/mayfly flags=(unconfined) {\n  userns,\n"},
		{"again", map[string]string{profileABI: "", file: profile("/old")}, good, nil, "", false, "/usr/bin/mayfly"},
		{"somebody's", map[string]string{profileABI: "", file: "profile mayfly {}"}, good, nil, fault.AppArmorForeign, true, "profile mayfly {}"},
		{"old", map[string]string{"etc/apparmor.d/abi/3.0": ""}, good, nil, fault.AppArmorOld, true, ""},
		{"a user's program", map[string]string{profileABI: ""}, AppArmor{Restricts: true, Program: "/home/me/mayfly", Problem: "/home/me is not root's"}, nil, fault.AppArmorProgram, true, ""},
		{"not loaded", map[string]string{profileABI: ""}, good, errors.New("parser error"), "", true, ""},
	} {
		root := tree(t, tt.files)
		_, err := installProfile(t.Context(), tt.a, root, func(_ context.Context, path string) error {
			if data, err := os.ReadFile(path); err != nil || string(data) != profile(tt.a.Program) {
				t.Errorf("%s: loads %q, %v; want the profile", tt.name, data, err)
			}
			return tt.load
		})
		if (err != nil) != tt.failed || fault.CodeOf(err) != tt.want {
			t.Errorf("%s: installProfile() = %v, %q; want %q", tt.name, err, fault.CodeOf(err), tt.want)
		}
		data, err := os.ReadFile(filepath.Join(root, file))
		if tt.left == "" && !os.IsNotExist(err) || !strings.Contains(string(data), tt.left) {
			t.Errorf("%s: the profile's file has %q, %v; want %q", tt.name, data, err, tt.left)
		}
	}
}

// AppArmor's own compiler takes the profile. It needs no AppArmor in the kernel.
func TestProfileCompiles(t *testing.T) {
	parser, err := exec.LookPath("apparmor_parser")
	if err != nil {
		t.Skip("there is no apparmor_parser")
	}
	if _, err := os.Stat(profileABI); err != nil {
		t.Skip("apparmor_parser is older than 4.0")
	}
	file := filepath.Join(t.TempDir(), "mayfly")
	compile := func(text string) (string, error) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(parser, "--skip-kernel-load", "--skip-cache", "--warn=all", file).CombinedOutput()
		return string(out), err
	}
	if out, err := compile(profile("/usr/local/bin/mayfly")); err != nil {
		t.Errorf("apparmor_parser: %v\n%s", err, out)
	}
	if out, err := compile(strings.ReplaceAll(profile("/usr/local/bin/mayfly"), "userns,", "usernamespaces,")); err == nil {
		t.Errorf("apparmor_parser takes any rule: %s", out)
	}
}
