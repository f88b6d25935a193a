package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/host"
)

var update = flag.Bool("update", false, "write the wanted plans of the golden tests")

// TestGolden makes the plan of each testdata/*.txtar: the files input.json and
// mayfly.toml against want, which is a plan or the lines of an error with its
// codes.
func TestGolden(t *testing.T) {
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { golden(t, path) })
	}
}

func golden(t *testing.T, path string) {
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	part := func(name string) []byte {
		for _, f := range archive.Files {
			if f.Name == name {
				return f.Data
			}
		}
		return nil
	}
	in := struct {
		Facts, Name, Workspace, Typed, Home, Keep string
		Git                                       host.Git
	}{Name: "m1", Workspace: "/home/ada/src/project"}
	decodeStrict(t, part("input.json"), &in)
	facts := readFacts(t, in.Facts)
	cfg, err := config.Load(config.Sources{Files: []config.File{
		{Path: "mayfly.toml", Data: append([]byte("version = 1\n"), part("mayfly.toml")...)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	workspace := in.Workspace
	if cfg.Workspace.Path != "" {
		workspace = WorkspacePath(cfg, facts.User.Home, "")
	}
	p, err := New(cfg, facts, Input{Name: in.Name, Workspace: workspace, Typed: in.Typed, Home: in.Home, Keep: in.Keep, Git: in.Git})
	var got []byte
	if err != nil {
		got = []byte(errorText(err))
	} else if got, err = p.Encode(); err != nil {
		t.Fatal(err)
	}
	if *update {
		archive.Files = append(archive.Files[:0:0], archive.Files...)
		for i, f := range archive.Files {
			if f.Name == "want" {
				archive.Files = append(archive.Files[:i], archive.Files[i+1:]...)
				break
			}
		}
		archive.Files = append(archive.Files, txtar.File{Name: "want", Data: got})
		if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(string(part("want")), string(got)); d != "" {
		t.Errorf("New: (-want +got; go test -update accepts it)\n%s", d)
	}
}

// errorText writes each error of a joined one with its code and what it is about.
func errorText(err error) string {
	errs := []error{err}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		errs = j.Unwrap()
	}
	var b strings.Builder
	for _, err := range errs {
		fmt.Fprintf(&b, "error: %v\n", err)
		if f, ok := fault.Of(err); ok {
			fmt.Fprintf(&b, "code: %s\n", f.Code)
			for _, name := range slices.Sorted(maps.Keys(f.Args)) {
				fmt.Fprintf(&b, "%s: %s\n", name, f.Args[name])
			}
		}
	}
	return b.String()
}

func readFacts(t *testing.T, name string) host.Facts {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata/facts", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var f host.Facts
	decodeStrict(t, data, &f)
	return f
}

func decodeStrict(t *testing.T, data []byte, v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
}

func TestLinkable(t *testing.T) {
	for typed, want := range map[string]bool{
		"/home/u/link": true, "/link": true, "/home/u/./link/": true, "/data": false, "/data/project": false, "/data/project/link": false,
		"": false, "link": false, "/": false, "/etc/link": false, "/proc/self/cwd": false, "/dev/shm/x": false, "/usr": false,
		"/a\nb": false, "/\xff": false, "/" + strings.Repeat("a", 2000): false,
	} {
		if got := linkable(typed, "/data/project"); got != want {
			t.Errorf("linkable(%q) = %t", typed, got)
		}
	}
}

func TestCheckWorkspace(t *testing.T) {
	p := Protected{Homes: []string{"/home/u", "/var/home/u", ""}, Own: []string{"", "/data/u/mayfly"}}
	for dir, want := range map[string]string{
		"/home/u/src":              "",
		"/home/u/.config/nvim":     "",
		"/home/u/.sshd":            "",
		"/home/u2":                 "",
		"/projects":                "",
		"/tmp/x":                   "",
		"/usr/src/linux":           "",
		"/root/project":            "",
		"/":                        "whole file system",
		"//":                       "whole file system",
		"":                         "not an absolute path",
		"src":                      "not an absolute path",
		"/home/u":                  "your home",
		"/home/u/":                 "your home",
		"/home/u/src/..":           "your home",
		"/home":                    "holds your home",
		"/var/home/u":              "your home",
		"/var/home/u/.ssh":         "secrets",
		"/var":                     "holds your home",
		"/home/u/.ssh":             "secrets",
		"/home/u/.gnupg/x":         "secrets",
		"/home/u/.aws":             "secrets",
		"/home/u/.config":          "all your programs",
		"/etc":                     "directory of the system",
		"/etc/nginx":               "directory of the system",
		"/proc/self/cwd":           "directory of the system",
		"/dev/shm/x":               "directory of the system",
		"/usr":                     "directory of the system",
		"/root":                    "directory of the system",
		"/tmp":                     "directory of the system",
		"/data":                    "mayfly's own files",
		"/data/u/mayfly":           "mayfly's own files",
		"/data/u/mayfly/logins":    "mayfly's own",
		"/tmp/a\nb":                "not printable",
		"/tmp/\xff":                "not printable",
		"/home/u/.ssh\x1b[2J/../x": "not printable",
	} {
		err := CheckWorkspace(dir, p)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || fault.CodeOf(err) != fault.WorkspaceRefused) {
			t.Errorf("CheckWorkspace(%q) = %v; want %q", dir, err, want)
		}
		if err != nil && (strings.ContainsAny(err.Error(), "\n\x1b") || !utf8.ValidString(err.Error())) {
			t.Errorf("CheckWorkspace(%q) = %q; cannot be printed", dir, err)
		}
	}
}

func TestWorkspacePath(t *testing.T) {
	for path, want := range map[string]string{"": "/cwd", "~": "/home/u", "~/a/../b": "/home/u/b", "/x/": "/x"} {
		cfg := config.Config{Workspace: config.Workspace{Path: path}}
		if got := WorkspacePath(cfg, "/home/u", "/cwd/"); got != want {
			t.Errorf("WorkspacePath(%q) = %q; want %q", path, got, want)
		}
	}
}

func TestDecode(t *testing.T) {
	p, err := New(config.Default(), readFacts(t, "laptop"), Input{Name: "m1", Workspace: "/w", Home: "/home/ada"})
	if err != nil {
		t.Fatal(err)
	}
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(p, got); d != "" {
		t.Errorf("Decode(Encode): (-want +got)\n%s", d)
	}
	text := string(data)
	for name, bad := range map[string]string{
		"unknown field":  strings.Replace(text, `"image":`, `"x": 1, "image":`, 1),
		"unknown nested": strings.Replace(text, `"base":`, `"x": 1, "base":`, 1),
		"newer":          strings.Replace(text, `"version": 2`, `"version": 3`, 1),
		"no version":     strings.Replace(text, `"version": 2,`, ``, 1),
		"trailing":       text + "{}",
		"cut":            text[:len(text)/2],
		"empty":          "",
		"a path as name": strings.Replace(text, `"name": "m1"`, `"name": "../m1"`, 1),
	} {
		if bad == text {
			t.Fatalf("%s: the text did not change", name)
		}
		if p, err := Decode([]byte(bad)); err == nil {
			t.Errorf("Decode of a plan with %s = %+v; want an error", name, p)
		}
	}
}

// New must not keep or change what it is given: one configuration makes many
// plans.
func TestNewCopies(t *testing.T) {
	cfg := config.Default()
	cfg.Image.Packages = append(make([]string, 0, 8), "b", "a", "b")
	cfg.Workspace.Exclude = []string{"x"}
	p, err := New(cfg, readFacts(t, "laptop"), Input{Name: "m1", Workspace: "/w"})
	if err != nil {
		t.Fatal(err)
	}
	p.Workspace.Exclude[0] = "changed"
	p.Image.Packages[0] = "changed"
	if cfg.Workspace.Exclude[0] != "x" || cfg.Image.Packages[0] != "b" || cfg.Image.Packages[1] != "a" {
		t.Errorf("the configuration changed: %+v", cfg)
	}
}

// An agent brings the packages that its program runs on.
func TestAgentPackages(t *testing.T) {
	cfg := config.Default()
	cfg.Image.Packages, cfg.Image.Agents = []string{"nodejs", "jq"}, []string{"gemini", "claude"}
	p, err := New(cfg, readFacts(t, "laptop"), Input{Name: "m1", Workspace: "/w"})
	if err != nil {
		t.Fatal(err)
	}
	want := Image{Base: cfg.Image.Base, Packages: []string{"jq", "nodejs"}, Agents: []string{"claude", "gemini"}}
	if d := cmp.Diff(want, p.Image); d != "" {
		t.Errorf("image: -want +got:\n%s", d)
	}
}

func TestErrorsAreJoined(t *testing.T) {
	cfg := config.Default()
	cfg.Machine.Accel = "kvm"
	_, err := New(cfg, readFacts(t, "no-qemu"), Input{Name: "A", Workspace: "/"})
	j, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err)
	if !ok || len(j.Unwrap()) != 4 {
		t.Errorf("New = %v; want four errors", err)
	}
}

// FuzzDecode: no panic, and what is accepted can be written and read again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"version": 1, "name": "m1"}`))
	f.Add([]byte(`{"version": 1, "name": "m1", "image": {"base": "x", "packages": [null]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Decode(data)
		if err != nil {
			return
		}
		again, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(again); err != nil {
			t.Errorf("Decode(Encode(Decode(%q))): %v", data, err)
		}
	})
}

// What the user gives a machine wins over what mayfly gives to coding agents, and is told
// where it does not last.
func TestAgentEnv(t *testing.T) {
	facts := readFacts(t, "laptop")
	facts.KVM.Proven, facts.KVM.Reason = false, "none"
	var cfg config.Config
	cfg.Image.Base, cfg.Image.Agents = "debian:trixie", []string{"claude", "codex"}
	cfg.Env = map[string]string{"CLAUDE_CONFIG_DIR": "$HOME/.claude", "BASH_MAX_TIMEOUT_MS": "1"}
	in := Input{Name: "m", Keep: "/keep"}
	p, err := New(cfg, facts, in)
	if err != nil {
		t.Fatal(err)
	}
	home := p.Guest.User.Home
	for key, want := range map[string]string{
		"CLAUDE_CONFIG_DIR": home + "/.claude", "CODEX_HOME": home + "/.local/share/mayfly-agents/codex",
		"BASH_MAX_TIMEOUT_MS": "1", "BASH_DEFAULT_TIMEOUT_MS": "600000", "DISABLE_AUTOUPDATER": "1",
	} {
		if got := p.Guest.Env[key]; got != want {
			t.Errorf("%s = %q; want %q", key, got, want)
		}
	}
	notes := strings.Join(p.Notes, "\n")
	if !strings.Contains(notes, "claude keeps its files in "+home+"/.claude, which does not outlive") || strings.Contains(notes, "codex keeps") {
		t.Errorf("notes: %s", notes)
	}
	if facts := p.Place().Facts; !facts.Quiet || facts.Name != "m" {
		t.Errorf("with agent.note off, agents are told %+v", facts)
	}
	cfg.Agent.Note = true
	cfg.Volumes = []config.Volume{{Name: "c", Mount: "~/.claude", SizeMiB: 64}}
	if p, err = New(cfg, facts, in); err != nil || strings.Contains(strings.Join(p.Notes, "\n"), "outlive") {
		t.Errorf("with a volume: %v, %q", err, p.Notes)
	}
	p.Network.Mode = NetworkUser
	p.Network.Ports = []Port{{Address: "127.0.0.1", HostPort: 8080, GuestPort: 80}}
	p.Network.Allow = []Rule{{Host: "a.example", Port: 22}}
	want := []string{"80 as 127.0.0.1:8080", "a.example:22"}
	if facts := p.Place().Facts; facts.Quiet || !facts.Network || !facts.Decided || !slices.Equal(append(facts.Ports, facts.Allow...), want) {
		t.Errorf("agents are told %+v", facts)
	}
}

// The log-in of a subscription is lent as a secret that is renewed, and the machine is told
// what it is for; what the user sets stays.
func TestLendSubscription(t *testing.T) {
	account := codingagent.Account{Plan: "max", Scopes: []string{"user:inference", "user:profile"}}
	lend := func(l Login, env map[string]string) Plan {
		t.Helper()
		cfg := config.Default()
		cfg.Image.Agents, cfg.Env = []string{"claude"}, env
		p, err := New(cfg, readFacts(t, "laptop"), Input{Name: "m1", Logins: map[string]Login{"claude": l}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := lend(Login{Variable: "CLAUDE_CODE_OAUTH_TOKEN", Subscription: true, Account: account}, map[string]string{"CLAUDE_CODE_OAUTH_SCOPES": "mine"})
	if s := p.Network.Secrets; len(s) != 1 || !s[0].Renewed || s[0].Name != "CLAUDE_CODE_OAUTH_TOKEN" || !slices.Equal(s[0].Hosts, []string{"api.anthropic.com"}) {
		t.Errorf("the secrets are %+v", s)
	}
	if env := p.Guest.Env; env["CLAUDE_CODE_SUBSCRIPTION_TYPE"] != "max" || env["CLAUDE_CODE_OAUTH_SCOPES"] != "mine" {
		t.Errorf("the machine's variables are %q", env)
	}
	// A token of claude setup-token is not renewed.
	if s := lend(Login{Variable: "CLAUDE_CODE_OAUTH_TOKEN"}, nil).Network.Secrets; len(s) != 1 || s[0].Renewed {
		t.Errorf("the secrets are %+v", s)
	}
	for _, l := range []Login{{Variable: "OTHER", Subscription: true}, {Variable: "ANTHROPIC_API_KEY", Subscription: true}} {
		if s := lend(l, nil).Network.Secrets; len(s) > 0 {
			t.Errorf("%+v is lent as %+v", l, s)
		}
	}
	if s := lend(Login{Variable: "CLAUDE_CODE_OAUTH_TOKEN", Subscription: true}, map[string]string{"ANTHROPIC_API_KEY": "own"}).Network.Secrets; len(s) > 0 {
		t.Errorf("beside a key of the user's, %+v is lent", s)
	}
}

// Log-ins of the host are lent to the agents of the image, each to its provider, whatever
// files say; what the user gives the machine in their place wins.
func TestLend(t *testing.T) {
	facts := readFacts(t, "laptop")
	logins := map[string]Login{"claude": {Variable: "ANTHROPIC_API_KEY"}, "codex": {Variable: "OPENAI_API_KEY"}, "gemini": {Variable: "no variable of its"}}
	lent := func(change func(*config.Config)) (froms []string) {
		t.Helper()
		cfg := config.Default()
		cfg.Image.Agents = []string{"claude", "gemini"}
		change(&cfg)
		p, err := New(cfg, facts, Input{Name: "m1", Logins: logins})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range p.Network.Secrets {
			froms = append(froms, s.From)
			if s.Login() == "" {
				continue
			}
			if s.Name != "ANTHROPIC_API_KEY" || !slices.Equal(s.Hosts, []string{"api.anthropic.com"}) || len(s.Places) != 2 || s.AllowForeign || len(s.Pass) > 0 {
				t.Errorf("the secret is %+v; want that of the table", s)
			}
			if !slices.ContainsFunc(p.Notes, func(n string) bool { return strings.Contains(n, "Claude Code works with its log-in of this computer") }) {
				t.Errorf("the notes are %q; want one of the log-in", p.Notes)
			}
		}
		return froms
	}
	own := func(name, host string) func(*config.Config) {
		return func(c *config.Config) {
			c.Secrets = map[string]config.Secret{name: {From: "env:X", Hosts: []string{host}}}
		}
	}
	for _, test := range []struct {
		what   string
		change func(*config.Config)
		want   []string
	}{
		{"nothing", func(*config.Config) {}, []string{"login:claude"}},
		{"another secret", own("OTHER", "x.example"), []string{"login:claude", "env:X"}},
		{"its variable", own("ANTHROPIC_API_KEY", "x.example"), []string{"env:X"}},
		{"its other variable", own("CLAUDE_CODE_OAUTH_TOKEN", "x.example"), []string{"env:X"}},
		{"its host", own("OTHER", "api.anthropic.com"), []string{"env:X"}},
		{"hosts with its host", own("OTHER", "*.anthropic.com"), []string{"env:X"}},
		{"a variable", func(c *config.Config) { c.Env = map[string]string{"ANTHROPIC_AUTH_TOKEN": "x"} }, nil},
		{"off", func(c *config.Config) { c.Agent.Login = false }, nil},
		{"no network", func(c *config.Config) { c.Network.Mode = NetworkNone }, nil},
		{"no such agent", func(c *config.Config) { c.Image.Agents = []string{"opencode"} }, nil},
	} {
		if got := lent(test.change); !slices.Equal(got, test.want) {
			t.Errorf("with %s, the secrets are %q; want %q", test.what, got, test.want)
		}
	}
}
