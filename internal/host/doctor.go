package host

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/confine"
	"github.com/mayfly-vm/mayfly/internal/shellquote"
)

// Status is the outcome of a check.
type Status string

// A warning is for what works, but worse than it could; a failure for what
// does not work.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Check is one line of `mayfly doctor`.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"` // the command that closes the gap, if there is one
}

// Healthy reports whether no check failed.
func Healthy(checks []Check) bool {
	for _, c := range checks {
		if c.Status == Fail {
			return false
		}
	}
	return true
}

// Doctor says what the facts mean for mayfly. It only judges; f.KVM should be
// the answer of ProveKVM.
func Doctor(f Facts) []Check {
	checks := []Check{
		checkArch(f),
		checkQEMU(f),
		checkKVM(f),
		checkMemory(f),
		checkDisk("disk (data)", f.Dirs.Data, f.Disk.DataFree, 4<<30),
		checkDisk("disk (state)", f.Dirs.State, f.Disk.StateFree, 2<<30),
		checkDisk("disk (cache)", f.Dirs.Cache, f.Disk.CacheFree, 1<<30),
		checkTool(f, "mmdebstrap", f.Mmdebstrap, Fail, "builds images"),
		checkKeyring(f),
		checkTool(f, "mkfs.ext4", f.MkfsExt4, Fail, "makes machines' disks"),
		checkLandlock(f),
		checkTool(f, "npm", f.Npm, Warn, "fetches coding agents; images without one need it not"),
	}
	checks = append(checks, checkNamespaces(f))
	if f.User.UID == 0 {
		return append(checks, checkMachineUsers(f))
	}
	return append(checks, checkUIDMap(f), checkSubIDs(f))
}

// ShareServer is the virtiofsd of this computer. It is no fact, since it is looked for
// only where it is needed.
type ShareServer struct {
	Path, Version string
	Language      string // in which it is written: there are two programs of that name
	Problem       error  // why there is none that can be used, or nil
}

// CheckShareServer judges it. It never fails: most machines have no live directories.
func CheckShareServer(f Facts, s ShareServer) Check {
	const purpose = "only needed for live directories, as workspace.mode = \"share\" and --share make them"
	c := Check{Name: "virtiofsd", Status: OK, Detail: fmt.Sprintf("%s in %s, %s", s.Version, s.Language, s.Path)}
	switch {
	case s.Problem != nil:
		c.Status, c.Fix = Warn, f.OS.install(f.OS.shareServer())
		c.Detail = strings.ReplaceAll(s.Problem.Error(), "\n", "; ") + "; " + purpose
	case f.User.UID != 0 && !f.UserNamespaces:
		c.Status = Warn
		c.Detail += ": a normal user cannot confine it, since there are no user namespaces; " + purpose
	}
	return c
}

func checkArch(f Facts) Check {
	c := Check{Name: "host", Status: OK}
	c.Detail = fmt.Sprintf("%s, Linux %s, %d × %s", cmp.Or(f.OS.Name, "unknown distribution"), f.Kernel, f.CPUs, cmp.Or(f.CPUModel, f.Arch))
	if f.Arch != "amd64" {
		c.Status = Fail
		c.Detail += "; machines run on amd64 only"
	}
	return c
}

func checkQEMU(f Facts) Check {
	q := f.QEMU
	c := Check{Name: "qemu", Status: OK}
	c.Detail = fmt.Sprintf("%v, %s", q.Version, q.Path)
	switch {
	case q.Path == "":
		c.Status, c.Detail = Fail, q.Problem
	case f.NeedsQEMU():
		c.Status = Fail
		c.Detail += ": " + q.Version.TCGUnsafeReason()
	case !q.Version.AtLeast(7, 2, 0):
		c.Status = Warn
		c.Detail += ": older than 7.2.0, which the network of machines needs (-netdev stream)"
	case q.Problem != "":
		c.Status = Warn
		c.Detail += "; passed over: " + q.Problem
	case !q.Version.TCGSafe():
		c.Detail += " (good enough with KVM only)"
	}
	switch {
	case c.Status == OK:
	case q.Path == "":
		// Also where a newer one must follow: this brings the libraries.
		c.Fix = f.OS.install("qemu")
	case f.NeedsQEMU() && f.CanInstallQEMU():
		c.Fix = "mayfly doctor --fix"
	case !q.Version.AtLeast(7, 2, 0) || f.NeedsQEMU():
		c.Detail += "; set " + QEMUVariable + " to the qemu-system-x86_64 of a newer one"
	}
	return c
}

func checkKVM(f Facts) Check {
	k := f.KVM
	c := Check{Name: "kvm", Status: OK, Detail: "a test guest ran on it"}
	if k.Proven {
		return c
	}
	c.Status = Warn
	c.Detail = cmp.Or(k.Reason, "not proven to work") + "; machines run emulated, several times slower"
	switch {
	case k.Present && !k.Openable && k.Group != "":
		c.Fix = "sudo usermod -aG " + k.Group + " " + f.User.Name + " # then log in again"
	case k.Present && !k.Openable:
		c.Fix = "sudo chmod 666 /dev/kvm # no group may open it"
	case k.Openable && !k.Tested && f.Arch == "amd64" && f.QEMU.Path != "":
		c.Fix = "mayfly doctor --refresh"
	case !k.Present && f.Virtualization == "vmx":
		c.Fix = "sudo modprobe kvm_intel # or switch it on in the firmware's set-up"
	case !k.Present && f.Virtualization == "svm":
		c.Fix = "sudo modprobe kvm_amd # or switch it on in the firmware's set-up"
	case !k.Present:
		c.Detail += "; the CPU, or the virtual machine that this is, does not offer virtualization"
	}
	return c
}

func checkMemory(f Facts) Check {
	c := Check{Name: "memory", Status: OK}
	c.Detail = fmt.Sprintf("%s available of %s", size(f.MemoryAvailableBytes), size(f.MemoryBytes))
	if f.MemoryAvailableBytes < 2<<30 {
		c.Status = Warn
		c.Detail += "; a machine with its 2 GiB may not fit"
	}
	return c
}

// checkDisk warns below enough and fails below an eighth of it.
func checkDisk(name, dir string, free, enough int64) Check {
	c := Check{Name: name, Status: OK, Detail: fmt.Sprintf("%s free for %s", size(free), dir)}
	switch {
	case free < enough/8:
		c.Status = Fail
	case free < enough:
		c.Status = Warn
	}
	if c.Status != OK {
		c.Detail += fmt.Sprintf("; %s are wanted", size(enough))
		c.Fix = "mayfly gc"
	}
	return c
}

func checkTool(f Facts, name string, t Tool, missing Status, purpose string) Check {
	if t.Path == "" {
		return Check{Name: name, Status: missing, Detail: "not installed; " + purpose, Fix: f.OS.install(name)}
	}
	return Check{Name: name, Status: OK, Detail: strings.TrimSpace(t.Version + " " + t.Path)}
}

func checkKeyring(f Facts) Check {
	c := Check{Name: "debian keys", Status: OK, Detail: "installed"}
	if !f.DebianKeyring {
		c.Status = Fail
		c.Detail = "the Debian archive's keys are not installed; they verify what images are built of"
		c.Fix = f.OS.install("debian keys")
	}
	return c
}

// The versions of Landlock that close something more, userspace-api/landlock.rst.
const (
	landlockTCP     = 4
	landlockSignals = 6
)

func checkLandlock(f Facts) Check {
	c := Check{Name: "landlock", Status: OK}
	c.Detail = fmt.Sprintf("version %d: QEMU and the supervisor of a ready machine can open nothing but their own files", f.Landlock)
	switch {
	case f.Landlock == 0:
		c.Status = Warn
		c.Detail = "not in this kernel (5.13 or newer, and in its list of security modules): the supervisor of a ready machine can open what its user can, and so can QEMU where it has no namespaces"
	case f.Landlock < landlockTCP:
		c.Detail += "; it does not know ports (Linux 6.7) and signals (6.12), which other walls close"
	case f.Landlock < landlockSignals:
		c.Detail += "; it does not know signals (Linux 6.12), which the filter of system calls closes"
	}
	return c
}

// asRoot is what root does itself without namespaces.
const asRoot = "; supervisors stay root, and the scripts of packages in an image's build run as root with all its rights"

// checkNamespaces says whether QEMU is in namespaces of its own, and what is left where it
// is not.
func checkNamespaces(f Facts) Check {
	c := Check{Name: "user namespaces", Status: OK, Detail: "allowed: QEMU has a root, processes and a network of its own"}
	if f.UserNamespaces {
		if f.AppArmor.Profile {
			c.Detail += ", by the AppArmor profile " + profileName
		}
		return c
	}
	c.Status = Warn
	left := "QEMU runs without namespaces of its own, behind Landlock and its filter of system calls"
	if f.Landlock == 0 {
		left = "QEMU runs without namespaces of its own and without Landlock; only its filter of system calls is left"
	}
	c.Detail = cmp.Or(f.UserNamespacesProblem, "not allowed by the kernel's settings") + ": " + left
	switch program := cmp.Or(f.AppArmor.Program, "mayfly"); {
	case f.AppArmorUserNS && f.AppArmor.Problem == "":
		c.Detail += "; there are no live shares; the fix gives mayfly a profile"
		c.Fix = "sudo " + program + " doctor --fix"
	case f.AppArmorUserNS:
		c.Detail += "; there are no live shares; a profile is for a program that only root can change, and " + f.AppArmor.Problem
		c.Fix = "sudo install -m 755 " + shellquote.Word(program) + " /usr/local/bin/mayfly && sudo /usr/local/bin/mayfly doctor --fix"
	case f.User.UID == 0 && strings.Contains(c.Detail, "CAP_SYS_ADMIN"): // the container's affair
		c.Detail += asRoot
	default:
		if f.User.UID != 0 {
			c.Status = Fail
			c.Detail += "; building images as a normal user needs them, and so do live shares"
		} else {
			c.Detail += asRoot
		}
		c.Fix = "sudo sysctl -e -w user.max_user_namespaces=15000 kernel.unprivileged_userns_clone=1"
	}
	return c
}

// checkMachineUsers judges the users of what root starts.
func checkMachineUsers(f Facts) Check {
	c := Check{Name: "machines' users", Status: OK}
	c.Detail = fmt.Sprintf("QEMU and supervisors run as users %d to %d, one each, and so do builds; ranges of systemd and of useradd are elsewhere",
		confine.FirstUser, confine.LastUser)
	switch {
	case !f.UserNamespaces:
		c.Detail = "none is used without namespaces"
	case f.MachineUsers != "":
		c.Status = Warn
		c.Detail = fmt.Sprintf("users %d to %d: %s", confine.FirstUser, confine.LastUser, f.MachineUsers)
	}
	return c
}

func checkUIDMap(f Facts) Check {
	c := Check{Name: "newuidmap", Status: OK, Detail: "installed"}
	if !f.UIDMap {
		c.Status = Fail
		c.Detail = "newuidmap and newgidmap are not installed; building images as a normal user needs them"
		c.Fix = f.OS.install("newuidmap")
	}
	return c
}

func checkSubIDs(f Facts) Check {
	c := Check{Name: "subordinate ids", Status: OK, Detail: "the user has a range"}
	if !f.SubUID {
		first, last := f.SubIDNext, f.SubIDNext+subIDCount-1
		c.Status = Fail
		c.Detail = fmt.Sprintf("/etc/subuid and /etc/subgid give %s no range of %d; building images as a normal user needs one", f.User.Name, subIDCount)
		c.Fix = fmt.Sprintf("sudo usermod --add-subuids %d-%d --add-subgids %[1]d-%[2]d %[3]s", first, last, f.User.Name)
	}
	return c
}

// packages are the distributions' names for what mayfly needs.
var packages = []struct {
	os      string
	command string
	names   map[string]string
}{
	{"debian", "sudo apt-get install --no-install-recommends", map[string]string{
		"qemu": "qemu-system-x86", "mmdebstrap": "mmdebstrap", "mkfs.ext4": "e2fsprogs", "npm": "npm",
		"debian keys": "debian-archive-keyring", "newuidmap": "uidmap", "virtiofsd": "virtiofsd", "virtiofsd in C": "qemu-system-common"}},
	{"fedora", "sudo dnf install", map[string]string{
		"qemu": "qemu-system-x86-core", "mmdebstrap": "mmdebstrap", "mkfs.ext4": "e2fsprogs", "npm": "nodejs-npm",
		"debian keys": "debian-keyring", "newuidmap": "shadow-utils", "virtiofsd": "virtiofsd"}},
	{"arch", "sudo pacman -S", map[string]string{
		"qemu": "qemu-system-x86", "mmdebstrap": "mmdebstrap", "mkfs.ext4": "e2fsprogs", "npm": "npm",
		"debian keys": "debian-archive-keyring", "newuidmap": "shadow", "virtiofsd": "virtiofsd"}},
	{"suse", "sudo zypper install", map[string]string{
		"qemu": "qemu-x86", "mmdebstrap": "mmdebstrap", "mkfs.ext4": "e2fsprogs", "npm": "npm-default",
		"debian keys": "debian-keyring", "newuidmap": "shadow", "virtiofsd": "virtiofsd"}},
}

// shareServer returns which of the two programs of the name virtiofsd the distribution
// has, as packages calls it.
func (o OS) shareServer() string {
	if o.Codename == "bookworm" || o.Codename == "jammy" {
		return "virtiofsd in C"
	}
	return "virtiofsd"
}

// install returns the distribution's command that installs what is called name
// in packages; empty for a distribution that is not known.
func (o OS) install(name string) string {
	for _, p := range packages {
		if o.Is(p.os) {
			return p.command + " " + p.names[name]
		}
	}
	return ""
}

// size prints bytes as people read them.
func size(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
