package config

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRule(t *testing.T) {
	long := strings.Repeat("a.", 126) + "a" // 253 bytes
	tests := []struct {
		text string
		want Rule
	}{
		{"github.com", Rule{Host: "github.com"}},
		{"GitHub.COM.", Rule{Host: "github.com"}},
		{"intranet", Rule{Host: "intranet"}},
		{"a_b.example.org", Rule{Host: "a_b.example.org"}},
		{"xn--bcher-kva.example", Rule{Host: "xn--bcher-kva.example"}},
		{"*.golang.org", Rule{Host: "*.golang.org"}},
		{"*.Example.org:8443", Rule{Host: "*.example.org", Port: 8443}},
		{long, Rule{Host: long}},
		{"api.anthropic.com:443", Rule{Host: "api.anthropic.com", Port: 443}},
		{"host.mayfly.internal:11434", Rule{Host: HostName, Port: 11434}},
		{"GET host.mayfly.internal:11434/v1/", Rule{Host: HostName, Port: 11434, Methods: []string{"GET"}, Paths: []string{"/v1/"}}},
		{"10.1.2.3:22", Rule{Host: "10.1.2.3", Port: 22, Private: true}},
		{"9.9.9.9", Rule{Host: "9.9.9.9"}},
		{"fd00::1", Rule{Host: "fd00::1", Private: true}},
		{"[FD00:0::1]:22", Rule{Host: "fd00::1", Port: 22, Private: true}},
		{"[2620:fe::fe]", Rule{Host: "2620:fe::fe"}},
		{"::ffff:9.9.9.9", Rule{Host: "9.9.9.9"}},
		{"example.org/", Rule{Host: "example.org", Paths: []string{"/"}}},
		{"GET,HEAD api.github.com:443/repos/acme/,/user", Rule{Host: "api.github.com", Port: 443, Methods: []string{"GET", "HEAD"}, Paths: []string{"/repos/acme/", "/user"}}},
		{"GET registry.example/@scope/a b", Rule{Host: "registry.example", Methods: []string{"GET"}, Paths: []string{"/@scope/a b"}}},
	}
	for _, tt := range tests {
		got, err := ParseRule(tt.text)
		if d := cmp.Diff(tt.want, got); err != nil || d != "" {
			t.Errorf("ParseRule(%q) = %+v, %v (-want +got)\n%s", tt.text, got, err, d)
		}
	}
}

func TestParseRuleErrors(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", "a host's name is missing"},
		{"https://github.com/x", `not with a scheme (did you mean "github.com"?)`},
		{"https://GitHub.com:8443/x", `(did you mean "github.com:8443"?)`},
		{"ssh://git@github.com/x", `(did you mean "github.com:22"?)`},
		{"https://10.1.2.3/x", `(did you mean "10.1.2.3"?)`},
		{"://", "not with a scheme"},
		{"git@github.com:acme/x.git", `has no user (did you mean "github.com:22"?)`},
		{"user:pw@example.org", `has no user (did you mean "example.org"?)`},
		{"*", `"*" is every host; for that there is egress = "public"`},
		{"*.com", "too wide"},
		{"*foo.example.org", "only for whole labels at the front"},
		{"a.*.org", "only for whole labels at the front"},
		{"*.*.example.org", "only for whole labels at the front"},
		{".example.org:22", `(did you mean "*.example.org:22"?)`},
		{"bücher.example", "not ASCII; write the form that begins with xn--"},
		{"a b.example", `no HTTP method (did you mean "A"?)`},
		{"a..b", "its parts have 1 to 63 bytes"},
		{"example.org..", "its parts have 1 to 63 bytes"},
		{strings.Repeat("a", 64) + ".org", "its parts have 1 to 63 bytes"},
		{strings.Repeat("a.", 127) + "a", "longer than a name can be"},
		{"-a.example", "begins or ends with a hyphen"},
		{"exa$mple.org", "only letters, digits, hyphens and dots"},
		{"a\x1b[2J.org", "only letters, digits, hyphens and dots"},
		{"example.org:0", `the port is "0"; must be a number between 1 and 65535`},
		{"example.org:65536", `the port is "65536"`},
		{"example.org:080", `the port is "080"`},
		{"example.org:", `the port is ""`},
		{"example.org:https", `the port is "https"`},
		{"fd00::1::2", "IPv6 address with a port is in brackets"},
		{"fe80::1%eth0", "address with a zone"},
		{"[10.1.2.3]:22", "no IPv6 address in brackets"},
		{"[::1", "no IPv6 address in brackets"},
		{"1.2.3", "neither a name nor an address of four decimal numbers"},
		{"2130706433", "neither a name nor an address of four decimal numbers"},
		{"127.0.0.0x1", "neither a name nor an address of four decimal numbers"},
		{"010.1.2.3", "neither a name nor an address of four decimal numbers"},
		{"10.0.0.0/8", "is a range of addresses"},
		{"fd00::/8", "is a range of addresses"},
		{"10.1.2.3/repos", "methods and paths are limited for names only"},
		{"127.0.0.1:5432", `the machine itself (did you mean "host.mayfly.internal:5432"?)`},
		{"0.0.0.0", `the machine itself (did you mean "host.mayfly.internal:8080"?)`},
		{"::1", `the machine itself (did you mean "host.mayfly.internal:8080"?)`},
		{"localhost:5432", `the machine itself (did you mean "host.mayfly.internal:5432"?)`},
		{"224.0.0.251", "no single host's address"},
		{"198.18.0.7", "stand for names"},
		{"host.mayfly.internal", "needs the port of the service"},
		{"*.mayfly.internal:80", `named one by one (did you mean "host.mayfly.internal:80"?)`},
		{"get example.org", `"get" is no HTTP method (did you mean "GET"?)`},
		{"GET, example.org", `"" is no HTTP method`},
		{"example.org//a", `not in its shortest form (did you mean "/a"?)`},
		{"example.org/a/../b", `not in its shortest form (did you mean "/b"?)`},
		{"example.org/a?b=c", `(did you mean "/a"?)`},
		{"example.org/a/*", `it stands for all that is below it anyway (did you mean "/a/"?)`},
		{"example.org/a%2fb", "would never match"},
		{"example.org/a\nb", "holds what is no text"},
		{"example.org/" + strings.Repeat("a", maxPath), "at most 1024 bytes"},
		{strings.Repeat("a", maxRule+1), "at most 4096 bytes"},
	}
	for _, tt := range tests {
		r, err := ParseRule(tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseRule(%.80q) = %+v, %v; want %q", tt.text, r, err, tt.want)
		} else if strings.Contains(err.Error(), "pw") || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("ParseRule(%q): %q is not for a terminal", tt.text, err)
		}
	}
}

func TestParsePort(t *testing.T) {
	tests := []struct {
		text string
		want Port
		err  string
	}{
		{"8080:80", Port{"127.0.0.1", 8080, 80}, ""},
		{"0:80", Port{"127.0.0.1", 0, 80}, ""},
		{"127.0.0.1:8080:80", Port{"127.0.0.1", 8080, 80}, ""},
		{"0.0.0.0:8080:80", Port{"0.0.0.0", 8080, 80}, ""},
		{"[::1]:8080:80", Port{"::1", 8080, 80}, ""},
		{"[::ffff:127.0.0.1]:8080:80", Port{"127.0.0.1", 8080, 80}, ""},
		{"8080", Port{}, `must be [ADDRESS:]PORT:GUEST-PORT, as in "127.0.0.1:8080:80" (did you mean "8080:8080"?)`},
		{"", Port{}, "must be [ADDRESS:]PORT:GUEST-PORT"},
		{"localhost:8080:80", Port{}, `(did you mean "127.0.0.1:8080:80"?)`},
		{"*:8080:80", Port{}, `(did you mean "0.0.0.0:8080:80"?)`},
		{":8080:80", Port{}, `(did you mean "0.0.0.0:8080:80"?)`},
		{"::1:8080:80", Port{}, `(did you mean "[::1]:8080:80"?)`},
		{"[127.0.0.1]:8080:80", Port{}, `(did you mean "127.0.0.1:8080:80"?)`},
		{"example.org:8080:80", Port{}, `"example.org" is no address of this computer`},
		{"[fe80::1%eth0]:8080:80", Port{}, "is no address of this computer"},
		{"8080:80/tcp", Port{}, `the port is "80/tcp"`},
		{"8080:0", Port{}, `the port is "0"`},
		{"70000:80", Port{}, `the port is "70000"`},
		{strings.Repeat("1", 200), Port{}, "must be"},
	}
	for _, tt := range tests {
		got, err := ParsePort(tt.text)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("ParsePort(%.40q) = %v, %v; want %v, %q", tt.text, got, err, tt.want, tt.err)
		}
	}
}

func TestNetworkErrors(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"every element, with its line", `
[network]
presets = ["npm", "nmp", "githib"]
allow = [
	"github.com", # a comment
	# another
	"https://example.org/x",
	{ host = "a.example", port = 0 },
	{ host = "b.example", path = ["/x"] },
	{ port = 443 }, {},
	{ host = "c.example:443" },
	{ host = "10.1.2.3" },
	{ host = "host.mayfly.internal", port = 80, private = true },
	{ host = "d.example", methods = ["GET"], intercept = false },
	{ host = "e.example", private = "yes" },
	17,
]
ports = ["8080:80", 8081, "x"]
`, []string{
			`f.toml:3: network.presets: no preset "nmp"; there is apt, claude, codex, copilot, crates, gemini, github, go, npm, opencode, pypi, vscode (did you mean "npm"?)`,
			`f.toml:3: network.presets: no preset "githib"; there is apt, claude, codex, copilot, crates, gemini, github, go, npm, opencode, pypi, vscode (did you mean "github"?)`,
			`f.toml:7: network.allow: a rule begins with a host's name and not with a scheme (did you mean "example.org"?)`,
			`f.toml:8: network.allow.port: is 0; must be between 1 and 65535`,
			`f.toml:9: network.allow.path: unknown key (did you mean "paths"?)`,
			`f.toml:10: network.allow: a rule has no host`,
			`f.toml:10: network.allow: a rule has no host`,
			`f.toml:11: network.allow: the host is "c.example:443"; a port has a key of its own: host = "c.example", port = 443`,
			`f.toml:12: network.allow: 10.1.2.3 is not a public address; add private = true if you mean it`,
			`f.toml:13: network.allow: host.mayfly.internal is this computer's loopback interface; private means nothing there`,
			`f.toml:14: network.allow: intercept = false hides methods and paths, which the rule limits`,
			`f.toml:15: network.allow.private: must be true or false, not the string "yes"`,
			`f.toml:16: network.allow: must be a host or a table such as { host = "example.org", port = 443 }, not the integer 17`,
			`f.toml:18: network.ports: must be a string, not the integer 8081`,
			`f.toml:18: network.ports: is "x"; must be [ADDRESS:]PORT:GUEST-PORT, as in "127.0.0.1:8080:80"`,
		}},
		{"a list of tables", `
[[network.allow]]
host = "a.example"
[[network.allow]]
host = "b.example"
methods = ["get"]
`, []string{`f.toml:4: network.allow: "get" is no HTTP method (did you mean "GET"?)`}},
		{"no list", "\nnetwork.allow = \"github.com\"\nnetwork.egres = 1", []string{
			`f.toml:2: network.allow: must be a list, not the string "github.com"`,
			`f.toml:3: network.egres: unknown key (did you mean "egress"?)`}},
		{"words", "\nnetwork.mode = \"nat\"\nnetwork.egress = \"pubic\"", []string{
			`f.toml:2: network.mode: is "nat"; must be "none", "user" or "bridge"`,
			`f.toml:3: network.egress: is "pubic"; must be "none", "public", "allowlist" or "ask" (did you mean "public"?)`}},
		{"a bridge", "\nnetwork.mode = \"bridge\"\nnetwork.egress = \"allowlist\"\nnetwork.allow = [\"a.example\"]", []string{
			`f.toml:3: network.egress: is "allowlist", but network.mode is "bridge", where nobody looks into connections`,
			`f.toml:4: network.allow: allows what will not be reached: network.mode is "bridge"`}},
		{"a bridge's keys", "\nnetwork.address = \"192.168.83.6/24\"\nnetwork.mac = \"02:00:00:00:00:05\"", []string{
			`f.toml:2: network.address: is for mode = "bridge" only; the mode is "user"`,
			`f.toml:3: network.mac: is for mode = "bridge" only; the mode is "user"`}},
		{"addresses", "\nnetwork.mode = \"bridge\"\nnetwork.address = \"192.168.83.6\"\nnetwork.mac = \"01:00:00:00:00:05\"", []string{
			`f.toml:3: network.address: has no length of a network's prefix, as in "192.168.83.6/24" (did you mean "192.168.83.6/24"?)`,
			`f.toml:4: network.mac: is "01:00:00:00:00:05", which is no single card's address`}},
		{"no machine's address", "\nnetwork.mode = \"bridge\"\nnetwork.address = \"192.168.83.255/24\"\nnetwork.mac = \"02-00\"", []string{
			`f.toml:3: network.address: is "192.168.83.255/24", which is the network itself and no machine in it`,
			`f.toml:4: network.mac: is "02-00"; must be six bytes`}},
		{"ports", "\nnetwork.ports = [\n\"8080:80\",\n\"8080:80\",\n\"0.0.0.0:8080:81\",\n\"0:1\", \"0:2\",\n\"[::1]:8080:80\"]", []string{
			`f.toml:5: network.ports: "0.0.0.0:8080:81" takes the port of "127.0.0.1:8080:80"`}},
		{"passthrough", `
[network]
allow = [
	{ host = "a.example", intercept = false },
	{ host = "a.example", port = 443, methods = ["GET"] },
	{ host = "b.example", port = 22, intercept = false },
	{ host = "c.example", intercept = false },
]
[secrets.X]
from = "env:X"
hosts = ["b.example", "c.example"]
`, []string{
			`f.toml:4: network.allow: intercept = false for a.example hides the methods and paths that another rule limits`,
			`f.toml:7: network.allow: intercept = false for c.example, to which the secret X goes: it is put in where requests are seen`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { wantErrors(t, "version = 1"+tt.text, tt.want) })
	}
}

func TestSecretErrors(t *testing.T) {
	const value = "sk-ant-very-secret"
	wantErrors(t, `version = 1
[secrets.A]
from = "`+value+`"
hosts = ["api.example.org"]
[secrets.B]
frm = "env:B"
[secrets.C]
[secrets]
D = "`+value+`"
[secrets.E]
from = "env:$E"
hosts = ["10.1.2.3"]
[secrets.F]
from = "file:token"
hosts = ["https://api.example.org/v1"]
[secrets.G]
from = "cmd: "
hosts = ["api.example.org:443"]
[secrets.H]
from = "$H"
hosts = ["host.mayfly.internal"]
[secrets.I]
from = ["`+value+`"]
foreign_credentials = "remove"
`, []string{
		`f.toml:3: secrets.A.from: must begin with "env:", "file:" or "cmd:"; the value itself does not belong here`,
		`f.toml:6: secrets.B.frm: unknown key (did you mean "from"?)`,
		`f.toml:7: secrets.C: is empty; it needs the keys from and hosts`,
		`f.toml:9: secrets.D: must be a table, written [secrets.D], with the keys from and hosts`,
		`f.toml:11: secrets.E.from: "env:" is followed by the name of a variable: letters, digits and _ only (did you mean "env:E"?)`,
		`f.toml:12: secrets.E.hosts: a secret goes to hosts by their names only, not to the address 10.1.2.3`,
		`f.toml:14: secrets.F.from: "file:" is followed by a path that is absolute or begins with ~/`,
		`f.toml:15: secrets.F.hosts: a rule begins with a host's name and not with a scheme (did you mean "api.example.org"?)`,
		`f.toml:17: secrets.G.from: "cmd:" is followed by a shell command`,
		`f.toml:18: secrets.G.hosts: "api.example.org:443" has a port: a secret goes to port 443 only (did you mean "api.example.org"?)`,
		`f.toml:20: secrets.H.from: must begin with "env:", "file:" or "cmd:"; the value itself does not belong here (did you mean "env:H"?)`,
		`f.toml:21: secrets.H.hosts: host.mayfly.internal has no certificate: no secret goes there`,
		`f.toml:23: secrets.I.from: must be a string such as "env:NAME", "file:PATH" or "cmd:COMMAND"`,
		`f.toml:24: secrets.I.foreign_credentials: is "remove"; must be "strip" or "allow"`,
	})
	wantErrors(t, `version = 1
[secrets.A]
from = "env:A"
[secrets.B]
hosts = ["api.example.org"]
[secrets."C.D"]
from = "env:C"
hosts = ["api.example.org"]
[secrets.E]
from = "env:E"
hosts = ["api.example.org"]
[env]
E = "x"
`, []string{
		`f.toml:3: secrets.A: goes nowhere: add hosts = ["api.example.org"]`,
		`f.toml:5: secrets.B: has no value: add from = "env:B", or "file:PATH" or "cmd:COMMAND"`,
		`f.toml:7: secrets."C.D": "\"C.D\"" is not a variable's name: letters, digits and _ only`,
		`f.toml:10: secrets.E: is in [env], too, where everything in the machine could read it`,
	})
}

func wantErrors(t *testing.T, text string, want []string) {
	t.Helper()
	_, err := Load(Sources{Files: []File{file("f.toml", text)}})
	if err == nil {
		t.Fatal("Load: no error")
	}
	got := strings.Split(err.Error(), "\n")
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("Load: (-want +got)\n%s", cmp.Diff(want, got))
	}
	if strings.Contains(err.Error(), "very-secret") {
		t.Errorf("Load: %v: it repeats a secret's value", err)
	}
}

// A file leaves the host's authorities out of machines, and a later one brings them back.
func TestTrustHostAuthorities(t *testing.T) {
	const off, on = "version = 1\n[network]\ntrust_host_authorities = false", "version = 1\n[network]\ntrust_host_authorities = true"
	for want, texts := range map[bool][][]string{true: {nil, {on}, {off, on}}, false: {{off}, {on, off}}} {
		for _, files := range texts {
			var src Sources
			for _, text := range files {
				src.Files = append(src.Files, file("mayfly.toml", text))
			}
			cfg, err := Load(src)
			if err != nil || cfg.Network.TrustHostAuthorities != want {
				t.Errorf("%q: %v, %v; want %v", files, cfg.Network.TrustHostAuthorities, err, want)
			}
		}
	}
}

func TestNetworkMerge(t *testing.T) {
	got, err := Load(Sources{
		Detected: []string{"node"},
		Files: []File{
			file("user.toml", "version = 1\n[network]\nallow = [\"a.example\"]\n[secrets.A]\nfrom = \"env:A\"\nhosts = [\"a.example\"]\n[secrets.B]\nfrom = \"cmd:pass b\"\nhosts = [\"*.b.example\"]"),
			file("mayfly.toml", "version = 1\n[network]\negress = \"allowlist\"\nallow = [\"b.example:22\"]\n[secrets.A]\nforeign_credentials = \"allow\""),
		},
		Settings: []Setting{
			{"--allow", "network.allow", []string{"c.example", "GET d.example/x"}},
			{"--preset", "network.presets", []string{"github"}},
			{"--publish", "network.ports", []string{"8080:80"}},
			{"--secret A", "secrets.A.hosts", []string{"C.example"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	wantNetwork := Network{
		TrustHostAuthorities: true,
		Mode:                 "user", Egress: "allowlist", Presets: []string{"npm", "github"},
		Allow: []Rule{{Host: "a.example"}, {Host: "b.example", Port: 22}, {Host: "c.example"}, {Host: "d.example", Methods: []string{"GET"}, Paths: []string{"/x"}}},
		Ports: []Port{{"127.0.0.1", 8080, 80}},
	}
	if d := cmp.Diff(wantNetwork, got.Network); d != "" {
		t.Errorf("Network: (-want +got)\n%s", d)
	}
	wantSecrets := map[string]Secret{
		"A": {From: "env:A", Hosts: []string{"c.example"}, Foreign: "allow"}, // no longer a.example
		"B": {From: "cmd:pass b", Hosts: []string{"*.b.example"}},
	}
	if d := cmp.Diff(wantSecrets, got.Secrets); d != "" {
		t.Errorf("Secrets: (-want +got)\n%s", d)
	}
}

func TestNetworkSettingErrors(t *testing.T) {
	_, err := Load(Sources{Settings: []Setting{
		{"--allow", "network.allow", []string{"a.example", "*", "*.com"}},
		{"--secret A=B", "secrets.A=B.from", "env:A"},
		{"--secret A=B", "secrets.A=B.hosts", []string{"a.example"}},
		{"--secret X", "secrets.X.from", "env:X"},
		{"--secret X", "secrets.X.hosts", []string{""}},
	}})
	want := []string{
		`--allow: "*" is every host; for that there is egress = "public"`,
		`--allow: "*.com" is too wide: there must be two labels behind the *, as in "*.example.org"`,
		`--secret X: a host's name is missing`,
		`--secret A=B: "A=B" is not a variable's name: letters, digits and _ only`,
	}
	if d := cmp.Diff(want, strings.Split(err.Error(), "\n")); d != "" {
		t.Errorf("Load: (-want +got)\n%s", d)
	}
}

func TestPresets(t *testing.T) {
	if names := presetNames(); !slices.IsSorted(names) {
		t.Errorf("Presets() = %v; want sorted", names)
	}
	for _, p := range Presets() {
		for _, r := range p.Rules {
			again, err := parseHost(r.Host)
			if bad := r.check(); err != nil || bad != nil || again != r.Host {
				t.Errorf("preset %s: rule %+v: %v, %v", p.Name, r, err, bad)
			}
		}
	}
	for _, p := range Profiles() {
		for _, name := range p.Presets {
			if !slices.Contains(presetNames(), name) {
				t.Errorf("profile %s: no preset %q", p.Name, name)
			}
		}
	}
}

// FuzzParseRule: no panic; what is accepted has one form, which is read as
// itself; no error breaks a line.
func FuzzParseRule(f *testing.F) {
	for _, s := range []string{
		"github.com", "*.golang.org:443", "10.1.2.3:22", "[fd00::1]:22", "GET,HEAD api.github.com:443/repos/acme/,/user",
		"host.mayfly.internal:11434", "https://u:p@example.org/x", "git@github.com:a/b", "*.com", "10.0.0.0/8", "a..b", "[::1", "A b/c,/d", "\xff", "a/\x00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRule(text)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r\x1b\x00") {
				t.Errorf("ParseRule(%q): %q cannot be printed on one line", text, err)
			}
			return
		}
		again, err := ParseRule(ruleText(r))
		if d := cmp.Diff(r, again); err != nil || d != "" {
			t.Errorf("ParseRule(%q) = %+v, which is read as %+v, %v", text, r, again, err)
		}
		if strings.ToLower(r.Host) != r.Host || strings.HasSuffix(r.Host, ".") || r.Host == "" {
			t.Errorf("ParseRule(%q): the host is %q", text, r.Host)
		}
	})
}

// ruleText writes a rule as plan.Rule.String does.
func ruleText(r Rule) string {
	text := r.Host
	if strings.Contains(r.Host, ":") {
		text = "[" + text + "]"
	}
	if r.Port != 0 {
		text += ":" + strconv.Itoa(r.Port)
	}
	if len(r.Methods) > 0 {
		text = strings.Join(r.Methods, ",") + " " + text
	}
	return text + strings.Join(r.Paths, ",")
}

// FuzzParsePort: no panic; what is accepted is read again as itself.
func FuzzParsePort(f *testing.F) {
	for _, s := range []string{"8080:80", "127.0.0.1:8080:80", "[::1]:0:80", "::1:1:1", "[::]:1:1", "a:b:c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePort(text)
		if err != nil {
			return
		}
		if again, err := ParsePort(p.String()); err != nil || again != p {
			t.Errorf("ParsePort(%q) = %v, which is read as %v, %v", text, p, again, err)
		}
	})
}
