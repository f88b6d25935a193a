package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
)

// Key is one key of the file format, for people.
type Key struct {
	Name    string // "machine.memory"; a NAME in it is the user's own
	Type    string
	Default string // a value as in a file, words, or Required; "" for none
	Example string // a value as in a file
	Meaning string
}

// Required is the Default of a key that its table, or file, must have.
const Required = "required"

// Keys returns all keys of the file format, in the order in which they are explained.
func Keys() []Key {
	all := slices.Clone(topKeys)
	for _, f := range slices.Concat(fields, lists) {
		key := Key{f.key, f.describe, f.preset, f.example, f.meaning}
		if key.Default == "" && strings.HasPrefix(f.describe, "list") {
			key.Default = "none"
		}
		all = append(all, key)
		for _, part := range parts {
			if strings.HasPrefix(part.Name, f.key+".") {
				all = append(all, part)
			}
		}
	}
	for _, part := range parts {
		if strings.HasPrefix(part.Name, secretsSection+".") {
			all = append(all, part)
		}
	}
	return all
}

// field is one key: what it is for, and how its value is checked and stored. The
// table of fields is the whole format.
type field struct {
	key     string
	example string
	preset  string // the default
	meaning string
	kind
}

// kind is a type of values.
type kind struct {
	describe string
	apply    func(*Config, setting) *Error
}

// topKeys are read by parse and merge.
var topKeys = []Key{
	{"version", "number", Required, "1", "the version of the file format; the only key that a file must have"},
	{"profiles", "list of strings", "none", `["go", "zsh"]`, "profiles whose settings come before the file's own"},
	{"env.NAME", "string", "", `"$HOME/go"`, "a variable of all commands in the machine; $HOME and $USER are the guest's"},
}

var fields = []field{
	{"machine.vcpus", "4", "4, or 2 without KVM; no more than the host has", "number of virtual CPUs",
		number(1, maxVCPUs, func(c *Config) *int { return &c.Machine.VCPUs })},
	{"machine.memory", `"4GiB"`, "2 GiB, or half of the host's", "size of the memory",
		kind{"size", func(c *Config, s setting) *Error { return asMemory(s, &c.Machine.MemoryMiB) }}},
	{"machine.disk", `"16GiB"`, "32 GiB, and never more than leaves 10% of the host's file system, or 5 GiB", "what the machine can write outside of its volumes, 1GiB to 64GiB",
		kind{"size", func(c *Config, s setting) *Error { return asDisk(s, &c.Machine.DiskMiB) }}},
	{"machine.engine", `"qemu"`, `"auto"`, "program that runs the machine",
		choice(func(c *Config) *string { return &c.Machine.Engine }, "auto", "qemu")},
	{"machine.accel", `"kvm"`, `"auto"`, "accelerator; `auto` takes KVM where a test guest ran on it",
		choice(func(c *Config) *string { return &c.Machine.Accel }, "auto", "kvm", "tcg")},
	{"machine.boot_timeout", `"90s"`, "fits the accelerator", "time within which the guest must answer, 1s to 1h",
		kind{"duration", func(c *Config, s setting) *Error { return asDuration(s, &c.Machine.BootTimeout) }}},
	{"machine.allow_old_qemu", "true", "false", "start even a QEMU that corrupts emulated guests",
		boolean(func(c *Config) *bool { return &c.Machine.AllowOldQEMU })},
	{"machine.cold", "true", "false", "boot the machine always, and save no template of it",
		boolean(func(c *Config) *bool { return &c.Machine.Cold })},
	{"machine.autostart", "true", "false", "let systemd start the named machine, where it is installed",
		boolean(func(c *Config) *bool { return &c.Machine.Autostart })},

	{"image.base", `"debian:trixie"`, `"debian:trixie"`, "the distribution",
		choice(func(c *Config) *string { return &c.Image.Base }, "debian:trixie")},
	{"image.packages", `["jq"]`, "", "Debian packages to add",
		stringList(func(c *Config) *[]string { return &c.Image.Packages }, checkPackage)},
	{"image.agents", fmt.Sprintf("[%q]", codingagent.Default), "", "coding agents to add",
		stringList(func(c *Config) *[]string { return &c.Image.Agents }, checkAgent)},
	{"image.init", `"systemd"`, `"mayfly"`, "process 1 of the machine; with `systemd` services run in it, and it starts slower",
		choice(func(c *Config) *string { return &c.Image.Init }, "mayfly", "systemd")},
	{"image.prewarm", `"jq --version"`, "", "shell commands to run once, as nobody, before a template is saved",
		kind{"list of strings, or a string", func(c *Config, s setting) *Error { return appendCommands(s, &c.Image.Prewarm) }}},

	{"workspace.path", `"~/src/project"`, "the current directory", "directory that the machine works on",
		kind{"path", func(c *Config, s setting) *Error { return asPath(s, &c.Workspace.Path) }}},
	{"workspace.mode", `"share"`, `"copy"`, "a private copy whose changes are reviewed, or the directory itself, live",
		choice(func(c *Config) *string { return &c.Workspace.Mode }, "copy", "share")},
	{"workspace.exclude", `["node_modules", "*.iso"]`, "", "patterns of files that the copy leaves out",
		stringList(func(c *Config) *[]string { return &c.Workspace.Exclude }, checkPattern)},
	{"workspace.hide", `[".env", "*.pem"]`, "", "patterns of files that the machine does not see: left out of a copy, and empty in a live share",
		stringList(func(c *Config) *[]string { return &c.Workspace.Hide }, checkPattern)},
	{"workspace.protect", `[".git/config", "deploy"]`, "", "patterns of files of a live workspace that the machine can read and not change",
		stringList(func(c *Config) *[]string { return &c.Workspace.Protect }, checkPattern)},
	{"workspace.protect_hooks", "false", "true", "protect the directory `.git/hooks` of a live workspace, too",
		boolean(func(c *Config) *bool { return &c.Workspace.Hooks })},

	{"network.mode", `"bridge"`, `"user"`, "no network card, one whose connections mayfly decides on, or one on the host's bridge",
		choice(func(c *Config) *string { return &c.Network.Mode }, "none", "user", "bridge")},
	{"network.egress", `"allowlist"`, `"public"`, "what the machine may reach without a rule: with `ask`, what you allow when it tries",
		choice(func(c *Config) *string { return &c.Network.Egress }, "none", "public", "allowlist", "ask")},
	{"network.proxy", `"http://proxy.example:3128"`, "those of the host's environment", "proxy through which connections leave the host: `http://`, `https://`, `socks5://`, or `none`",
		kind{"string", func(c *Config, s setting) *Error { return asProxy(s, &c.Network.Proxy) }}},
	{"network.trust_host_authorities", "false", "true", "the machine trusts the certificate authorities that this computer trusts beside its distribution's, as where a network looks into TLS",
		boolean(func(c *Config) *bool { return &c.Network.TrustHostAuthorities })},
	{"network.address", `"192.168.83.6/24"`, "", "address of a machine on the bridge, with the length of the network's prefix",
		kind{"string", func(c *Config, s setting) *Error { return asAddress(s, &c.Network.Address) }}},
	{"network.mac", `"02:00:00:00:00:05"`, "follows from the address", "hardware address of a machine on the bridge",
		kind{"string", func(c *Config, s setting) *Error { return asMAC(s, &c.Network.MAC) }}},

	{"home.shell", `"zsh"`, "your own shell", "login shell of the user in the machine",
		kind{quotedList(Shells()), func(c *Config, s setting) *Error { return asShell(s, &c.Home.Shell) }}},
	{"home.dotfiles", `["~/configfiles"]`, "", "directories, or git URLs with @REVISION, whose files are linked into the home directory",
		stringList(func(c *Config) *[]string { return &c.Home.Dotfiles }, checkDotfiles)},
	{"home.shell_init", `"export PATH=$GOPATH/bin:$PATH"`, "", "shell text that all shells and commands begin with",
		kind{"string", appendShellInit}},
	{"home.history", "true", "false", "keep the shell history of a named machine: bash and zsh",
		boolean(func(c *Config) *bool { return &c.Home.History })},

	{"agent.note", "false", "true", "tell coding agents in a file of their user's, not of the workspace, what the machine is and may reach",
		boolean(func(c *Config) *bool { return &c.Agent.Note })},
	{"agent.login", "false", "true", "lend the image's coding agents the log-ins that `mayfly login` keeps on the host; a project's own file can only say `false`",
		boolean(func(c *Config) *bool { return &c.Agent.Login })},
	{"agent.settings", "true", "false", "give the image's coding agents the settings that you have for them on the host, without log-ins; a project's own file can only say `false`",
		boolean(func(c *Config) *bool { return &c.Agent.Settings })},
	{"git.identity", "false", "true", "give git in the machine the name and the e-mail address that git has on the host",
		boolean(func(c *Config) *bool { return &c.Git.Identity })},

	{"attach.paste_pictures", "false", "true", "put a picture whose path you paste or drop at an attached terminal into the machine, in config.toml alone",
		boolean(func(c *Config) *bool { return &c.Attach.PastePictures })},

	{"review.max_memory", `"512MiB"`, "128 MiB", "memory that the list of a machine's changes may take, in config.toml alone; about ninety thousand changes fit into 128 MiB",
		kind{"size", func(c *Config, s setting) *Error { return asSize(s, minReviewMiB, maxReviewMiB, &c.Review.MemoryMiB) }}},
	{"review.ordinary", `["Makefile"]`, "", "paths whose changes are ordinary, in config.toml alone: each is exactly one file of the workspace",
		stringList(func(c *Config) *[]string { return &c.Review.Ordinary }, checkReviewPath)},
	{"review.builds", `["deploy/*.sh"]`, "", "patterns of files that run when you build, in config.toml alone; they match at any depth, and `**` at the end matches all below",
		stringList(func(c *Config) *[]string { return &c.Review.Builds }, checkPattern)},
	{"review.runs", `["bin/**"]`, "", "patterns of files that run or are obeyed by themselves, in config.toml alone",
		stringList(func(c *Config) *[]string { return &c.Review.Runs }, checkPattern)},
	{"review.suspicious", `["secrets/**"]`, "", "patterns of files that are suspicious when they change, in config.toml alone",
		stringList(func(c *Config) *[]string { return &c.Review.Suspicious }, checkPattern)},
}

// lists are the keys of lists that are checked and stored element by element:
// each has its line, and all that are wrong are reported.
var lists = []field{
	{"network.presets", `["npm"]`, "", "presets of hosts that the machine may reach",
		kind{"list of strings", addPreset}},
	{"network.allow", `["github.com", "*.golang.org", "git.example.org:22"]`, "", "hosts that the machine may reach; a rule without a port is for 80 and 443",
		kind{"list of strings or tables", addRule}},
	{"network.ports", `["127.0.0.1:8080:80"]`, "", "ports of the machine to publish: [ADDRESS:]PORT:GUEST-PORT; `\"auto\"` for each on which a program listens, not in a project's file",
		kind{"list of strings", addPort}},
	{"workspace.clone", `["https://git.example.org/project.git"]`, "", "git repositories that `mayfly new` clones into the workspace",
		kind{"list of strings or tables", addClone}},
	{"volume", "", "", "disks of a named machine that outlive its stops, at most 7",
		kind{"list of tables", addVolume}},
	{"share", "", "", "directories of the host that are live in the machine",
		kind{"list of tables", addShare}},
}

// parts are the keys of the tables that are elements of lists, and of
// [secrets.NAME].
var parts = []Key{
	{"network.allow.host", "string", Required, `"api.github.com"`, "name, `*.` and a name for all below it, or address"},
	{"network.allow.port", "number, 1 to 65535", "80 and 443", "22", "port"},
	{"network.allow.methods", "list of strings", "all", `["GET"]`, "HTTP methods that pass"},
	{"network.allow.paths", "list of strings", "all", `["/repos/acme/"]`, "beginnings of paths that pass"},
	{"network.allow.private", "boolean", "false", "true", "let the host have addresses that are not public"},
	{"network.allow.intercept", "boolean", "true", "false", "look into TLS; `false` leaves it to the two ends"},
	{"workspace.clone.url", "string", Required, `"https://git.example.org/project.git"`, "the repository"},
	{"workspace.clone.ref", "string", "the repository's HEAD", `"main"`, "branch, tag or commit"},
	{"volume.name", "string", Required, `"var"`, "lower-case letters, digits and hyphens"},
	{"volume.mount", "path", Required, `"/var"`, "directory in the machine, or below its home: `~/.cache`"},
	{"volume.size", "size", `"8GiB"`, `"20GiB"`, "largest size; it can grow and not shrink"},
	{"share.source", "path", Required, `"~/agent-state"`, "directory of the host; never your home, your keys, or a socket of another program"},
	{"share.path", "path", "the same as the source", `"/srv/agent-state"`, "directory in the machine"},
	{"share.readonly", "boolean", "false", "true", "the host refuses writes"},
	{"share.hide", "list of strings", "none", `["*.key"]`, "patterns of files that the machine does not see"},
	{"share.protect", "list of strings", "none", `["settings.json"]`, "patterns of files that the machine can read and not change"},
	{"secrets.NAME.from", "string", Required, `"env:ANTHROPIC_API_KEY"`, "where the host has the value: `env:NAME`, `file:PATH` or `cmd:COMMAND`"},
	{"secrets.NAME.hosts", "list of strings", Required, `["api.anthropic.com"]`, "hosts whose requests get the value in place of the variable's placeholder"},
	{"secrets.NAME.header", "string, or list of strings", "follows from the hosts", `"x-api-key"`, "header that is the value; `\"authorization: token\"` for one with a word before it"},
	{"secrets.NAME.bearer", "boolean", "follows from the hosts", "true", "send the value as `Authorization: Bearer VALUE`"},
	{"secrets.NAME.basic", "string, or list of strings", "follows from the hosts", `"git"`, "user of basic authentication whose password is the value"},
	{"secrets.NAME.query", "string, or list of strings", "follows from the hosts", `"key"`, "parameter of the query that is the value"},
	{"secrets.NAME.pass", "list of strings", "none", `["x-tenant", "?tenant"]`, "more headers, and parameters of the query, that are no credentials and pass to these hosts"},
	{"secrets.NAME.foreign_credentials", `"strip" or "allow"`, `"strip"`, `"allow"`, "what becomes of other credentials in requests to these hosts"},
}

// partsOf returns the last names of the keys in the tables of that name.
func partsOf(table string) []string {
	var names []string
	for _, part := range parts {
		if name, ok := strings.CutPrefix(part.Name, table+"."); ok {
			names = append(names, name)
		}
	}
	return names
}

func choice(at func(*Config) *string, values ...string) kind {
	return kind{quotedList(values), func(c *Config, s setting) *Error { return asOneOf(s, at(c), values...) }}
}

func number(min, max int, at func(*Config) *int) kind {
	return kind{fmt.Sprintf("number, %d to %d", min, max), func(c *Config, s setting) *Error { return asInt(s, min, max, at(c)) }}
}

func boolean(at func(*Config) *bool) kind {
	return kind{"boolean", func(c *Config, s setting) *Error { return asBool(s, at(c)) }}
}

func stringList(at func(*Config) *[]string, check func(string) (msg, suggestion string)) kind {
	return kind{"list of strings", func(c *Config, s setting) *Error { return appendList(s, at(c), check) }}
}
