package nix

import (
	"cmp"
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
	noServices = "a service has no counterpart; with image.init = \"systemd\" those of Debian's packages run"
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
	{"systemd.settings.Manager", ownStop}, {"systemd.extraConfig", ownStop},
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

// reasonFor returns why a machine's file does not have an option, and whether that is
// known. "" means that the option was read.
func reasonFor(table []reason, name string) (string, bool) {
	if parts := strings.Split(name, "."); len(parts) == 3 && parts[0] == "programs" {
		if packageOf(parts[1]) != "" && parts[2] == "enable" || slices.Contains(inits[parts[1]], parts[2]) {
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

// reportOthers notes all options that the machine's definition sets and its file does
// not have.
func (m *importer) reportOthers(all map[string]others, err error) {
	mine, ok := all[m.Name]
	switch {
	case err != nil:
		m.note(Unknown, "what else it sets is not listed: %v", err)
	case !ok:
		m.note(Unknown, "what else it sets is not listed: Nix does not say")
	}
	m.reportSettings(mine.NixOS, nixosReasons)
	m.reportSettings(mine.Home, homeReasons)
}

// maxNamed bounds the options that one note names.
const maxNamed = 12

// reportSettings notes settings: those of one file with one reason together and, without
// one, those that are about the same.
func (m *importer) reportSettings(all []setting, table []reason) {
	type group struct{ why, file string }
	dropped := make(map[group][]setting)
	unknown := make(map[string][]setting) // by what they are about
	for _, s := range all {
		switch why, known := reasonFor(table, s.Name); {
		case !known:
			unknown[about(s.Name)] = append(unknown[about(s.Name)], s)
		case why != "":
			g := group{why, s.File}
			dropped[g] = append(dropped[g], s)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(unknown)) {
		settings := unknown[name]
		if len(settings) == 1 {
			m.noteAt(settings[0].File, Unknown, "%s has no counterpart here and is left out", settings[0].Name)
			continue
		}
		m.noteAt(settings[0].File, Unknown, "%s has no counterpart here and is left out, with %d options", name, len(settings))
	}
	order := func(a, b group) int { return cmp.Or(cmp.Compare(a.why, b.why), cmp.Compare(a.file, b.file)) }
	for _, g := range slices.SortedFunc(maps.Keys(dropped), order) {
		settings := dropped[g]
		var names []string
		for _, s := range settings[:min(len(settings), maxNamed)] {
			names = append(names, s.Name)
		}
		if len(settings) > maxNamed {
			names = append(names, "…")
		}
		kind := Dropped
		if g.why == noServices {
			kind = Unknown // it does work that nothing else does here
		}
		m.noteAt(g.file, kind, "%s: %s", strings.Join(names, ", "), g.why)
	}
}

// about returns what an option is about: programs.git.config is about programs.git.
func about(name string) string {
	parts := strings.SplitN(name, ".", 3)
	return strings.Join(parts[:min(len(parts), 2)], ".")
}
