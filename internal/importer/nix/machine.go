package nix

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Machine is what a machine's file says.
type Machine struct {
	Name      string
	Profiles  []string
	VCPUs     int // 0: not set
	MemoryMiB int // 0: not set
	Autostart bool
	Packages  []string // Debian's names
	Workspace string   // "": no share was one; shared live, at the same path
	Shares    []Share
	Volumes   []Volume
	Mode      string // of the network: "none", "user", "bridge"
	Address   string // "192.168.83.6/24"
	MAC       string
	Shell     string // "": not set, or set by a profile
	ShellInit string
	Env       map[string]string // as in a file: $HOME is a variable
}

// Share is a live directory.
type Share struct {
	Source, Path string // Path may be as Source
	ReadOnly     bool
}

// Volume is a disk.
type Volume struct {
	Name, Mount string
	SizeMiB     int
}

// What a machine's file can say.
const (
	maxVCPUs     = 255
	minMemoryMiB = 256
	maxMemoryMiB = 1 << 20
	maxList      = 256
	maxPath      = 1024
)

// importer is one machine in the making.
type importer struct {
	Machine
	autostart option[bool]
	nixos     guest
	user      string // "": not known
	home      *home  // home-manager's options of the user, or nil
	dir       string // the user's home directory; "": not known
	notes     []Note
}

func newImporter(name string, v vm) *importer {
	return &importer{
		Machine:   Machine{Name: name, Autostart: true, Env: make(map[string]string)}, // microvm.nix starts what does not say
		autostart: v.Autostart,
		nixos:     v.Config.value,
	}
}

func (m *importer) read() {
	if name, ok := take(m, "networking.hostName", m.nixos.Networking.HostName); ok && name != m.Name {
		m.note(Dropped, "networking.hostName is %s; a machine is called as its file", quote(name))
	}
	if on, ok := take(m, "autostart", m.autostart); ok {
		m.Autostart = on
	}
	m.findUser()
	m.readSize()
	m.readNetwork()
	m.readVolumes()
	m.readShares()
	m.readPackages()
	m.readShell()
}

func (m *importer) readSize() {
	if cpus, ok := take(m, "microvm.vcpu", m.nixos.Microvm.VCPU); ok && (cpus < 1 || cpus > maxVCPUs) {
		m.note(Warning, "microvm.vcpu is %d; a machine has between 1 and %d", cpus, maxVCPUs)
	} else {
		m.VCPUs = cpus
	}
	if mem, ok := take(m, "microvm.mem", m.nixos.Microvm.Mem); ok && (mem < minMemoryMiB || mem > maxMemoryMiB) {
		m.note(Warning, "microvm.mem is %d MiB; a machine has between 256 MiB and 1 TiB", mem)
	} else {
		m.MemoryMiB = mem
	}
}

// findUser finds the user whose home directory and shell the machine has.
func (m *importer) findUser() {
	homes, users := m.nixos.Homes.Users, slices.Sorted(maps.Keys(m.nixos.Users.Users))
	switch names := slices.Sorted(maps.Keys(homes)); {
	case len(names) > 0:
		if len(names) > 1 {
			m.note(Warning, "home-manager.users has %d users; a machine has one, and %s was taken", len(names), quote(names[0]))
		}
		m.user = names[0]
		h := homes[m.user]
		m.home = &h
		m.dir, _ = take(m, "home.homeDirectory", h.Home.HomeDirectory)
	case len(users) == 1:
		m.user = users[0]
	default:
		return
	}
	account, _ := take(m, "users.users."+m.user, m.nixos.Users.Users[m.user])
	if m.dir == "" {
		m.dir = account.Home
	}
	if m.dir == "" {
		m.dir = "/home/" + m.user
	}
	if path.Clean(m.dir) != m.dir || m.dir[0] != '/' || m.dir == "/" {
		m.note(Warning, "%s is no home directory", quote(m.dir))
		m.dir = ""
	}
}

// account returns the user's options in NixOS.
func (m *importer) account() user { return m.nixos.Users.Users[m.user].value }

// below returns what of p is below the user's home directory, with a slash before it.
func (m *importer) below(p string) (string, bool) {
	rest, ok := strings.CutPrefix(p, m.dir)
	return rest, ok && m.dir != "" && (rest == "" || rest[0] == '/')
}

// tilde writes a path below the user's home directory with ~: whoever imports the
// machine need not have the same name.
func (m *importer) tilde(p string) string {
	if rest, ok := m.below(p); ok {
		return "~" + rest
	}
	return p
}

// isPath reports whether a machine's file may hold p as a directory.
func (m *importer) isPath(p, what string) bool {
	ok := strings.HasPrefix(p, "/") && path.Clean(p) == p && len(p) <= maxPath &&
		termsafe.Is(p) && !strings.ContainsAny(p, ":,")
	if !ok {
		m.note(Warning, "%s is %s, which is no directory that a machine can have", what, quote(p))
	}
	return ok
}
