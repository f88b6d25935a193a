package config

import (
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/credential"
)

// Preset is a set of hosts under one name.
type Preset struct {
	Name string
	For  string // what it is for, in a few words
	// Rules name the hosts of a service. They are empty for a preset of
	// packages: those come from where this host gets its own (host.Mirror).
	Rules []Rule
}

// Packages reports whether the preset stands for a registry of packages.
func (p Preset) Packages() bool { return len(p.Rules) == 0 }

// Presets returns all presets, sorted by name: one for each coding agent among them.
func Presets() []Preset {
	p := []Preset{
		{Name: "apt", For: "Debian packages"},
		{Name: "crates", For: "Rust crates"},
		// The web and git over HTTPS, the API, archives, and raw files with
		// releases. No SSH.
		{"github", "GitHub", hosts("github.com", "api.github.com", "codeload.github.com", "*.githubusercontent.com")},
		{Name: "go", For: "Go modules"},
		{Name: "npm", For: "npm packages"},
		{Name: "pypi", For: "Python packages"},
		// As code.visualstudio.com/docs/setup/network has them: the server, and
		// extensions. No statistics, no accounts.
		{"vscode", "VS Code's server and extensions", hosts("update.code.visualstudio.com", "vscode.download.prss.microsoft.com",
			"marketplace.visualstudio.com", "*.gallery.vsassets.io", "*.gallerycdn.vsassets.io", "*.vscode-unpkg.net")},
	}
	for _, a := range codingagent.Agents() {
		preset := Preset{Name: a.Name, For: a.Title}
		for _, h := range a.Hosts {
			preset.Rules = append(preset.Rules, Rule{Host: h.Name, Port: 443, Paths: h.Paths})
		}
		p = append(p, preset)
	}
	slices.SortFunc(p, func(a, b Preset) int { return strings.Compare(a.Name, b.Name) })
	return p
}

// hosts returns a rule for HTTPS to each host.
func hosts(names ...string) []Rule {
	rules := make([]Rule, len(names))
	for i, name := range names {
		rules[i] = Rule{Host: name, Port: 443}
	}
	return rules
}

func presetNames() []string {
	var names []string
	for _, p := range Presets() {
		names = append(names, p.Name)
	}
	return names
}

// service is a host of a preset, or beside one, with where it takes a credential. What
// coding agents reach is in their table.
type service struct {
	host   string
	places []credential.Place
}

func services() []service {
	// git takes any user; gh and Actions say x-access-token.
	github := []credential.Place{credential.Bearer, credential.Token, credential.AsUser("x-access-token")}
	return []service{
		{"github.com", github},
		{"api.github.com", github},
		{"uploads.github.com", github},
		{"codeload.github.com", github},
		{"*.githubusercontent.com", github},
		{"gitlab.com", []credential.Place{credential.InHeader("Private-Token"), credential.Bearer, credential.AsUser("oauth2")}},
		{"crates.io", []credential.Place{credential.InHeader("Authorization")}},
		{"upload.pypi.org", []credential.Place{credential.AsUser("__token__")}},
		{"test.pypi.org", []credential.Place{credential.AsUser("__token__")}},
	}
}

// Places returns where requests to a host, or to all below "*." and a name, carry a secret
// of which nobody said it. known is false if that is a guess.
func Places(host string) (places []credential.Place, known bool) {
	add := func(more []credential.Place) {
		for _, p := range more {
			if !slices.Contains(places, p) {
				places = append(places, p)
			}
		}
	}
	for _, s := range services() {
		if credential.Covers(s.host, host) {
			add(s.places)
		}
	}
	for _, a := range codingagent.Agents() {
		for _, h := range a.Hosts {
			if credential.Covers(h.Name, host) {
				add(h.Keys)
			}
		}
	}
	if len(places) == 0 {
		return credential.WellKnown(), false
	}
	return places, true
}
