package reference

import (
	"cmp"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/config"
)

func configuration() string {
	p := newPage("Configuration", "the table of keys in `internal/config`")
	p.paragraph("These are all keys of `config.toml`, of a machine's file, of a profile and of a project's\n" +
		"`mayfly.toml`. A file is TOML and begins with `version = 1`. Later sources win: built-in\n" +
		"profiles, your configuration, the project's or the machine's file, flags. Lists add up; the\n" +
		"hosts of a secret are replaced. An unknown key is an error.")
	for _, s := range sections() {
		p.printf("\n## %s\n", s.title)
		var rows [][]string
		for _, key := range s.keys {
			rows = append(rows, []string{
				code(strings.TrimPrefix(key.Name, s.prefix)), plain(key.Type), value(key.Default), code(key.Example), key.Meaning,
			})
		}
		p.table([]string{"key", "type", "default", "example", "meaning"}, rows)
	}
	return p.String()
}

// section is a table of the file, or the tables of a list.
type section struct {
	title, prefix string
	keys          []config.Key
}

// sections sorts the keys by the tables that they are in.
func sections() []section {
	var all []section
	for _, key := range config.Keys() {
		table := ""
		if i := strings.LastIndexByte(key.Name, '.'); i >= 0 {
			table = key.Name[:i]
		}
		i := slices.IndexFunc(all, func(s section) bool { return s.prefix == cmp.Or(table, "top")+"." })
		if i < 0 {
			i = len(all)
			all = append(all, section{title: title(table), prefix: cmp.Or(table, "top") + "."})
		}
		all[i].keys = append(all[i].keys, key)
	}
	return all
}

// title returns how a table is written in a file.
func title(table string) string {
	switch table {
	case "":
		return "Top of the file"
	case "volume", "share":
		return code("[[" + table + "]]")
	case "network.allow", "workspace.clone":
		return "Tables in " + code(table)
	}
	return code("[" + table + "]")
}

// value marks a default that is a value, and leaves words alone.
func value(text string) string {
	if strings.HasPrefix(text, `"`) || text == "true" || text == "false" {
		return code(text)
	}
	return text
}

func profiles() string {
	p := newPage("Profiles and presets", "the tables in `internal/config`")
	p.paragraph("A profile adds Debian packages, coding agents and settings to a machine: `--profile NAME`,\n" +
		"`profiles = [\"NAME\"]`, or a file in the project's top directory that chooses it. A file\n" +
		"`profiles/NAME.toml` beside your `config.toml` is a profile of your own.")
	var rows [][]string
	for _, profile := range config.Profiles() {
		rows = append(rows, []string{code(profile.Name), strings.Join(adds(profile), "; "), chosenBy(profile.Name)})
	}
	p.table([]string{"profile", "adds", "chosen by"}, rows)
	p.paragraph("A preset is a list of hosts under one name: `--preset NAME` or `network.presets`. mayfly\n" +
		"reads from the configuration of the host's package managers where the host gets packages from.")
	rows = nil
	for _, preset := range config.Presets() {
		hosts := "where the host gets them from"
		if !preset.Packages() {
			var rules []string
			for _, r := range preset.Rules {
				if len(r.Paths) == 0 {
					rules = append(rules, r.Host)
				}
				for _, path := range r.Paths {
					rules = append(rules, r.Host+path)
				}
			}
			hosts = codes(rules)
		}
		rows = append(rows, []string{code(preset.Name), preset.For, hosts})
	}
	p.table([]string{"preset", "for", "lets a machine reach"}, rows)
	p.paragraph("Coding agents try more hosts, of which they need nothing: statistics, and updates of a\n" +
		"program that the image pins. Where such a host is denied, `mayfly run` does not count it among the\n" +
		"denied connections; `-v`, `mayfly policy NAME` and `mayfly audit NAME` show it.")
	rows = nil
	for _, a := range codingagent.Agents() {
		if len(a.Needless) > 0 {
			rows = append(rows, []string{a.Title, codes(a.Needless)})
		}
	}
	p.table([]string{"coding agent", "tries, and does not need"}, rows)
	p.paragraph("This is what each coding agent contacts when it does a task in a machine: write a file, test it,\n" +
		"commit. A test measures it with the program that images have, a key that stays on the host, and the\n" +
		"presets. The providers are fakes.")
	rows = nil
	for _, a := range codingagent.Agents() {
		version, contacts := a.Measured()
		var reached, terminal, refused, costs []string
		for _, c := range contacts {
			switch {
			case c.Tries > 0:
				refused = append(refused, code(c.Host)+": "+c.Wants)
				costs = append(costs, c.Costs)
			case c.Terminal:
				terminal = append(terminal, c.Host)
			default:
				reached = append(reached, c.Host)
			}
		}
		also := "not measured"
		if len(terminal) > 0 {
			also = codes(terminal)
		}
		if len(refused) == 0 {
			refused, costs = []string{"nothing"}, []string{"nothing"}
		}
		rows = append(rows, []string{a.Title + " " + version, codes(reached), also, strings.Join(refused, "; "), strings.Join(costs, "; ")})
	}
	p.table([]string{"coding agent", "contacts", "on a terminal also", "is refused", "the refusal costs"}, rows)
	return p.String()
}

// adds returns what a profile adds, part by part.
func adds(p config.Profile) []string {
	packages := slices.Clone(p.Packages)
	for _, name := range p.Agents {
		agent, _ := codingagent.Find(name)
		packages = append(packages, agent.Packages...)
	}
	var parts []string
	if len(packages) > 0 {
		parts = append(parts, codes(packages))
	}
	if len(p.Agents) > 0 {
		parts = append(parts, "the coding agent "+codes(p.Agents))
	}
	if len(p.Presets) > 0 {
		parts = append(parts, "preset "+codes(p.Presets))
	}
	if p.Shell != "" {
		parts = append(parts, "the login shell "+code(p.Shell))
	}
	if p.Init != "" {
		parts = append(parts, code(p.Init)+" as process 1")
	}
	return parts
}

// chosenBy returns what in a project, or of a command, chooses a profile.
func chosenBy(profile string) string {
	var files []string
	for _, m := range config.Markers() {
		if m.Profile == profile {
			files = append(files, m.File)
		}
	}
	if d, ok := config.DetectCommand([]string{profile}); ok {
		return d.Because
	}
	if profile == "go-protobuf" {
		return "`go.mod` and a `.proto` file in the top two levels"
	}
	return codes(files)
}
