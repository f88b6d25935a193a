package nix

import (
	"errors"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
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
	m.addPackages(m.nixos, "environment", "systemPackages")
	if m.user != "" {
		m.addPackages(m.nixos, "users", "users", m.user, "packages")
	}
	if m.home != nil {
		m.addPackages(m.home, "home", "packages")
	}
	for _, r := range []*reader{m.nixos, m.home} {
		if r == nil {
			continue
		}
		for _, name := range r.names("programs") {
			program := programs[name]
			if _, ok := codingagent.FindNix(name); ok {
				program = name
			}
			if program != "" && r.enabled("programs", name, "enable") {
				_, at, _ := r.one("programs", name, "enable")
				m.add(program, at)
			}
		}
	}
}

func (m *importer) addPackages(r *reader, path ...string) {
	for _, t := range r.list(path...) {
		at := t.place(pos{})
		v, err := m.ev.force(t)
		if errors.Is(err, errLimit) {
			r.keep(err)
			return
		}
		if err != nil {
			m.ev.failed(err)
			continue
		}
		o, ok := v.(*opaque)
		switch {
		case ok && o.rest:
			m.ev.note(at, Unknown, "%s has more packages: %s", strings.Join(path, "."), quote(o.label))
		case ok && o.attr != "":
			m.add(o.attr, at)
		case ok:
			m.ev.note(at, Unknown, "the package %s", quote(o.label))
		default:
			m.ev.note(at, Unknown, "a package is %s", typeName(v))
		}
	}
}

// add adds one package by its name in nixpkgs.
func (m *importer) add(name string, at pos) {
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
		m.ev.note(at, Unknown, "the package %s: its name in Debian is not known; add it to image.packages", quote(name))
		return
	case debian == "-":
		m.ev.note(at, Unknown, "the package %s is not in Debian", quote(name))
		return
	case debian == "":
		debian = name
	}
	if !slices.Contains(m.Packages, debian) && len(m.Packages) < maxList {
		m.Packages = append(m.Packages, debian)
	}
}
