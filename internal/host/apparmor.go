package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/fault"
)

// AppArmor is what it means for mayfly. Ubuntu since 24.04 lets a normal user's program
// make user namespaces only if it has a profile that says so.
type AppArmor struct {
	Restricts bool `json:"restricts,omitempty"` // the kernel is told to do that
	Profile   bool `json:"profile,omitempty"`   // this program has such a profile
	// Program is the file that would get one. Problem says why it must not, empty if
	// it may. Both are known where AppArmor restricts.
	Program string `json:"program,omitempty"`
	Problem string `json:"problem,omitempty"`
}

// profileName is the name of mayfly's profile, and of its file.
const profileName = "mayfly"

const (
	profileFile    = "/etc/apparmor.d/" + profileName
	profileABI     = "/etc/apparmor.d/abi/4.0" // parsers before version 4 do not know the rule
	profileMark    = "# Written by mayfly doctor --fix."
	restrictedFile = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
)

// probeAppArmor looks what AppArmor does. Its program is o.Program.
func probeAppArmor(o Options) AppArmor {
	if strings.TrimSpace(o.read(restrictedFile)) != "1" {
		return AppArmor{}
	}
	a := AppArmor{Restricts: true}
	// The kernel's older place is the only one on some.
	label := cmp.Or(o.read("/proc/self/attr/apparmor/current"), o.read("/proc/self/attr/current"))
	name, _, _ := strings.Cut(strings.TrimRight(label, "\x00\n"), " ")
	a.Profile = name == profileName
	program, err := filepath.EvalSymlinks(o.path(o.Program))
	if o.Program == "" || err != nil {
		a.Problem = "its file is not known"
		return a
	}
	a.Program = strings.TrimPrefix(program, strings.TrimSuffix(o.path("/"), "/"))
	if err := onlyRootChanges(o.path("/"), a.Program); err != nil {
		a.Problem = err.Error()
	}
	return a
}

// plainPath matches paths in which AppArmor finds no pattern.
var plainPath = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^/[A-Za-z0-9_./+=-]+$`) })

// onlyRootChanges returns an error if somebody else than root can put another program at
// path, which is below root. A profile is for a path: who can change what is there gives
// the profile's right to any program.
func onlyRootChanges(root, path string) error {
	if !plainPath().MatchString(path) {
		return fmt.Errorf("its path %q has characters that a profile cannot name", path)
	}
	for p := path; ; p = filepath.Dir(p) {
		fi, err := os.Lstat(filepath.Join(root, p))
		if err != nil {
			return err
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		switch {
		case !ok || st.Uid != 0:
			return fmt.Errorf("%s is not root's", p)
		case fi.Mode()&0o002 != 0 || fi.Mode()&0o020 != 0 && st.Gid != 0:
			return fmt.Errorf("others than root can write to %s", p)
		case p == path && !fi.Mode().IsRegular():
			return fmt.Errorf("%s is no file", p)
		}
		if p == "/" {
			return nil
		}
	}
}

// profile returns the text of the profile for program. A profile that is unconfined limits
// nothing: all that it does is to allow user namespaces.
func profile(program string) string {
	return profileMark + ` It lets mayfly make user namespaces, by which it confines
# what it starts, and changes nothing else. It is for a file that only root can change.

abi <abi/4.0>,
include <tunables/global>

profile ` + profileName + " " + program + ` flags=(unconfined) {
  userns,

  # Additions of this computer.
  include if exists <local/mayfly>
}
`
}

// InstallProfile gives this program an AppArmor profile by which it may make user
// namespaces, and returns the profile's file. It needs root.
func InstallProfile(ctx context.Context, f Facts) (string, error) {
	return installProfile(ctx, f.AppArmor, "/", loadProfile)
}

func installProfile(ctx context.Context, a AppArmor, root string, load func(ctx context.Context, file string) error) (string, error) {
	if a.Problem != "" {
		return "", fault.New(fault.AppArmorProgram, fault.Args{"program": a.Program, "reason": a.Problem},
			"give mayfly an AppArmor profile: it would let every program of a user make user namespaces, since %s", a.Problem)
	}
	if _, err := os.Stat(filepath.Join(root, profileABI)); err != nil {
		return "", fault.New(fault.AppArmorOld, nil, "give mayfly an AppArmor profile: AppArmor's programs here are too old for it: %w", err)
	}
	file := filepath.Join(root, profileFile)
	old, err := os.ReadFile(file)
	if err == nil && !strings.HasPrefix(string(old), profileMark) || err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fault.New(fault.AppArmorForeign, fault.Args{"file": file}, "give mayfly an AppArmor profile: %s is there, and is not mayfly's own", file)
	}
	if err := atomicfile.Write(file, []byte(profile(a.Program)), 0o644); err != nil {
		return "", fmt.Errorf("give mayfly an AppArmor profile: %w", err)
	}
	if err := load(ctx, file); err != nil {
		// One that cannot be loaded would be in the way of all others at the next start.
		return "", errors.Join(fmt.Errorf("give mayfly an AppArmor profile: %w", err), os.Remove(file))
	}
	return file, nil
}

// loadProfile tells the kernel of a profile.
func loadProfile(ctx context.Context, file string) error {
	out, err := exec.CommandContext(ctx, "apparmor_parser", "--replace", "--write-cache", "--skip-read-cache", file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("apparmor_parser: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
