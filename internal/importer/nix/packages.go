package nix

import (
	"maps"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// debianPackages says what the packages of nixpkgs are in Debian 13, where the names
// differ. A name that is the same has an empty value. What is not here is reported.
var debianPackages = map[string]string{
	"go": "golang-go", "gopls": "", "delve": "", "protobuf": "protobuf-compiler", "protoc-gen-go": "protoc-gen-go",
	"buf": "-", "golangci-lint": "-", "gotools": "golang-golang-x-tools", "go-tools": "-",
	"gnumake": "make", "cmake": "", "meson": "", "ninja": "ninja-build", "autoconf": "", "automake": "", "libtool": "",
	"pkg-config": "pkgconf", "pkgconf": "", "bison": "", "flex": "", "ccache": "", "gcc": "", "gdb": "", "valgrind": "",
	"clang": "", "clang-tools": "clang-tools", "llvm": "llvm", "lld": "lld", "binutils": "", "strace": "", "ltrace": "",
	"git": "", "git-lfs": "git-lfs", "gh": "gh", "mercurial": "", "subversion": "", "tig": "", "lazygit": "lazygit",
	"ripgrep": "", "fd": "fd-find", "fzf": "", "bat": "bat", "jq": "", "yq": "yq", "tree": "", "less": "", "file": "", "which": "debianutils",
	"curl": "", "wget": "", "rsync": "", "openssh": "openssh-client", "openssl": "", "gnupg": "", "cacert": "ca-certificates",
	"unzip": "", "zip": "", "gzip": "", "bzip2": "", "xz": "xz-utils", "zstd": "", "gnutar": "tar", "p7zip": "7zip",
	"coreutils": "", "findutils": "", "gnused": "sed", "gnugrep": "grep", "gawk": "", "diffutils": "", "patch": "", "moreutils": "",
	"bc": "", "time": "", "procps": "", "psmisc": "", "lsof": "", "htop": "", "btop": "", "ncdu": "", "iproute2": "", "iputils": "iputils-ping",
	"dnsutils": "bind9-dnsutils", "netcat": "netcat-openbsd", "socat": "", "tcpdump": "", "nmap": "",
	"bash": "", "zsh": "", "fish": "", "tmux": "", "screen": "", "vim": "", "neovim": "", "nano": "", "emacs": "emacs-nox", "emacs-nox": "",
	"python3": "", "python312": "python3", "python313": "python3", "uv": "-", "ruff": "-", "poetry": "python3-poetry",
	"nodejs": "", "nodejs_20": "nodejs", "nodejs_22": "nodejs", "yarn": "yarnpkg", "pnpm": "-", "typescript": "node-typescript",
	"rustc": "", "cargo": "", "rustfmt": "", "clippy": "rust-clippy", "rust-analyzer": "rust-analyzer",
	"jdk": "default-jdk", "jdk17": "-", "jdk21": "openjdk-21-jdk", "maven": "", "gradle": "", "ruby": "", "php": "php-cli", "perl": "", "lua": "lua5.4",
	"ghc": "", "cabal-install": "", "ocaml": "", "opam": "", "erlang": "", "elixir": "", "zig": "-",
	"sqlite": "sqlite3", "postgresql": "", "redis": "", "shellcheck": "", "shfmt": "shfmt", "hello": "", "man-pages": "manpages",
	"chromium": "", "lf": "", "direnv": "", "starship": "", "eza": "", "zoxide": "", "just": "", "delta": "git-delta", "hyperfine": "", "tokei": "", "dust": "du-dust",
	"docker": "docker.io", "docker-compose": "", "podman": "", "glow": "", "micro": "", "kakoune": "", "hugo": "", "protoc-gen-go-grpc": "", "universal-ctags": "",
	"tailscale": "-", "difftastic": "-", "nixfmt": "-", "nushell": "-", "helix": "-",
	"zopfli": "", "uglify-js": "uglifyjs", "yuicompressor": "-", "graphviz": "", "pandoc": "", "imagemagick": "", "ffmpeg": "",
}

// profiles says for which packages of nixpkgs there is a profile, beside the coding
// agents.
var profiles = map[string]string{
	"zsh": "zsh", "emacs": "emacs", "emacs-nox": "emacs",
}

// programs are the options programs.NAME.enable and what package they stand for.
var programs = map[string]string{
	"git": "git", "tmux": "tmux", "vim": "vim", "neovim": "neovim", "fzf": "fzf", "jq": "jq", "ripgrep": "ripgrep",
	"gh": "gh", "htop": "htop", "btop": "btop", "zsh": "zsh", "fish": "fish", "emacs": "emacs",
	"bat": "bat", "direnv": "direnv", "starship": "starship", "eza": "eza", "zoxide": "zoxide", "lf": "lf", "chromium": "chromium",
	"go": "go", "mtr": "-", "less": "less", "nano": "nano", "screen": "screen",
}

// readPackages collects what is to be installed, from where NixOS and home-manager
// have it.
func (m *importer) readPackages() {
	system, _ := take(m, "environment.systemPackages", m.nixos.Environment.SystemPackages)
	m.addPackages(system)
	m.addPackages(m.account().Packages)
	if m.home != nil {
		own, _ := take(m, "home.packages", m.home.Home.Packages)
		m.addPackages(own)
	}
	m.addPrograms(m.nixos.Programs)
	if m.home != nil {
		m.addPrograms(m.home.Programs)
	}
}

func (m *importer) addPackages(all []option[nixPackage]) {
	elsewhere := make(map[string][]string) // by file
	for _, p := range all {
		if !p.set {
			m.note(Unknown, "the package %s", quote(p.unknown))
			continue
		}
		m.add(attributeOf(p.value.Name))
		if p.value.Elsewhere {
			elsewhere[p.value.File] = append(elsewhere[p.value.File], quote(p.value.Name))
		}
	}
	for _, file := range slices.Sorted(maps.Keys(elsewhere)) {
		m.noteAt(file, Warning, "from another nixpkgs than the machine's: %s: mayfly has its own version of a coding agent, and Debian's of everything else",
			termsafe.Clip(strings.Join(elsewhere[file], ", "), maxNames))
	}
}

// maxNames bounds the names in one note.
const maxNames = 300

// addPrograms adds the packages of programs.NAME.enable.
func (m *importer) addPrograms(all map[string]program) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		p := packageOf(name)
		if p == "" {
			continue
		}
		if on, _ := take(m, "programs."+name+".enable", all[name].Enable); on {
			m.add(p)
		}
	}
}

// packageOf returns the package of nixpkgs that programs.NAME.enable stands for, or "".
func packageOf(program string) string {
	if _, ok := codingagent.FindNix(program); ok {
		return program
	}
	return programs[program]
}

// attributeOf returns the attribute of nixpkgs that a package with that pname has, where
// the two differ for packages that we know.
func attributeOf(pname string) string {
	switch pname {
	case "bash-interactive":
		return "bash"
	case "bind":
		return "dnsutils"
	case "du-dust":
		return "dust"
	case "nodejs-slim":
		return "nodejs"
	case "openjdk":
		return "jdk"
	}
	for _, suffix := range []string{"-wrapper", "-wrapped", "-with-packages"} {
		if base, ok := strings.CutSuffix(pname, suffix); ok {
			return base
		}
	}
	return pname
}

// add adds one package by its name in nixpkgs.
func (m *importer) add(name string) {
	p := profiles[name]
	if a, ok := codingagent.FindNix(name); ok {
		p = a.Name
	}
	if p != "" {
		if !slices.Contains(m.Profiles, p) {
			m.Profiles = append(m.Profiles, p)
		}
		return
	}
	debian, ok := debianPackages[name]
	switch {
	case !ok:
		m.note(Unknown, "the package %s: its name in Debian is not known; add it to image.packages", quote(name))
		return
	case debian == "-":
		m.note(Unknown, "the package %s is not in Debian", quote(name))
		return
	case debian == "":
		debian = name
	}
	if !slices.Contains(m.Packages, debian) && len(m.Packages) < maxList {
		m.Packages = append(m.Packages, debian)
	}
}
