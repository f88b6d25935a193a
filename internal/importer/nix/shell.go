package nix

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// maxShellInit is what a machine's file can hold.
const maxShellInit = 32 << 10

// inits are the options of shells whose texts they begin with, in order.
var inits = map[string][]string{
	"zsh":  {"envExtra", "shellInit", "loginShellInit", "loginExtra", "interactiveShellInit", "initExtraFirst", "initExtra", "initContent"},
	"bash": {"shellInit", "loginShellInit", "profileExtra", "interactiveShellInit", "bashrcExtra", "initExtra"},
	"fish": {"shellInit", "loginShellInit", "interactiveShellInit"},
}

// readShell finds the user's shell, what it begins with, and the environment.
func (m *importer) readShell() {
	shell := m.shell()
	env := m.nixos.Environment
	m.readVariables("environment.variables", env.Variables)
	m.readVariables("environment.sessionVariables", env.SessionVariables)
	if m.home != nil {
		m.readVariables("home.sessionVariables", m.home.Home.SessionVariables)
	}

	var lines []string
	add := func(name string, o option[string]) {
		text, _ := take(m, name, o)
		for line := range strings.Lines(text) {
			lines = append(lines, strings.TrimRight(line, " \t\r\n"))
		}
	}
	add("environment.extraInit", env.ExtraInit)
	add("environment.shellInit", env.ShellInit)
	add("environment.interactiveShellInit", env.InteractiveShellInit)
	for _, key := range inits[shell] {
		name := "programs." + shell + "." + key
		add(name, m.nixos.Programs[shell].Inits[key])
		if m.home != nil {
			add(name, m.home.Programs[shell].Inits[key])
		}
	}
	m.ShellInit = m.exported(lines)
	if len(m.ShellInit) > maxShellInit {
		m.note(Warning, "what the shell begins with has more than %d KiB; put it into dotfiles", maxShellInit>>10)
		m.ShellInit = ""
	}
}

// shell returns the shell's name, and sets it or the profile for it.
func (m *importer) shell() string {
	p, _ := take(m, "the user's shell", m.account().Shell)
	shell := attributeOf(p.Name)
	if m.home != nil && shell == "" {
		for _, name := range []string{"zsh", "fish", "bash"} {
			if m.home.Programs[name].Enable.value {
				shell = name
				break
			}
		}
	}
	switch shell {
	case "zsh":
		if !slices.Contains(m.Profiles, "zsh") {
			m.Profiles = append(m.Profiles, "zsh")
		}
	case "fish":
		m.Shell = "fish"
		if !slices.Contains(m.Packages, "fish") {
			m.Packages = append(m.Packages, "fish")
		}
	case "", "bash":
		return "bash"
	default:
		m.note(Unknown, "the shell %s", quote(shell))
	}
	return shell
}

// readVariables reads the option key, which holds variables.
func (m *importer) readVariables(key string, o option[map[string]string]) {
	variables, _ := take(m, key, o)
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		value, ok := m.variable(variables[name])
		if !ok || !variableName().MatchString(name) || reserved(name) {
			m.note(Unknown, "the variable %s: its value is no constant; put it into home.shell_init", quote(name))
			continue
		}
		m.Env[name] = value
	}
}

var (
	variableName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`) })
	exportLine   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^\s*export\s+([A-Za-z_][A-Za-z0-9_]*)=(.*)$`) })
	assignment   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?:^|[\s;&(])([A-Za-z_][A-Za-z0-9_]*)\+?=`) })
	plainValue   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_./:@%+,=-]*$`) })
	homeVariable = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\$\{HOME\}|\$\{USER\}|\$HOME\b|\$USER\b`) })
)

// reserved are variables that the guest sets itself, or that are built from their old
// value.
func reserved(name string) bool {
	return slices.Contains([]string{"PATH", "HOME", "USER", "SHELL", "PWD", "IFS", "ENV", "BASH_ENV"}, name)
}

// exported moves lines that only set a variable to the environment, which all programs
// of the machine see, and returns the others.
func (m *importer) exported(lines []string) string {
	times := make(map[string]int)
	for _, line := range lines {
		for _, a := range assignment().FindAllStringSubmatch(line, -1) {
			times[a[1]]++
		}
	}
	var rest []string
	for _, line := range lines {
		if e := exportLine().FindStringSubmatch(line); e != nil && times[e[1]] == 1 && !reserved(e[1]) && variableName().MatchString(e[1]) {
			if value, ok := m.shellValue(e[2]); ok {
				if _, twice := m.Env[e[1]]; !twice {
					m.Env[e[1]] = value
					continue
				}
			}
		}
		rest = append(rest, line)
	}
	text := strings.Trim(strings.Join(rest, "\n"), "\n")
	if text != "" {
		text += "\n"
	}
	return text
}

// shellValue returns what a shell makes of a word, if that is a constant but for $HOME
// and $USER.
func (m *importer) shellValue(word string) (string, bool) {
	word = strings.TrimSpace(word)
	quoted := len(word) >= 2 && (word[0] == '"' || word[0] == '\'') && word[len(word)-1] == word[0]
	if quoted {
		literal := word[0] == '\''
		word = word[1 : len(word)-1]
		if literal && strings.Contains(word, "$") {
			return "", false
		}
	}
	if !plainValue().MatchString(homeVariable().ReplaceAllString(word, "")) && (!quoted || strings.ContainsAny(word, "\"'\\`")) {
		return "", false
	}
	return m.variable(word)
}

// variable returns text as the value of a key of [env], if it is a constant but for
// $HOME and $USER.
func (m *importer) variable(text string) (string, bool) {
	if len(text) > maxPath || !termsafe.Is(text) || strings.Contains(homeVariable().ReplaceAllString(text, ""), "$") {
		return "", false
	}
	if rest, ok := m.below(text); ok && path.Clean(text) == text {
		text = "$HOME" + rest
	}
	return text, true
}
