package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

func file(path, text string) File { return File{Path: path, Data: []byte(text)} }

const everything = `
version = 1
profiles = ["go-protobuf", "claude"]

[machine]
vcpus = 8
memory = "4GiB"
disk = "16GiB"
engine = "qemu"
accel = "tcg"
allow_old_qemu = true
boot_timeout = "90s"
cold = true
autostart = true

[image]
base = "debian:trixie"
packages = ["jq", "fzf"]
agents = ["codex"]
init = "systemd"
prewarm = "git --version"

[workspace]
path = "~/src/project"
mode = "copy"
exclude = ["node_modules"]
hide = [".env"]
protect = ["deploy"]
clone = ["https://example.org/a.git", { url = "git@example.org:b.git", ref = "main" }]

[[volume]]
name = "var"
mount = "/var"
size = "12GiB"

[[share]]
source = "~/agent"

[[share]]
source = "/srv/data"
path = "~/data"
readonly = true
hide = ["*.key"]
protect = ["conf"]

[network]
mode = "user"
egress = "allowlist"
presets = ["npm"]
allow = ["GitHub.com.", "*.golang.org", "git.example:22", "10.1.2.3:22", "host.mayfly.internal:11434",
	{ host = "api.github.com", port = 443, methods = ["GET"], paths = ["/repos/acme/"], private = true },
	{ host = "pinned.example", intercept = false }]
ports = ["8080:80", "[::1]:8081:80"]

[home]
shell = "zsh"
dotfiles = ["~/configfiles"]
shell_init = "umask 077"
history = true

[git]
identity = false

[agent]
note = false
login = false
settings = false

[env]
GOPATH = "$HOME/go"

[secrets.ANTHROPIC_API_KEY]
from = "env:ANTHROPIC_API_KEY"
hosts = ["api.anthropic.com"]
foreign_credentials = "allow"
`

func TestLoadEverything(t *testing.T) {
	got, err := Load(Sources{Files: []File{file("mayfly.toml", everything)}, Settings: []Setting{{From: "--publish", Key: "network.ports", Value: "auto"}}})
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Profiles: []string{"go-protobuf", "claude"},
		Machine:  Machine{VCPUs: 8, MemoryMiB: 4096, DiskMiB: 16384, Engine: "qemu", Accel: "tcg", BootTimeout: 90 * time.Second, AllowOldQEMU: true, Cold: true, Autostart: true},
		Image: Image{
			Base: "debian:trixie",
			Packages: []string{"golang-go", "gopls", "delve", "make", "gcc", "git", "ripgrep",
				"protobuf-compiler", "jq", "fzf"},
			Agents:  []string{"claude", "codex"},
			Init:    "systemd",
			Prewarm: []string{"claude --version", "git --version"},
		},
		Workspace: Workspace{Path: "~/src/project", Mode: "copy", Exclude: []string{"node_modules"}, Hide: []string{".env"}, Protect: []string{"deploy"}, Hooks: true, Clone: []Clone{
			{URL: "https://example.org/a.git"}, {URL: "git@example.org:b.git", Ref: "main"},
		}},
		Volumes: []Volume{{Name: "var", Mount: "/var", SizeMiB: 12 << 10}},
		Shares:  []Share{{Source: "~/agent"}, {Source: "/srv/data", Path: "~/data", ReadOnly: true, Hide: []string{"*.key"}, Protect: []string{"conf"}}},
		Network: Network{
			TrustHostAuthorities: true,
			Mode:                 "user", Egress: "allowlist", Presets: []string{"go", "claude", "npm"},
			Allow: []Rule{
				{Host: "github.com"},
				{Host: "*.golang.org"},
				{Host: "git.example", Port: 22},
				{Host: "10.1.2.3", Port: 22, Private: true},
				{Host: HostName, Port: 11434},
				{Host: "api.github.com", Port: 443, Methods: []string{"GET"}, Paths: []string{"/repos/acme/"}, Private: true},
				{Host: "pinned.example", Passthrough: true},
			},
			AutoPorts: true, Ports: []Port{{"127.0.0.1", 8080, 80}, {"::1", 8081, 80}},
		},
		Home:   Home{Shell: "zsh", Dotfiles: []string{"~/configfiles"}, ShellInit: "umask 077", History: true},
		Attach: Attach{PastePictures: true},
		Env:    map[string]string{"GOPATH": "$HOME/go"},
		Secrets: map[string]Secret{
			"ANTHROPIC_API_KEY": {From: "env:ANTHROPIC_API_KEY", Hosts: []string{"api.anthropic.com"}, Foreign: "allow"},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Load: (-want +got)\n%s", d)
	}
}

// Every field of Config is set by the text above: a field that is added to the
// struct but not to the format fails here.
func TestLoadSetsEveryField(t *testing.T) {
	cfg, err := Load(Sources{Files: []File{file("mayfly.toml", everything)}, Settings: []Setting{{From: "--publish", Key: "network.ports", Value: "auto"}}})
	if err != nil {
		t.Fatal(err)
	}
	// No file can have these together with the rest.
	bridge, err := Load(Sources{Files: []File{file("mayfly.toml", "version = 1\n[network]\nmode = \"bridge\"\naddress = \"192.168.83.6/24\"\nmac = \"02:00:00:00:00:05\"")}})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Network.Address, cfg.Network.MAC = bridge.Network.Address, bridge.Network.MAC
	cfg.Network.Proxy = "none"                                                          // TestProxy
	cfg.Review = Review{64, []string{"a"}, []string{"a"}, []string{"a"}, []string{"a"}} // TestReviewIsTheUsersAlone
	if cfg.Git.Identity || cfg.Agent.Note || cfg.Agent.Login {
		t.Error("Config.Git.Identity, Config.Agent.Note or Config.Agent.Login is the default")
	}
	cfg.Git.Identity, cfg.Agent.Note, cfg.Agent.Login = true, true, true
	cfg.Agent.Settings = true // TestLoginIsTheUsers: no project's file can say so
	var check func(path string, v reflect.Value)
	check = func(path string, v reflect.Value) {
		if v.Kind() == reflect.Struct {
			for i := range v.NumField() {
				check(path+"."+v.Type().Field(i).Name, v.Field(i))
			}
		} else if v.IsZero() {
			t.Errorf("%s is zero", path)
		}
	}
	check("Config", reflect.ValueOf(cfg))
}

func TestMergeOrder(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "big.toml"), "version = 1\nmachine.memory = \"8GiB\"\nmachine.vcpus = 6\nenv.A = \"profile\"\nimage.packages = [\"htop\"]")
	write(t, filepath.Join(dir, "emacs.toml"), "version = 1\nimage.packages = [\"emacs-gtk\"]")
	got, err := Load(Sources{
		Detected: []string{"go"},
		Files: []File{
			file("/home/u/.config/mayfly/config.toml", "version = 1\n[machine]\nmemory = \"1GiB\"\n[env]\nA = \"user\"\nB = \"user\"\n[workspace]\nexclude = [\"a\"]"),
			file("/src/p/mayfly.toml", "version = 1\nprofiles = [\"big\", \"go\"]\n[machine]\nvcpus = 3\n[workspace]\nexclude = [\"b\"]\npath = \"sub\""),
		},
		Settings: []Setting{
			{"--profile", "profiles", []string{"emacs"}},
			{"--vcpus", "machine.vcpus", 2},
			{"--env", "env.B", "flag"},
			{"--exclude", "workspace.exclude", []string{"c"}},
		},
		ProfileDir: dir,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Profiles = []string{"go", "big", "emacs"} // a profile is merged once
	want.Machine.VCPUs = 2                         // the flag, after the file, after its profile
	want.Network.Presets = []string{"go"}
	want.Machine.MemoryMiB = 8192 // the project's profile, after the user's file
	want.Image.Packages = []string{"golang-go", "gopls", "delve", "make", "gcc", "git", "ripgrep", "htop", "emacs-gtk"}
	want.Env = map[string]string{"A": "profile", "B": "flag"}
	want.Workspace.Exclude = []string{"a", "b", "c"}
	want.Workspace.Path = "/src/p/sub" // relative to the file
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Load: (-want +got)\n%s", d)
	}
}

func TestErrors(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"all at once, in order of lines", `version = 1
profile = ["go"]
[machine]
memori = "4GiB"
vcpus = "four"
memory = "4GB"
accel = "hvf"
[imgae]
base = "debian:trixie"
[workspace]
mode = "mirror"
[[volume]]
source = "~/x"
[env]
"A B" = "x"
C = 3
D = "$PATH:/x"
`, []string{
			`f.toml:2: profile: unknown key (did you mean "profiles"?)`,
			`f.toml:4: machine.memori: unknown key (did you mean "memory"?)`,
			`f.toml:5: machine.vcpus: must be a whole number, not the string "four"`,
			`f.toml:6: machine.memory: is "4GB"; must be a size such as "4GiB" or "512MiB" (did you mean "4GiB"?)`,
			`f.toml:7: machine.accel: is "hvf"; must be "auto", "kvm" or "tcg"`,
			`f.toml:8: imgae: unknown key (did you mean "image"?)`,
			`f.toml:11: workspace.mode: is "mirror"; must be "copy" or "share"`,
			`f.toml:12: volume.source: unknown key`,
			`f.toml:15: env."A B": not a variable's name: letters, digits and _ only`,
			`f.toml:16: env.C: must be a string, not the integer 3`,
			`f.toml:17: env.D: $PATH has no value here: only $HOME and $USER have; write $$ for a dollar sign`,
		}},
		{"no version", "[machine]\nvcpus = 1", []string{"f.toml:1: version: missing; add `version = 1`"}},
		{"empty", "", []string{"f.toml:1: version: missing; add `version = 1`"}},
		{"newer version: nothing else is judged", "\nversion = 2\nfoo = 1", []string{`f.toml:2: version: is the integer 2; this mayfly reads version 1`}},
		{"version of a wrong type", `version = "1"`, []string{`f.toml:1: version: is the string "1"; this mayfly reads version 1`}},
		{"syntax", "version = 1\n[machine\n", []string{`f.toml:2: expected ']' to close table name`}},
		{"key twice", "version = 1\n[machine]\nvcpus = 1\nvcpus = 2", []string{`f.toml:4: key vcpus is already defined`}},
		{"key twice, hostile", "version = 1\n\"\\u001b[2J\\n\" = 1\n\"\\u001b[2J\\n\" = 2", []string{"f.toml:3: key ?[2J  is already defined"}},
		{"trailing text", "version = 1 2", []string{`f.toml:1: `}},
		{"value for a section", "version = 1\nmachine = 3\nenv = []", []string{
			`f.toml:2: machine: must be a table, written [machine], not the integer 3`,
			`f.toml:3: env: must be a table, written [env], not a list`}},
		{"list of tables for a section", "version = 1\n[[machine]]\nvcpus = 1", []string{`f.toml:2: machine: must be a table, written [machine], not a list`}},
		{"table for a value", "version = 1\n[machine.memory]\nx = 1", []string{`f.toml:2: machine.memory: must be a string such as "4GiB", not a table`}},
		{"wrong place", "version = 1\nmemory = \"4GiB\"\n[home]\nvcpus = 3", []string{
			`f.toml:2: memory: unknown key (did you mean "machine.memory"?)`,
			`f.toml:4: home.vcpus: unknown key (did you mean "machine.vcpus"?)`}},
		{"inline and dotted", "version = 1\nmachine = {\n  vcpus = 1, foo = 2 }\nimage.bar = 3", []string{
			`f.toml:3: machine.foo: unknown key`, `f.toml:4: image.bar: unknown key`}},
		{"a quoted dot is no section", "version = 1\n\"machine.vcpus\" = 2", []string{`f.toml:2: "machine.vcpus": unknown key`}},
		{"numbers", "version = 1\n[machine]\nvcpus = 0\nmemory = \"128MiB\"", []string{
			`f.toml:3: machine.vcpus: is 0; must be between 1 and 255`,
			`f.toml:4: machine.memory: is "128MiB"; must be between 256MiB and 1024GiB`}},
		{"memory", "version = 1\nmachine.memory = 4096", []string{`f.toml:2: machine.memory: must be a string such as "4GiB", not the integer 4096`}},
		{"memory, lots", "version = 1\nmachine.memory = \"999999999GiB\"", []string{`f.toml:2: machine.memory: is "999999999GiB"; must be between 256MiB and 1024GiB`}},
		{"lists", "version = 1\n[image]\npackages = [\"git\", 3]\nagents = [\"cluade\"]\n[workspace]\nexclude = \"x\"", []string{
			`f.toml:3: image.packages: must be a list of strings; element 2 is the integer 3`,
			`f.toml:4: image.agents: no agent "cluade"; there is "claude", "codex", "copilot", "gemini" or "opencode" (did you mean "claude"?)`,
			`f.toml:6: workspace.exclude: must be a list of strings, not the string "x"`}},
		{"patterns", "version = 1\nworkspace = {\n exclude = [\"!x\"] }", []string{`f.toml:3: workspace.exclude: "!x" is not a pattern for file names: "!" is not supported`}},
		{"a package that is an option", "version = 1\nimage.packages = [\"--hook-dir=/x\"]", []string{`f.toml:2: image.packages: "--hook-dir=/x" is not a Debian package's name`}},
		{"a package in capitals", "version = 1\nimage.packages = [\"Git\"]", []string{`f.toml:2: image.packages: "Git" is not a Debian package's name (did you mean "git"?)`}},
		{"shell", "version = 1\nhome.shell = \"/bin/zsh\"", []string{`f.toml:2: home.shell: must be a program's name without a directory (did you mean "zsh"?)`}},
		{"path", "version = 1\nworkspace.path = \"~other/x\"", []string{`f.toml:2: workspace.path: is "~other/x"; must be absolute or begin with ~/`}},
		{"shares", "version = 1\n[[share]]\npath = \"/x\"\n[[share]]\nsource = \"~/a\"\nsorce = 1\n[[share]]\nsource = \"a\"", []string{
			`f.toml:2: share: has no source, the directory to share`,
			`f.toml:4: share.sorce: unknown key (did you mean "source"?)`,
			`f.toml:7: share: its source is "a"; must be absolute or begin with ~/`}},
		{"a share that is none", "version = 1\nshare = [3, \"/a:b:c\"]", []string{
			`f.toml:2: share: must be a table such as { source = "~/notes", readonly = true }, not the integer 3`,
			`f.toml:2: share: is "/a:b:c"; must be SOURCE[:PATH][:ro], as in "~/notes:/srv/notes:ro"`}},
		{"later", "version = 1\n[workspace]\nclone = []\n[machine]\nengine = \"firecracker\"", []string{
			`f.toml:5: machine.engine: "firecracker" is not in this version of mayfly; there is "auto" or "qemu"`}},
		{"profile", "version = 1\nprofiles = [\"goo\"]", []string{`f.toml:2: profiles: no profile "goo"; there is c, claude, codex, copilot, docker, emacs, gemini, go, go-protobuf, node, opencode, python, rust, zsh (did you mean "go"?)`}},
		{"profile outside", "version = 1\nprofiles = [\"../x\"]", []string{`f.toml:2: profiles: "../x" is not a profile's name: lower-case letters, digits and hyphens only`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(Sources{Files: []File{file("f.toml", tt.text)}})
			if err == nil {
				t.Fatal("Load: no error")
			}
			got := strings.Split(err.Error(), "\n")
			ok := len(got) == len(tt.want)
			for i := range got {
				ok = ok && strings.HasPrefix(got[i], tt.want[i])
			}
			if !ok {
				t.Errorf("Load: %v", cmp.Diff(tt.want, got))
			}
			if f, ok := fault.Of(err); !ok || f.Code != fault.ConfigInvalid || f.Args["file"] != "f.toml" || f.Args["line"] == "" {
				t.Errorf("the failure is %+v; want the file and the line", f)
			}
		})
	}
}

func TestSettingErrors(t *testing.T) {
	_, err := Load(Sources{Settings: []Setting{
		{"--memory", "machine.memory", "4"},
		{"MAYFLY_ACCEL", "machine.accel", "kmv"},
		{"--profile", "profiles", []string{"cluade"}},
	}})
	want := []string{
		`--profile: no profile "cluade"; there is c, claude, codex, copilot, docker, emacs, gemini, go, go-protobuf, node, opencode, python, rust, zsh (did you mean "claude"?)`,
		`--memory: is "4"; must be a size such as "4GiB" or "512MiB"`,
		`MAYFLY_ACCEL: is "kmv"; must be "auto", "kvm" or "tcg" (did you mean "kvm"?)`,
	}
	if d := cmp.Diff(want, strings.Split(err.Error(), "\n")); d != "" {
		t.Errorf("Load: (-want +got)\n%s", d)
	}
}

func TestOwnProfiles(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "bad.toml"), "version = 1\nprofiles = [\"go\"]\n[machine]\nvcpu = 3\n")
	write(t, filepath.Join(dir, "mine.toml"), "version = 1\n")
	load := func(name string) error {
		_, err := Load(Sources{ProfileDir: dir, Settings: []Setting{{"--profile", "profiles", []string{name}}}})
		return err
	}
	if err := load("mine"); err != nil {
		t.Errorf("mine: %v", err)
	}
	bad := filepath.Join(dir, "bad.toml")
	want := bad + ":2: profiles: a profile cannot name other profiles\n" +
		bad + `:4: machine.vcpu: unknown key (did you mean "vcpus"?)`
	if err := load("bad"); err == nil || err.Error() != want {
		t.Errorf("bad: %v; want %s", err, want)
	}
	if err := load("min"); err == nil || !strings.Contains(err.Error(), `"mine"?`) || !strings.Contains(err.Error(), filepath.Join(dir, "min.toml")) {
		t.Errorf("min: %v; want a suggestion and the place for it", err)
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.toml")
	write(t, path, "version = 1")
	f, err := ReadFile(path)
	if err != nil || string(f.Data) != "version = 1" || f.Path != path {
		t.Errorf("ReadFile = %+v, %v", f, err)
	}
	write(t, path, strings.Repeat("#", MaxFileSize+1))
	if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), "larger than 64 KiB") {
		t.Errorf("ReadFile of a large file: %v", err)
	}
	fifo := filepath.Join(dir, "fifo.toml")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(fifo); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("ReadFile of a FIFO: %v", err)
	}
	if _, err := ReadFile(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ReadFile of no file: %v", err)
	}
}

func TestExpand(t *testing.T) {
	vars := map[string]string{"HOME": "/home/u", "USER": "u"}
	tests := []struct{ in, want, err string }{
		{"plain", "plain", ""},
		{"$HOME/go:${HOME}/bin", "/home/u/go:/home/u/bin", ""},
		{"$USER-$$5", "u-$5", ""},
		{"$HOMEX", "", "$HOMEX has no value"},
		{"${HOME", "", "${ without }"},
		{"a$", "", "$ has no value"},
		{"${}", "", "$ has no value"},
		{"$$$$", "$$", ""},
	}
	for _, tt := range tests {
		got, err := Expand(tt.in, vars)
		if tt.err == "" && (err != nil || got != tt.want) || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("Expand(%q) = %q, %v; want %q, %q", tt.in, got, err, tt.want, tt.err)
		}
	}
}

func TestProfilesAreValid(t *testing.T) {
	var names []string
	for _, p := range Profiles() {
		names = append(names, p.Name)
	}
	if _, err := Load(Sources{Detected: names}); err != nil {
		t.Error(err)
	}
	if !slices.IsSorted(names) {
		t.Errorf("Profiles() = %v; want sorted", names)
	}
}

// FuzzParse: no panic, and every error names a line of the file.
func FuzzParse(f *testing.F) {
	f.Add(everything)
	for _, s := range []string{
		"", "version = 1", "version = 1\nversion = 2", "version = 1\r\n[machine]\r\nvcpus = 1_000",
		"version = 1\n[machine]\n[machine]", "version = 1\n[[share]]\na = 1\n[[share]]", "a.b.c = {d.e = [{f = 1}]}",
		"version = 1\n[a]\nb = 1\n[[a.b]]", "version = 1\nmachine.vcpus = 99999999999999999999", "version = 1\nx = 1979-05-27T07:32:00Z",
		"version = 1\n\"\" = 1\n'a.b' = \"\"\"\n\n\"\"\"", "version = 1\nx = \"\\u0000\"", "\xff", "x = \"\x00\"", "[", "a = [[[[", "a = {", "a.",
		"version = 1\n[network]\nallow = [ # x\n'a.b', # y\n{host = 'c.d', port = 0}, {}, 3]\n[[secrets.X]]\n", "version = 1\n[secrets.'a.b']\nfrom='x'\nhosts=['*']\n[secrets.Y]\n",
		"version = 1\n[[network.allow]]\nhost = 'a.b'\n[[network.allow]]\nmethods = ['get']\n[network.ports]\n",
		"version = 1\nenv = {A = '$', B = \"$HOME\"}", "version = 1\nprofiles = [\"\"]", "a=1\na.b=2", "a.b=1\n[a]\n[a.b.c]", "[a]\n[[a]]",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, err := Load(Sources{Files: []File{file("f.toml", text)}})
		if err == nil {
			return
		}
		lines := strings.Count(text, "\n") + 1
		joined, ok := errors.AsType[interface {
			error
			Unwrap() []error
		}](err)
		if !ok {
			t.Fatalf("%v is no list of errors", err)
		}
		for _, e := range joined.Unwrap() {
			ce, ok := errors.AsType[*Error](e)
			if !ok || ce.File != "f.toml" || ce.Line < 1 || ce.Line > lines {
				t.Errorf("%#v: not a line of f.toml with its %d lines", e, lines)
			}
			if strings.ContainsAny(e.Error(), "\n\x1b\x00") {
				t.Errorf("%q: cannot be printed on one line", e.Error())
			}
		}
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The file of a project can come from anybody: it may keep log-ins and settings of coding
// agents away, and never lends those that its reader keeps away.
func TestLoginIsTheUsers(t *testing.T) {
	for key, what := range map[string]string{"login": "log-ins", "settings": "settings of coding agents"} {
		of := func(c Config) bool {
			if key == "login" {
				return c.Agent.Login
			}
			return c.Agent.Settings
		}
		text := func(value string) string { return "version = 1\n[agent]\n" + key + " = " + value + "\n" }
		no := file("config.toml", text("false"))
		no.Own = true
		yes := file("mayfly.toml", text("true"))
		if _, err := Load(Sources{Files: []File{no, yes}}); err == nil || !strings.Contains(err.Error(), "mayfly.toml:3: agent."+key+": lends your "+what) {
			t.Errorf("Load() of a project that lends %s gives %v; want an error at its line", what, err)
		}
		if _, err := Load(Sources{Files: []File{yes}}); err == nil {
			t.Errorf("Load() takes %s from a project where the user says nothing; want an error", key)
		}
		machine, own := yes, yes
		machine.Portable, own.Own = true, true
		for _, sources := range []Sources{
			{Files: []File{no, machine}},
			{Files: []File{own}},
			{Files: []File{no}, Settings: []Setting{{From: "flag", Key: "agent." + key, Value: true}}},
		} {
			if c, err := Load(sources); err != nil || !of(c) {
				t.Errorf("Load() = %v, %v; want true: config.toml, the file of a machine and a flag are the user's", of(c), err)
			}
		}
		if c, err := Load(Sources{Files: []File{own, file("mayfly.toml", text("false"))}}); err != nil || of(c) {
			t.Errorf("Load() = %v, %v; want false, which a project can say", of(c), err)
		}
		// A profile of the user's that a project names is used at the project's word.
		dir := t.TempDir()
		write(t, filepath.Join(dir, "work.toml"), text("true"))
		names := file("mayfly.toml", "version = 1\nprofiles = [\"work\"]\n")
		if c, err := Load(Sources{ProfileDir: dir, Files: []File{no, names}}); err != nil || of(c) {
			t.Errorf("Load() with a profile that a project names = %v, %v; want false", of(c), err)
		}
		if c, err := Load(Sources{ProfileDir: dir, Files: []File{no}, Settings: []Setting{{"--profile", "profiles", []string{"work"}}}}); err != nil || !of(c) {
			t.Errorf("Load() with a profile that a flag names = %v, %v; want true", of(c), err)
		}
	}
}

// A project can name its ports, which its reader has seen, and does not let a machine choose them.
func TestAutoPortsAreTheUsers(t *testing.T) {
	own := file("config.toml", "version = 1\n[network]\nports = \"auto\"\n")
	own.Own = true
	project := file("mayfly.toml", "version = 1\n[network]\nports = [\"8080:80\", \"auto\"]\n")
	if _, err := Load(Sources{Files: []File{project}}); err == nil || !strings.Contains(err.Error(), `mayfly.toml:3: network.ports: "auto" forwards whatever listens`) {
		t.Errorf("Load() of a project gives %v; want an error at its line", err)
	}
	machine := project
	machine.Portable = true
	for _, sources := range []Sources{
		{Files: []File{own}}, {Files: []File{machine}},
		{Settings: []Setting{{From: "--publish", Key: "network.ports", Value: []string{"auto", "8080:80"}}}},
	} {
		if c, err := Load(sources); err != nil || !c.Network.AutoPorts {
			t.Errorf("Load() = %v, %v; want true", c.Network, err)
		}
	}
	// A profile of the user's that a project names is used at the project's word.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "dev.toml"), []byte("version = 1\n[network]\nports = [\"auto\", \"8080:80\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(Sources{Files: []File{file("mayfly.toml", "version = 1\nprofiles = [\"dev\"]\n")}, ProfileDir: dir})
	if err != nil || c.Network.AutoPorts || len(c.Network.Ports) != 1 {
		t.Errorf("by a profile, a project gets %+v, %v; want its port and no more", c.Network, err)
	}
}
