package nix

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
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
	maxMachines  = 256
	maxVolumes   = 7
	minVolumeMiB = 16
	maxVolumeMiB = 64 << 10
	maxList      = 256
	maxPath      = 1024
)

var machineName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// imported returns modules that are the values of files.
func (ev *evaluator) imported(files []string) []*thunk {
	var all []*thunk
	for _, name := range files {
		all = append(all, &thunk{run: func() (value, error) { return ev.importFile(pos{}, name) }})
	}
	return all
}

// host returns a reader of what modules, which are of any kind, set for the host.
func (ev *evaluator) host(roots []*thunk) *reader {
	return &reader{modules: &modules{ev: ev, shallow: true, roots: roots}}
}

// machines returns the machines that modules define together.
func (ev *evaluator) machines(roots []*thunk) ([]Machine, error) {
	host := ev.host(roots)
	if err := host.load(); err != nil {
		return nil, err
	}
	var all []Machine
	for _, name := range host.names("microvm", "vms") {
		ev.machine = ""
		if !machineName.MatchString(name) {
			ev.note(pos{}, Warning, "microvm.vms.%s: %s is no name for a machine", name, quote(name))
			continue
		}
		if len(all) == maxMachines {
			return nil, fmt.Errorf("%w: more than %d machines", errLimit, maxMachines)
		}
		ev.machine = name
		m, ok, err := ev.one(host, name)
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, m)
		}
	}
	return all, host.err
}

// one reads one machine.
func (ev *evaluator) one(host *reader, name string) (Machine, bool, error) {
	m, err := ev.importer(host, name)
	if err != nil {
		return Machine{}, false, err
	}
	if m == nil {
		ev.note(pos{}, Unknown, "microvm.vms.%s has no config: one that comes from a flake cannot be read", name)
		return Machine{}, false, nil
	}
	listed := false
	for _, t := range host.list("microvm", "autostart") {
		if s, o, err := ev.stringArg(t.place(pos{}), t); err == nil && o == nil && s == name {
			listed = true
		}
	}
	m.Autostart = true // what microvm.nix does when nothing is said
	if on, _, ok := get[bool](host, "microvm", "vms", name, "autostart"); ok {
		m.Autostart = on || listed
	} else {
		ev.note(pos{}, Warning, "microvm.vms.%s does not set autostart: like microvm.nix, systemd starts the machine", name)
	}
	if host.err == nil {
		m.read()
	}
	if m.VCPUs > 255 {
		ev.note(pos{}, Warning, "microvm.vcpu is %d; a machine has at most 255", m.VCPUs)
		m.VCPUs = 0
	}
	return m.Machine, true, m.firstError(host)
}

// importer returns what reads one machine, or nil if nothing is set for it.
func (ev *evaluator) importer(host *reader, name string) (*importer, error) {
	defs, err := host.definitions("microvm", "vms", name, "config")
	if err != nil || len(defs) == 0 {
		return nil, err
	}
	nixos := &reader{modules: &modules{ev: ev, args: host.specialArgs("microvm", "vms", name, "specialArgs")}}
	for _, d := range defs {
		nixos.roots = append(nixos.roots, ready(d.value))
	}
	return &importer{ev: ev, nixos: nixos, Machine: Machine{Name: name, Env: make(map[string]string)}}, nil
}

// specialArgs returns the arguments that a set of modules gets in addition.
func (r *reader) specialArgs(path ...string) map[string]*thunk {
	defs, err := r.definitions(path...)
	if !r.keep(err) {
		return nil
	}
	args := make(map[string]*thunk)
	for _, d := range defs {
		if set, ok := d.value.(*attrs); ok {
			for name, t := range set.fields {
				args[name] = t
			}
		}
	}
	return args
}

// importer is one machine in the making.
type importer struct {
	Machine
	ev    *evaluator
	nixos *reader
	home  *reader // home-manager's options of the user, or nil
	user  string  // "": not known
	dir   string  // the user's home directory; "": not known
}

func (m *importer) firstError(host *reader) error {
	for _, r := range []*reader{host, m.nixos, m.home} {
		if r != nil && r.err != nil {
			return r.err
		}
	}
	return nil
}

func (m *importer) read() {
	if name, at, ok := m.nixos.text("networking", "hostName"); ok && name != m.Name {
		m.ev.note(at, Dropped, "networking.hostName is %s; a machine is called as its file", quote(name))
	}
	m.findUser()
	m.VCPUs, _, _ = m.nixos.number("microvm", "vcpu")
	memory, at, ok := m.nixos.number("microvm", "mem")
	if ok && memory < 256 || memory > 1<<20 {
		m.ev.note(at, Warning, "microvm.mem is %d MiB; a machine has between 256 MiB and 1 TiB", memory)
	} else {
		m.MemoryMiB = memory
	}
	m.readNetwork()
	m.readVolumes()
	m.readShares()
	m.readPackages()
	m.readShell()
	if !m.ev.picked {
		m.reportRest()
	}
}

// findUser finds the user whose home directory and shell the machine has.
func (m *importer) findUser() {
	users := m.nixos.names("home-manager", "users")
	if len(users) > 1 {
		m.ev.note(pos{}, Warning, "home-manager.users has %d users; a machine has one, and %s was taken", len(users), quote(users[0]))
	}
	if len(users) > 0 {
		m.user = users[0]
		defs, err := m.nixos.definitions("home-manager", "users", m.user)
		if !m.nixos.keep(err) {
			return
		}
		m.home = &reader{modules: &modules{ev: m.ev, args: m.nixos.specialArgs("home-manager", "extraSpecialArgs")}}
		for _, d := range defs {
			m.home.roots = append(m.home.roots, ready(d.value))
		}
		m.dir, _, _ = m.home.text("home", "homeDirectory")
	} else if users := m.nixos.names("users", "users"); len(users) == 1 {
		m.user = users[0]
	}
	if m.user == "" {
		return
	}
	if m.dir == "" {
		m.dir, _, _ = m.nixos.text("users", "users", m.user, "home")
	}
	if m.dir == "" {
		m.dir = "/home/" + m.user
	}
	if path.Clean(m.dir) != m.dir || !strings.HasPrefix(m.dir, "/") || m.dir == "/" {
		m.ev.note(pos{}, Warning, "%s is no home directory", quote(m.dir))
		m.dir = ""
	}
}

// tilde writes a path below the user's home directory with ~: whoever imports the
// machine need not have the same name.
func (m *importer) tilde(p string) string {
	if m.dir != "" && (p == m.dir || strings.HasPrefix(p, m.dir+"/")) {
		return "~" + strings.TrimPrefix(p, m.dir)
	}
	return p
}

func (m *importer) readNetwork() {
	interfaces := m.nixos.list("microvm", "interfaces")
	if len(interfaces) > 1 {
		m.ev.note(interfaces[1].place(pos{}), Dropped, "microvm.interfaces has %d; a machine has one, and the first was taken", len(interfaces))
	}
	if len(interfaces) == 0 {
		m.Mode = "none"
		return
	}
	card := m.nixos.record(interfaces[0])
	defer func() { m.nixos.keep(card.err) }()
	kind, at, _ := card.text("type")
	if kind == "user" {
		m.Mode = "user"
		return
	}
	m.Mode = "bridge"
	if kind != "tap" {
		m.ev.note(at, Warning, "microvm.interfaces has one of type %s; the machine gets a port of mayfly's bridge in its place", quote(kind))
	}
	if id, at, ok := card.text("id"); ok {
		m.ev.note(at, Dropped, "the interface's id %s: mayfly names taps itself", quote(id))
	}
	if mac, at, ok := card.text("mac"); ok {
		hw, err := net.ParseMAC(mac)
		if err != nil || len(hw) != 6 || hw[0]&1 != 0 {
			m.ev.note(at, Warning, "the MAC address is %s, which is no single card's", quote(mac))
		} else {
			m.MAC = hw.String()
		}
	}
	m.readAddress()
}

// readAddress finds the address that the guest gives itself.
func (m *importer) readAddress() {
	var prefix netip.Prefix
	take := func(text string, at pos) {
		p, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			m.ev.note(at, Warning, "the address is %s; it needs the length of its network's prefix, as in \"192.168.83.6/24\"", quote(text))
		case !p.Addr().Is4():
			m.ev.note(at, Dropped, "the address %s: machines on the bridge have an IPv4 address", p)
		case prefix.IsValid() && p != prefix:
			m.ev.note(at, Dropped, "the address %s: a machine has one, and %s was taken", p, prefix)
		default:
			prefix = p
			m.Address = p.String()
		}
	}
	for _, name := range m.nixos.names("systemd", "network", "networks") {
		n := []string{"systemd", "network", "networks", name}
		for _, t := range m.nixos.list(append(slices.Clip(n), "address")...) {
			if s, ok := m.text(t, "an address"); ok {
				take(s, t.place(pos{}))
			}
		}
		for _, t := range m.nixos.list(append(slices.Clip(n), "addresses")...) {
			one := m.nixos.record(t)
			if s, at, ok := one.text("Address"); ok {
				take(s, at)
			} else if s, at, ok := one.text("addressConfig", "Address"); ok {
				take(s, at)
			}
			m.nixos.keep(one.err)
		}
		for _, t := range m.words(append(slices.Clip(n), "networkConfig", "Address")...) {
			if s, ok := m.text(t, "an address"); ok {
				take(s, t.place(pos{}))
			}
		}
		for _, t := range m.nixos.list(append(slices.Clip(n), "routes")...) {
			one := m.nixos.record(t)
			gateway, at, _ := one.text("Gateway")
			m.nixos.keep(one.err)
			m.checkGateway(gateway, at, prefix)
		}
		for _, key := range [][]string{{"gateway"}, {"networkConfig", "Gateway"}} {
			for _, t := range m.words(append(slices.Clip(n), key...)...) {
				if s, ok := m.text(t, "a gateway"); ok {
					m.checkGateway(s, t.place(pos{}), prefix)
				}
			}
		}
	}
	for _, name := range m.nixos.names("networking", "interfaces") {
		for _, t := range m.nixos.list("networking", "interfaces", name, "ipv4", "addresses") {
			one := m.nixos.record(t)
			address, at, ok1 := one.text("address")
			length, _, ok2 := one.number("prefixLength")
			m.nixos.keep(one.err)
			if ok1 && ok2 {
				take(fmt.Sprintf("%s/%d", address, length), at)
			}
		}
	}
	if defs, err := m.nixos.definitions("networking", "defaultGateway"); m.nixos.keep(err) && len(defs) == 1 {
		if s, ok := defs[0].value.(*str); ok {
			gateway, _ := s.known()
			m.checkGateway(gateway, defs[0].at, prefix)
		}
	}
	if m.Address == "" {
		m.ev.note(pos{}, Warning, "no address of the machine is known: set network.address, or take mode = \"user\"")
	}
}

// words returns the elements of an option that is a list or, with one, that alone.
func (m *importer) words(p ...string) []*thunk {
	defs, err := m.nixos.definitions(p...)
	if !m.nixos.keep(err) {
		return nil
	}
	var all []*thunk
	for _, d := range defs {
		if l, ok := d.value.(*list); ok {
			all = append(all, l.elements...)
		} else {
			all = append(all, ready(d.value))
		}
	}
	return all
}

// checkGateway says what the host's bridge must be like.
func (m *importer) checkGateway(gateway string, at pos, address netip.Prefix) {
	addr, err := netip.ParseAddr(gateway)
	if err == nil && addr.Is4() && addr != netip.MustParseAddr("192.168.83.1") && address.IsValid() {
		m.ev.note(at, Warning, "the gateway is %s: the bridge needs that address (mayfly net up --address %s/%d)", addr, addr, address.Bits())
	}
}

// text returns an element of a list that must be a string.
func (m *importer) text(t *thunk, what string) (string, bool) {
	s, o, err := m.ev.stringArg(t.place(pos{}), t)
	if err != nil {
		if !m.limit(err) {
			m.ev.failed(err)
		}
		return "", false
	}
	if o != nil {
		m.ev.note(t.place(pos{}), Unknown, "%s depends on %s", what, quote(o.label))
	}
	return s, o == nil
}
