package nix

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// maxShellInit is what a machine's file can hold.
const maxShellInit = 32 << 10

// readShell finds the user's shell, what it begins with, and the environment.
func (m *importer) readShell() {
	shell := m.shell()
	type source struct {
		r    *reader
		path []string
	}
	sources := []source{
		{m.nixos, []string{"environment", "extraInit"}},
		{m.nixos, []string{"environment", "shellInit"}},
		{m.nixos, []string{"environment", "interactiveShellInit"}},
	}
	inits := map[string][]string{
		"zsh":  {"envExtra", "shellInit", "loginShellInit", "loginExtra", "interactiveShellInit", "initExtraFirst", "initExtra", "initContent"},
		"bash": {"shellInit", "loginShellInit", "profileExtra", "interactiveShellInit", "bashrcExtra", "initExtra"},
		"fish": {"shellInit", "loginShellInit", "interactiveShellInit"},
	}
	for _, key := range inits[shell] {
		for _, r := range []*reader{m.nixos, m.home} {
			sources = append(sources, source{r, []string{"programs", shell, key}})
		}
	}
	var lines []string
	for _, s := range sources {
		if s.r != nil {
			lines = append(lines, m.initLines(s.r, s.path)...)
		}
	}
	m.readVariables()
	m.ShellInit = m.exported(lines)
	if len(m.ShellInit) > maxShellInit {
		m.ev.note(pos{}, Warning, "what the shell begins with has more than %d KiB; put it into dotfiles", maxShellInit>>10)
		m.ShellInit = ""
	}
}

// shell returns the shell's name, and sets it or the profile for it.
func (m *importer) shell() string {
	shell := ""
	for _, p := range [][]string{{"users", "users", m.user, "shell"}, {"users", "defaultUserShell"}} {
		if v, _, err := m.nixos.one(p...); m.nixos.keep(err) && shell == "" {
			if o, ok := v.(*opaque); ok {
				shell = o.attr
			}
		}
	}
	if m.home != nil && shell == "" {
		for _, name := range []string{"zsh", "fish", "bash"} {
			if m.home.enabled("programs", name, "enable") {
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
	case "", "bash", "bashInteractive":
		return "bash"
	default:
		m.ev.note(pos{}, Unknown, "the shell %s", quote(shell))
	}
	return shell
}

// simpleLine is a line that means the same without those around it.
var simpleLine = regexp.MustCompile(`^\s*(export|alias|setopt|unsetopt|bindkey|set -gx|set -x)\s[^'"\\;&|()<>` + "`" + `]*(('[^'\\]*'|"[^"\\` + "`" + `]*")[^'"\\;&|()<>` + "`" + `]*)*$`)

// initLines returns the lines of an option that shells run. A text in which something
// is not known is not run in parts, which might mean something else: of it only lines
// that stand for themselves are taken.
func (m *importer) initLines(r *reader, p []string) []string {
	defs, err := r.definitions(p...)
	if !r.keep(err) {
		return nil
	}
	var lines []string
	for _, d := range defs {
		s, err := coerce(d.at, d.value)
		if err != nil {
			m.ev.failed(err)
			continue
		}
		partly, left := s.hole() != nil, 0
		for _, line := range s.lines() {
			known, ok := line.known()
			if !ok {
				at := d.at
				if h := line.hole(); h.pos.src != nil {
					at = h.pos
				}
				m.ev.note(at, Unknown, "a line of %s depends on %s; put what it stands for into home.dotfiles or home.shell_init", optionName(p), quote(line.hole().label))
				continue
			}
			if partly && !simpleLine.MatchString(known) {
				if strings.TrimSpace(known) != "" {
					left++
				}
				continue
			}
			lines = append(lines, strings.TrimRight(known, " \t\r"))
		}
		if left > 0 {
			m.ev.note(d.at, Unknown, "%d lines of %s are left out with what is not known of it", left, optionName(p))
		}
	}
	return lines
}

// readVariables reads the options that are variables.
func (m *importer) readVariables() {
	read := func(r *reader, p ...string) {
		for _, name := range r.names(p...) {
			at := append(slices.Clip(p), name)
			v, place, err := r.one(at...)
			if !r.keep(err) || v == nil {
				continue
			}
			s, err := coerce(place, v)
			if err != nil {
				m.ev.failed(err)
				continue
			}
			known, ok := s.known()
			if !ok {
				m.ev.note(place, Unknown, "the variable %s depends on %s", quote(name), quote(s.hole().label))
				continue
			}
			value, ok := m.variable(known, strings.Contains(known, "$"))
			if !ok || !variableName.MatchString(name) || reserved(name) {
				m.ev.note(place, Unknown, "the variable %s: its value is no constant; put it into home.shell_init", quote(name))
				continue
			}
			m.Env[name] = value
		}
	}
	read(m.nixos, "environment", "variables")
	read(m.nixos, "environment", "sessionVariables")
	if m.home != nil {
		read(m.home, "home", "sessionVariables")
	}
}

var (
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
	exportLine   = regexp.MustCompile(`^\s*export\s+([A-Za-z_][A-Za-z0-9_]*)=(.*)$`)
	assignment   = regexp.MustCompile(`(?:^|[\s;&(])([A-Za-z_][A-Za-z0-9_]*)\+?=`)
	plainValue   = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,=-]*$`)
	homeVariable = regexp.MustCompile(`\$\{HOME\}|\$\{USER\}|\$HOME\b|\$USER\b`)
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
		for _, a := range assignment.FindAllStringSubmatch(line, -1) {
			times[a[1]]++
		}
	}
	var rest []string
	for _, line := range lines {
		if e := exportLine.FindStringSubmatch(line); e != nil && times[e[1]] == 1 && !reserved(e[1]) && variableName.MatchString(e[1]) {
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
	if !plainValue.MatchString(homeVariable.ReplaceAllString(word, "")) && (!quoted || strings.ContainsAny(word, "\"'\\`")) {
		return "", false
	}
	return m.variable(word, true)
}

// variable returns text as the value of a key of [env].
func (m *importer) variable(text string, expand bool) (string, bool) {
	if len(text) > maxPath || printable(text) != text {
		return "", false
	}
	if expand {
		if strings.Contains(homeVariable.ReplaceAllString(text, ""), "$") {
			return "", false
		}
	} else {
		text = strings.ReplaceAll(text, "$", "$$")
	}
	if m.dir != "" && path.Clean(text) == text && (text == m.dir || strings.HasPrefix(text, m.dir+"/")) {
		text = "$HOME" + strings.TrimPrefix(text, m.dir)
	}
	return text, true
}
