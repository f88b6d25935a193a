package nix

import (
	"maps"
	"slices"
	"strings"
)

// reason says of options below a name why a machine's file does not have them. ""
// means that they were read.
type reason struct{ name, why string }

const (
	ownSSH     = "a machine has mayfly's own SSH server, whose host key is not in the workspace"
	ownNetwork = "mayfly sets up the machine's network card and its names"
	ownFilter  = "the host filters what goes in and out"
	ownStop    = "mayfly bounds the time that a stop takes"
	ownRoot    = "a machine's root file system is Debian's and can be written until it stops"
	ownEngine  = "mayfly chooses how machines run (machine.engine)"
	ownKernel  = "mayfly chooses the kernel"
	ownUser    = "the machine's user has the name, the ids and the groups of the host's"
	noServices = "a service has no counterpart; with machine.init = \"systemd\" those of Debian's packages run"
	noFiles    = "files are not taken over: home.dotfiles takes a directory or a git repository"
)

// nixosReasons and homeReasons are searched for the longest name.
var nixosReasons = []reason{
	{"networking.hostName", ""}, {"environment.systemPackages", ""}, {"environment.variables", ""},
	{"environment.sessionVariables", ""}, {"environment.shellInit", ""}, {"environment.extraInit", ""}, {"environment.interactiveShellInit", ""},
	{"home-manager", ""}, {"system.stateVersion", ""}, {"microvm.vcpu", ""}, {"microvm.mem", ""},
	{"microvm.volumes", ""}, {"microvm.shares", ""}, {"microvm.interfaces", ""},
	{"services.openssh", ownSSH},
	{"services.resolved", ownNetwork}, {"networking", ownNetwork}, {"systemd.network", ownNetwork},
	{"networking.firewall", ownFilter}, {"networking.nftables", ownFilter},
	{"systemd.settings.Manager.DefaultTimeoutStopSec", ownStop}, {"systemd.extraConfig", ownStop},
	{"systemd.mounts", ownRoot}, {"microvm.writableStoreOverlay", ownRoot}, {"microvm.storeOnDisk", ownRoot},
	{"fileSystems", ownRoot}, {"nix", ownRoot}, {"nixpkgs", ownRoot},
	{"microvm.hypervisor", ownEngine}, {"microvm.socket", ownEngine}, {"microvm.balloon", ownEngine},
	{"microvm", ownEngine}, {"microvm.kernel", ownKernel}, {"zramSwap", ownKernel}, {"swapDevices", ownKernel}, {"boot", ownKernel}, {"hardware", ownKernel},
	{"users", ownUser}, {"security.sudo", ownUser}, {"time.timeZone", ownUser}, {"i18n", ownUser},
	{"environment.etc", noFiles}, {"programs.git", noFiles},
	{"systemd", noServices}, {"services", noServices},
}

var homeReasons = []reason{
	{"home.username", ""}, {"home.homeDirectory", ""}, {"home.stateVersion", ""}, {"home.packages", ""},
	{"home.sessionVariables", ""}, {"programs.home-manager", ""},
	{"programs.git", noFiles}, {"home.file", noFiles}, {"xdg.configFile", noFiles}, {"xdg.dataFile", noFiles},
	{"programs.zsh.history", "home.history = true keeps the shell's history; what else is set of it goes into home.shell_init"},
	{"programs.emacs", "the profile emacs is Debian's package, without packages of Emacs and your configuration"},
}

// shellKeys are those of programs.SHELL that readShell reads.
var shellKeys = []string{
	"enable", "envExtra", "shellInit", "loginShellInit", "loginExtra", "interactiveShellInit", "initExtraFirst", "initExtra",
	"initContent", "profileExtra", "bashrcExtra",
}

func reasonFor(table []reason, name string) (string, bool) {
	parts := strings.Split(name, ".")
	if len(parts) > 2 && parts[0] == "programs" {
		_, program := programs[parts[1]]
		shell := parts[1] == "bash" || parts[1] == "zsh" || parts[1] == "fish"
		if program && parts[2] == "enable" || shell && slices.Contains(shellKeys, parts[2]) {
			return "", true
		}
	}
	best, found := reason{}, false
	for _, r := range table {
		if (name == r.name || strings.HasPrefix(name, r.name+".")) && len(r.name) >= len(best.name) {
			best, found = r, true
		}
	}
	return best.why, found
}

// reportRest notes all options that the machine's file does not have.
func (m *importer) reportRest() {
	m.reportSet(m.nixos, nixosReasons)
	if m.home != nil {
		m.reportSet(m.home, homeReasons)
	}
}

// maxNamed bounds the options that one note names.
const maxNamed = 12

// above returns what an option is about: programs.git.config.user.name is about
// programs.git.
func above(name string) string {
	parts := strings.SplitN(name, ".", 3)
	return strings.Join(parts[:min(len(parts), 2)], ".")
}

func (m *importer) reportSet(r *reader, table []reason) {
	names, places, err := r.leaves()
	if !r.keep(err) {
		return
	}
	why := make(map[string][]string) // reason → options
	var order []string
	unknown := make(map[string][]string) // by what they are about
	for _, name := range names {
		text, known := reasonFor(table, name)
		switch {
		case r.declares(name) || known && text == "":
			continue
		case !known:
			unknown[above(name)] = append(unknown[above(name)], name)
			continue
		}
		if why[text] == nil {
			order = append(order, text)
		}
		why[text] = append(why[text], name)
	}
	for _, about := range slices.Sorted(maps.Keys(unknown)) {
		options := unknown[about]
		first := places[options[0]]
		if len(options) == 1 {
			m.ev.note(first, Unknown, "%s has no counterpart here and is left out", options[0])
			continue
		}
		m.ev.note(first, Unknown, "%s has no counterpart here and is left out, with %d options", about, len(options))
	}
	for _, text := range order {
		options := why[text]
		first := places[options[0]]
		if len(options) > maxNamed {
			options = append(options[:maxNamed:maxNamed], "…")
		}
		m.ev.note(first, Dropped, "%s: %s", strings.Join(options, ", "), text)
	}
}
