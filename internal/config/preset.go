package config

import (
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
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
