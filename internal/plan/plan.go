// Package plan turns what the user wrote and what the host can do into what
// will happen.
//
// It is pure: no disk, no network, no clock. A Plan is versioned JSON; it is
// what --dry-run prints, what is saved beside the machine, and what the image
// store, the driver and the supervisor work from. They read no config.toml, no
// profile and no mayfly.toml. What they still read of the host is for their own
// work: the lock file of coding agents, where apt and npm get packages from, the
// name servers and the time zone.
package plan

import (
	"path/filepath"
	"slices"

	"github.com/mayfly-vm/mayfly/internal/agentsettings"
)

// Version is the version of the Plan's JSON. Fields are only ever added to
// one version.
const Version = 2

// Plan is everything that is decided about one machine before anything is
// done for it.
type Plan struct {
	Version   int       `json:"version"`
	Name      string    `json:"name"` // lower-case letters, digits and hyphens, at most 63 bytes
	Machine   Machine   `json:"machine"`
	Template  Template  `json:"template"`
	Image     Image     `json:"image"`
	Guest     Guest     `json:"guest"`
	Workspace Workspace `json:"workspace"`
	Volumes   []Volume  `json:"volumes,omitempty"` // parents before what is mounted below them
	Keep      *Keep     `json:"keep,omitempty"`    // nil for a machine that leaves nothing behind
	// Shares are the host's directories that are live in the guest, and
	// ShareServer is what serves them; nil without any.
	Shares      []Share      `json:"shares,omitempty"`
	ShareServer *ShareServer `json:"share_server,omitempty"`
	Network     Network      `json:"network"`
	// Disk bounds the scratch disk in bytes; 0 for DefaultDisk.
	Disk  int64    `json:"disk,omitempty"`
	Notes []string `json:"notes,omitempty"` // one line each, for the user: what was chosen by itself and why
}

// Accelerator is how the CPU of a machine is made.
type Accelerator string

// The accelerators. TCG emulates every instruction and needs QEMU >= 8.1.1.
const (
	KVM Accelerator = "kvm"
	TCG Accelerator = "tcg"
)

// Machine is the virtual hardware. The set of devices is not here: it is the
// same fixed slots for every machine, so that a saved boot fits all of them.
type Machine struct {
	Accelerator Accelerator `json:"accelerator"`
	Reason      string      `json:"reason"` // why this accelerator
	VCPUs       int         `json:"vcpus"`
	MemoryMiB   int         `json:"memory_mib"`
	TSCKHz      int         `json:"tsc_khz,omitempty"`      // TCG only: the host's TSC rate, 0 when unknown
	HostCPU     string      `json:"host_cpu"`               // what a saved guest has seen of it: another one must not restore it
	BootSeconds int         `json:"boot_seconds,omitempty"` // the guest must answer by then; 0 for a bound fit for the accelerator

	Engine Engine `json:"engine"`
}

// Template says whether the machine begins from a saved boot, and from which.
type Template struct {
	Use    bool   `json:"use"`
	Reason string `json:"reason,omitempty"` // why not
	Dir    string `json:"dir,omitempty"`    // where saved boots are kept
	// Copy gives the machine a copy of the saved memory in place of mapping
	// it copy-on-write, which QEMU can safely since 8.2.
	Copy bool `json:"copy,omitempty"`
	// Prewarm are shell commands that are run before the boot is saved.
	Prewarm []string `json:"prewarm,omitempty"`
}

// EngineQEMU is the Engine.Name of QEMU.
const EngineQEMU = "qemu"

// Engine is the virtual machine monitor that was chosen, and where its files are.
type Engine struct {
	Name      string   `json:"name"` // EngineQEMU
	Path      string   `json:"path"`
	Version   string   `json:"version"`
	Build     string   `json:"build"`                // what it says of itself, with the distribution's version of it
	DataDirs  []string `json:"data_dirs,omitempty"`  // QEMU's -L, in this order; empty for the built-in ones
	ModuleDir string   `json:"module_dir,omitempty"` // QEMU_MODULE_DIR
	Isolate   bool     `json:"isolate"`              // own user, network and IPC namespaces around it
}

// Image is what a machine's root file system and kernel are made of. Two plans
// with equal Images share every layer.
type Image struct {
	Base     string   `json:"base"`               // "debian:trixie"
	Packages []string `json:"packages,omitempty"` // on top of the base's own; sorted, no duplicates
	Agents   []string `json:"agents,omitempty"`   // names in the agents' lock file; sorted, no duplicates
	Init     string   `json:"init,omitempty"`     // InitSystemd, or "" for mayfly's own
}

// InitSystemd is the Image.Init of machines whose process 1 is systemd.
const InitSystemd = "systemd"

// Equal reports whether both are made of the same.
func (i Image) Equal(o Image) bool {
	return i.Base == o.Base && i.Init == o.Init && slices.Equal(i.Packages, o.Packages) && slices.Equal(i.Agents, o.Agents)
}

// Guest is who works in the machine and how it looks to them.
type Guest struct {
	Hostname string            `json:"hostname"`
	User     User              `json:"user"`
	Timezone string            `json:"timezone,omitempty"` // "Europe/Zurich"; empty for UTC
	Locale   string            `json:"locale"`             // "C.UTF-8"
	Env      map[string]string `json:"env,omitempty"`
	// ShellInit is what shells begin with, after the user's own files; what
	// it exports, every command gets.
	ShellInit string `json:"shell_init,omitempty"`
	// Dotfiles are directories of the host, absolute, whose files appear in the
	// home, read-only; of the last that has a file of a name.
	Dotfiles []string `json:"dotfiles,omitempty"`
	// Settings are the user's own settings of the image's coding agents that come along; nil
	// for none.
	Settings *agentsettings.Set `json:"settings,omitempty"`
	// AgentSilent leaves coding agents untold what the machine is and may reach.
	AgentSilent bool `json:"agent_silent,omitempty"`
	// Git are settings of git's for all users, such as user.name: who commits.
	Git map[string]string `json:"git,omitempty"`
	// Unsigned are the settings that make git sign on the host, and that are off in the
	// machine, which has no keys.
	Unsigned []string `json:"unsigned,omitempty"`
}

// HasDotfiles reports whether the machine has a disk with files of the user's own.
func (g Guest) HasDotfiles() bool { return len(g.Dotfiles) > 0 || g.Settings != nil }

// User is the guest's only human user. It is never root, whoever runs mayfly.
type User struct {
	Name   string  `json:"name"`
	UID    int     `json:"uid"`
	GID    int     `json:"gid"`
	Groups []Group `json:"groups,omitempty"` // supplementary; gid 0 is never among them
	Home   string  `json:"home"`             // absolute
	Shell  string  `json:"shell"`            // a program's name, such as "zsh", looked up in the image
}

// Group is one supplementary group.
type Group struct {
	Name string `json:"name"`
	GID  int    `json:"gid"`
}

// Workspace is the directory that the machine works on.
type Workspace struct {
	Path    string   `json:"path"` // absolute, the same on the host and in the guest; "" for none
	Mode    string   `json:"mode"` // ModeCopy or ModeShare
	Exclude []string `json:"exclude,omitempty"`
	// Link is the path by which the user knows the directory, where that is another: a
	// symbolic link in the guest.
	Link string `json:"link,omitempty"`
}

// Keep is what a machine with a name of its own has beyond one start.
type Keep struct {
	Dir string `json:"dir"` // absolute
	// Agents is the directory in the guest where agents keep their files.
	Agents string `json:"agents"`
	// History is that of the histories of shells; empty where they are not kept.
	History string `json:"history,omitempty"`
}

// Volume is a disk of the machine's that outlives its stops.
type Volume struct {
	Name    string `json:"name"`
	Mount   string `json:"mount"` // absolute
	SizeMiB int    `json:"size_mib"`
}

// The modes of a workspace: a private copy, or one of the plan's Shares.
const (
	ModeCopy  = "copy"
	ModeShare = "share"
)

// Copied reports whether there is a workspace of which the machine has a copy.
func (w Workspace) Copied() bool { return w.Path != "" && w.Mode != ModeShare }

// Dir returns the directory in which commands start.
func (p *Plan) Dir() string {
	if p.Workspace.Path != "" {
		return p.Workspace.Path
	}
	return filepath.Clean(p.Guest.User.Home)
}

// DiskSize is the virtual size in bytes of every disk of every machine. The
// files are sparse. One size for all lets any file take any slot of a saved
// boot: the capacity in the saved device state stays true.
const DiskSize = 64 << 30

// Bounds of what a guest can write to its scratch disk, in bytes. The disk is DiskSize long
// to the guest, and the host refuses what lies beyond its bound.
const (
	DefaultDisk = 32 << 30
	MinDisk     = 1 << 30
	DiskStep    = 128 << 20 // ext4's groups of blocks have this size
)

// DiskSlots is the number of disks that every machine has, used or not.
const DiskSlots = 8

// The use of the slots.
const (
	SlotScratch    = 0 // ext4: upper directories of the root and of the workspace
	SlotFirstLayer = 1 // EROFS, top layer first
	MaxLayers      = 4
	SlotWorkspace  = 5 // EROFS
	SlotDotfiles   = 6 // EROFS
)

// KeptDisks returns the number of disks that the machine has beyond its slots: one for
// what a machine with a name keeps by itself, and its volumes.
func (p *Plan) KeptDisks() int {
	if p.Keep == nil {
		return 0
	}
	return 1 + len(p.Volumes)
}

// MaxKeptDisks bounds KeptDisks: they are the functions of one PCI device.
const MaxKeptDisks = 8
