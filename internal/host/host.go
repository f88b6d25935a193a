// Package host finds out what this computer can do.
//
// Probe gives Facts: plain data, as JSON in reports and as the input of plan.
// It only looks; it takes some tens of milliseconds. Whether /dev/kvm works
// cannot be looked up, only tried: ProveKVM boots a tiny guest once and caches
// the answer. Doctor turns Facts into advice, InstallQEMU fetches a QEMU that
// is good enough where the distribution's is not.
//
// The package decides nothing: which accelerator a machine uses is plan's
// choice.
package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// FactsVersion is the version of the Facts format. Fields are only added; the
// number changes when the meaning of one does.
const FactsVersion = 1

// Facts is what a probe found.
type Facts struct {
	Version  int    `json:"version"`
	Kernel   string `json:"kernel"`    // uname -r
	BootID   string `json:"boot_id"`   // changes when the host starts
	Arch     string `json:"arch"`      // as Go names it: amd64, arm64
	CPUModel string `json:"cpu_model"` // "model name" of /proc/cpuinfo
	CPUs     int    `json:"cpus"`      // those this process may use
	// CPUFingerprint is the same for CPUs that a guest cannot tell apart: a
	// hash of the model, its stepping, its microcode and its flags.
	CPUFingerprint string `json:"cpu_fingerprint"`

	MemoryBytes          int64 `json:"memory_bytes"`
	MemoryAvailableBytes int64 `json:"memory_available_bytes"` // without swapping

	// TSCKHz is the rate of the time stamp counter, 0 when it is not known to
	// be constant. A guest under TCG sees the host's counter and cannot always
	// calibrate it.
	TSCKHz int `json:"tsc_khz"`

	OS   OS   `json:"os"`
	KVM  KVM  `json:"kvm"`
	QEMU QEMU `json:"qemu"`

	// Virtualization is the CPU's flag, vmx or svm; empty when it has neither.
	Virtualization string `json:"virtualization"`

	// UserNamespaces says that a program of this user may make a user namespace
	// and has privileges in it. With AppArmorUserNS only programs that have an
	// AppArmor profile for it may (Ubuntu since 24.04; mmdebstrap has one).
	UserNamespaces bool `json:"user_namespaces"`
	AppArmorUserNS bool `json:"apparmor_user_namespaces"`
	// UserNamespacesProblem says why there are none, for people.
	UserNamespacesProblem string   `json:"user_namespaces_problem,omitempty"`
	AppArmor              AppArmor `json:"apparmor,omitzero"`

	// MachineUsers says what is wrong with the users that root's machines and builds
	// have, for people; empty when nothing is.
	MachineUsers string `json:"machine_users,omitempty"`

	// Landlock is the version of the kernel's Landlock, 0 for none. With it a
	// machine's QEMU can open nothing but its own files.
	Landlock int `json:"landlock"`

	// Images are built by mmdebstrap: as root, or in a user namespace with a
	// range of subordinate ids that newuidmap maps.
	SubUID    bool `json:"subuid"`      // the user has 65536 subordinate uids and gids
	SubIDNext int  `json:"sub_id_next"` // the first id that no range contains
	UIDMap    bool `json:"uidmap"`      // newuidmap and newgidmap are installed

	Mmdebstrap    Tool `json:"mmdebstrap"`
	MkfsExt4      Tool `json:"mkfs_ext4"`
	Npm           Tool `json:"npm"`
	DebianKeyring bool `json:"debian_keyring"` // the Debian archive's keys are installed

	// Mirrors are where this host gets packages from. They have addresses once
	// ResolveMirrors has looked.
	Mirrors []Mirror `json:"mirrors,omitempty"`

	Cgroup2 bool `json:"cgroup2"`

	// Authorities are those that this host trusts beside its distribution's.
	Authorities        []Authority `json:"authorities,omitempty"`
	AuthoritiesOmitted int         `json:"authorities_omitted,omitempty"` // over the bound

	Disk     Disk   `json:"disk"`
	Dirs     Dirs   `json:"dirs"`
	User     User   `json:"user"`
	Timezone string `json:"timezone"` // for example Europe/Zurich
}

// OS is what /etc/os-release says.
type OS struct {
	ID       string   `json:"id"`       // debian, ubuntu, fedora, …
	Like     []string `json:"like"`     // the distributions it is derived from
	Codename string   `json:"codename"` // bookworm
	Version  string   `json:"version"`  // 12
	Name     string   `json:"name"`     // for people
}

// KVM is the state of /dev/kvm. That it is present and can be opened proves
// nothing: only Proven does.
type KVM struct {
	Present  bool   `json:"present"`
	Openable bool   `json:"openable"` // by this user, for reading and writing
	Tested   bool   `json:"tested"`   // a guest was tried on this kernel, CPU and QEMU
	Proven   bool   `json:"proven"`   // and it ran to its end
	Reason   string `json:"reason"`   // why it is not usable, for people; empty when proven
	// Group is the group whose members may open it, where this user may not. It is
	// empty where the device is root's alone, as in some containers.
	Group string `json:"group,omitempty"`
}

// Tool is an external program. Path is empty when it is not installed.
type Tool struct {
	Path    string `json:"path"`
	Version string `json:"version,omitempty"` // empty when finding it out would cost a start
}

// Disk is the room for what mayfly stores, in bytes free for this user.
type Disk struct {
	DataFree  int64 `json:"data_free"`  // images, volumes
	StateFree int64 `json:"state_free"` // machines' scratch disks
	CacheFree int64 `json:"cache_free"` // downloads, templates
}

// User is who runs mayfly; a guest's user is modelled on it.
type User struct {
	Name   string  `json:"name"`
	UID    int     `json:"uid"`
	GID    int     `json:"gid"`
	Groups []Group `json:"groups"`
	Home   string  `json:"home"`
	Shell  string  `json:"shell"`
}

// Group is a group of the user. Name is empty when /etc/group has none.
type Group struct {
	Name string `json:"name"`
	GID  int    `json:"gid"`
}

// Options tell Probe where to look.
type Options struct {
	// Dirs are mayfly's own directories (XDGDirs).
	Dirs Dirs
	// Root is the directory that stands for / when files are read; empty for
	// the real one. Tests give a made one.
	Root string
	// Getenv reads the environment; nil means os.Getenv.
	Getenv func(string) string
	// Program is the file of this program, which an AppArmor profile is for.
	Program string
	// Fresh asks every program anew in place of the cache.
	Fresh bool
	// Forget keeps no answer in the cache.
	Forget bool
}

// path returns the place of an absolute path under the root.
func (o Options) path(p string) string { return filepath.Join("/", o.Root, p) }

func (o Options) env(name string) string {
	if o.Getenv != nil {
		return o.Getenv(name)
	}
	return os.Getenv(name)
}

// read returns the text of a small file, empty when it cannot be read: a fact
// that cannot be looked up is an unknown fact, not a failure.
func (o Options) read(p string) string {
	b, err := os.ReadFile(o.path(p))
	if err != nil {
		return ""
	}
	return string(b)
}

// Probe looks at the host. It starts nothing but `qemu --version`, and that only
// for a QEMU that the cache does not know; the error is ctx's. What cannot be
// found out is left zero.
func Probe(ctx context.Context, o Options) (Facts, error) {
	f := Facts{
		Version:  FactsVersion,
		Kernel:   strings.TrimSpace(o.read("/proc/sys/kernel/osrelease")),
		BootID:   strings.TrimSpace(o.read("/proc/sys/kernel/random/boot_id")),
		Arch:     runtime.GOARCH,
		OS:       parseOSRelease(o.read("/etc/os-release")),
		Dirs:     o.Dirs,
		Timezone: timezone(o),
	}

	// The only slow parts, some ms each, run beside the rest.
	var beside sync.WaitGroup
	beside.Go(func() { f.QEMU = findQEMU(ctx, o) })
	beside.Go(func() { f.Authorities, f.AuthoritiesOmitted = o.rememberedAuthorities(time.Now()) })

	cpu := parseCPUInfo(o.read("/proc/cpuinfo"))
	f.CPUModel, f.TSCKHz, f.Virtualization = cpu.model, cpu.tscKHz, cpu.virtualization
	f.CPUFingerprint = cpu.fingerprint
	f.CPUs = runtime.NumCPU() // honours the affinity mask, as /proc/cpuinfo does not
	mem := parseMemInfo(o.read("/proc/meminfo"))
	f.MemoryBytes, f.MemoryAvailableBytes = mem["MemTotal"], mem["MemAvailable"]

	f.User = probeUser(o)
	f.AppArmor = probeAppArmor(o)
	f.UserNamespaces, f.AppArmorUserNS, f.UserNamespacesProblem = userNamespaces(o, f.User, f.AppArmor)
	f.Landlock = landlockABI()
	subuid, subgid := o.read("/etc/subuid"), o.read("/etc/subgid")
	if f.User.UID == 0 {
		f.MachineUsers = machineUsers(o)
	}
	f.SubUID = hasSubIDs(subuid, f.User) && hasSubIDs(subgid, f.User)
	f.SubIDNext = max(nextSubID(subuid), nextSubID(subgid))
	f.UIDMap = findTool(o, "newuidmap").Path != "" && findTool(o, "newgidmap").Path != ""

	f.Mmdebstrap = findTool(o, "mmdebstrap")
	f.Mmdebstrap.Version = mmdebstrapVersion(f.Mmdebstrap.Path)
	f.MkfsExt4 = findTool(o, "mkfs.ext4")
	f.Npm = findTool(o, "npm")
	f.DebianKeyring = exists(o.path("/usr/share/keyrings/debian-archive-keyring.gpg")) ||
		exists(o.path("/usr/share/keyrings/debian-archive-keyring.pgp"))
	f.Cgroup2 = exists(o.path("/sys/fs/cgroup/cgroup.controllers"))

	f.Mirrors = probeMirrors(o)

	f.Disk = Disk{
		DataFree:  freeBytes(o.Dirs.Data),
		StateFree: freeBytes(o.Dirs.State),
		CacheFree: freeBytes(o.Dirs.Cache),
	}

	beside.Wait()
	if f.KVM = probeKVM(o); f.KVM.Openable {
		f.KVM = cachedProof(f)
	}
	if err := ctx.Err(); err != nil {
		return Facts{}, fmt.Errorf("probe the host: %w", err)
	}
	return f, nil
}
