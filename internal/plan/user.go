package plan

import (
	"fmt"
	"maps"
	"net"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/host"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// fallbackUser is the guest's user when the host's cannot be it.
const (
	fallbackUser = "dev"
	fallbackID   = 1000
)

func (b *builder) guest(name string) {
	u := b.user()
	g := Guest{
		Hostname: name,
		User:     u,
		Timezone: b.facts.Timezone,
		Locale:   "C.UTF-8", // the one locale that is in every image
	}
	if g.Timezone == "UTC" || g.Timezone == "Etc/UTC" {
		g.Timezone = ""
	}
	vars := map[string]string{"HOME": u.Home, "USER": u.Name}
	for _, key := range slices.Sorted(maps.Keys(b.cfg.Env)) {
		value, err := config.Expand(b.cfg.Env[key], vars)
		if err != nil {
			b.fail(fmt.Errorf("env.%s: %w", key, err))
			continue
		}
		if g.Env == nil {
			g.Env = make(map[string]string)
		}
		g.Env[key] = value
	}
	g.ShellInit = b.cfg.Home.ShellInit
	g.AgentSilent = !b.cfg.Agent.Note
	b.plan.Guest = g
}

// agents gives all programs the variables of the image's coding agents, so that these are
// the same whoever starts them. Those that the user gave the machine stay.
func (b *builder) agents() {
	g := &b.plan.Guest
	at := b.plan.Place()
	at.Env = maps.Clone(g.Env) // an agent's are no other's
	for _, agent := range b.plan.Image.Agents {
		b.lasting(agent, at)
		for _, kv := range codingagent.Env(agent, at) {
			key, value, _ := strings.Cut(kv, "=")
			if g.Env == nil {
				g.Env = make(map[string]string)
			}
			g.Env[key] = value
		}
	}
}

// lasting says so where a stop would take the files of an agent along, because of what the
// user says of their place.
func (b *builder) lasting(agent string, at codingagent.Place) {
	if b.plan.Keep == nil {
		return
	}
	spec, err := codingagent.Launch(agent, at, nil)
	if err != nil {
		return
	}
	kept := append(slices.Clone(at.Mounts), b.plan.Keep.Agents, b.plan.Workspace.Path)
	for _, dir := range spec.Dirs {
		if !slices.ContainsFunc(kept, func(k string) bool { return k != "" && within(dir, k) }) {
			b.note("%s keeps its files in %s, which does not outlive a stop; a volume or a live share there does", agent, termsafe.Quote(dir))
		}
	}
}

// facts returns what a coding agent is told of the machine.
func (p Plan) facts() *codingagent.Facts {
	n := p.Network
	f := &codingagent.Facts{
		Quiet: p.Guest.AgentSilent,
		Name:  p.Name, Live: p.Workspace.Mode == ModeShare,
		Network: n.Mode != NetworkNone, Decided: n.Mode == NetworkUser, Public: n.Egress == EgressPublic, Asks: n.Egress == EgressAsk,
	}
	for _, r := range n.Allow {
		f.Allow = append(f.Allow, r.String())
	}
	for _, port := range n.Ports {
		where := "a free port"
		if port.HostPort != 0 {
			where = net.JoinHostPort(port.Address, strconv.Itoa(port.HostPort))
		}
		f.Ports = append(f.Ports, fmt.Sprintf("%d as %s", port.GuestPort, where))
	}
	return f
}

// Place returns the machine as a coding agent finds it.
func (p Plan) Place() codingagent.Place {
	at := codingagent.Place{
		Dir: p.Dir(), Home: p.Guest.User.Home, Env: p.Guest.Env,
		Emulated: p.Machine.Accelerator == TCG,
	}
	at.Facts = p.facts()
	for _, v := range p.Volumes {
		at.Mounts = append(at.Mounts, v.Mount)
	}
	for _, s := range p.Shares {
		at.Mounts = append(at.Mounts, s.Path)
	}
	return at
}

// UserName returns what the user of all machines of a host's user is called. It may
// not be the host's name for them, but never depends on more than that user.
func UserName(h host.User) string {
	if h.UID == 0 || !validAccount(h.Name) {
		return fallbackUser
	}
	return h.Name
}

// GuestHome returns the home of the user of all machines of a host's user: the same path as
// on the host, where it can be.
func GuestHome(h host.User) string {
	if h.UID == 0 || !validHome(h.Home) {
		return "/home/" + UserName(h)
	}
	return h.Home
}

// user models the guest's user on the host's. The numbers are kept, so that a
// file has the same owner on both sides, unless they mean someone else in a
// Debian guest; a user who cannot be kept becomes dev, 1000, and never root:
// agents refuse their unattended mode to root.
func (b *builder) user() User {
	h := b.facts.User
	shell := b.cfg.Home.Shell
	if shell == "" {
		shell = "bash"
		if path.Base(h.Shell) == "zsh" {
			shell = "zsh"
		}
	}
	if h.UID == 0 {
		return User{Name: fallbackUser, UID: fallbackID, GID: fallbackID, Home: GuestHome(h), Shell: shell}
	}

	u := User{Name: UserName(h), UID: h.UID, GID: h.GID, Home: GuestHome(h), Shell: shell}
	if u.Name != h.Name {
		b.note("the user in the guest is %s: %.80q cannot be a user's name there", u.Name, h.Name)
	}
	if !ordinaryID(u.UID) {
		u.UID = fallbackID
		b.note("the user's number in the guest is %d: %d is a system account's there", u.UID, h.UID)
	}
	// 100 is "users" on Debian too, and everyone's primary group on some
	// distributions.
	if !ordinaryID(u.GID) && u.GID != debianGroups["users"] {
		u.GID = u.UID
	}
	u.Groups = supplementary(h.Groups, u)
	return u
}

// supplementary returns the user's other groups that can exist in the guest. A
// system group is dropped unless Debian has given its number to the same name
// for ever: elsewhere 998 may be docker, in the guest it is someone else.
func supplementary(groups []host.Group, u User) []Group {
	var out []Group
	names, ids := map[string]bool{u.Name: true}, map[int]bool{u.GID: true}
	for _, g := range groups {
		id, static := debianGroups[g.Name]
		static = static && id == g.GID && id != 0 && g.Name != "nogroup"
		if !static && !ordinaryID(g.GID) || ids[g.GID] {
			continue
		}
		name := g.Name
		if !static && !validAccount(name) || names[name] {
			name = fmt.Sprintf("g%d", g.GID) // "domain users", or no name at all
		}
		names[name], ids[g.GID] = true, true
		out = append(out, Group{Name: name, GID: g.GID})
	}
	return out
}

// ordinaryID reports whether a uid or gid is outside the ranges that a Debian
// system gives away by itself (policy 9.2.2): below 1000 and 65534 for nobody.
// Numbers of directory services reach far up; the last is (uid_t)-1.
func ordinaryID(id int) bool {
	return id >= 1000 && id != 65534 && id != 65535 && int64(id) < 1<<32-1
}

// accountName is what useradd accepts on Debian; 32 bytes is utmp's limit.
var accountName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)

// validAccount reports whether a host's user or group name can be added to the
// guest, where some names are taken.
func validAccount(name string) bool {
	_, taken := debianGroups[name]
	return accountName.MatchString(name) && !taken && !slices.Contains(debianUsers, name) &&
		!strings.HasPrefix(name, "systemd-") && !strings.HasPrefix(name, "_")
}

// debianUsers are the users of base-passwd and of the packages in the base
// image.
var debianUsers = []string{
	"root", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy", "www-data",
	"backup", "list", "irc", "nobody", "messagebus", "sshd", "polkitd",
}

// debianGroups are the groups whose numbers base-passwd fixes.
var debianGroups = map[string]int{
	"root": 0, "daemon": 1, "bin": 2, "sys": 3, "adm": 4, "tty": 5, "disk": 6, "lp": 7, "mail": 8, "news": 9,
	"uucp": 10, "man": 12, "proxy": 13, "kmem": 15, "dialout": 20, "fax": 21, "voice": 22, "cdrom": 24,
	"floppy": 25, "tape": 26, "sudo": 27, "audio": 29, "dip": 30, "www-data": 33, "backup": 34, "operator": 37,
	"list": 38, "irc": 39, "src": 40, "shadow": 42, "utmp": 43, "video": 44, "sasl": 45, "plugdev": 46,
	"staff": 50, "games": 60, "users": 100, "nogroup": 65534,
}

// validHome reports whether a home directory can be the same in the guest. It
// goes into /etc/passwd there, and must not be on top of the system.
func validHome(dir string) bool {
	return filepath.IsAbs(dir) && filepath.Clean(dir) == dir && len(dir) <= 255 && textual(dir) &&
		!strings.ContainsRune(dir, ':') && dir != "/nonexistent" && systemDir(dir) == ""
}
