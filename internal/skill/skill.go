// Package skill is what coding agents are told about mayfly: a skill, in the
// format that Claude Code, Codex, opencode and Gemini CLI read, by which an agent
// makes a machine when its user asks for one.
//
// The text is embedded. Install writes it where an agent looks for skills; Lint
// and Commands are for tests: whether the text keeps the format's rules, and what
// an agent would run. Nothing here runs a command or knows what one does.
package skill

import (
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Name is the name of the skill, and of its directory.
const Name = "create-mayfly-machine"

// fileName is the name that all agents look for.
const fileName = "SKILL.md"

//go:embed create-mayfly-machine/SKILL.md
var text string

// Text returns SKILL.md.
func Text() string { return text }

// Bounds of the format, as the agents' documents have them.
const (
	maxName        = 64
	maxDescription = 1024
	maxLines       = 500
)

var (
	nameRule = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	keyRule  = regexp.MustCompile(`^([a-z][a-z-]*): +(\S.*)$`)
)

// knownKeys are the keys of the front matter that agents know.
var knownKeys = []string{"name", "description", "license", "compatibility", "allowed-tools"}

// Lint says which rules of the format a SKILL.md in the directory dir breaks. The
// front matter it takes is plain: one key and value a line.
func Lint(dir, text string) error {
	head, body, err := cutFrontMatter(text)
	if err != nil {
		return err
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	values := make(map[string]string)
	for line := range strings.Lines(head) {
		m := keyRule.FindStringSubmatch(strings.TrimRight(line, "\n"))
		switch {
		case m == nil:
			bad("front matter: %.40q is no key and value", line)
			continue
		case !slices.Contains(knownKeys, m[1]):
			bad("front matter: %s is no key of the format", m[1])
		case values[m[1]] != "":
			bad("front matter: %s is there twice", m[1])
		}
		// Without quotes, this would begin a mapping or a comment.
		if strings.Contains(m[2], ": ") || strings.Contains(m[2], " #") || strings.ContainsRune("\"'[]{}&*!|>%@`", rune(m[2][0])) {
			bad("front matter: the value of %s needs quotes in YAML", m[1])
		}
		values[m[1]] = m[2]
	}
	name, description := values["name"], values["description"]
	if !nameRule.MatchString(name) || len(name) > maxName || name != dir {
		bad("name is %q; want the directory's, %q, in at most %d lower-case letters, digits and hyphens", name, dir, maxName)
	}
	for _, word := range []string{"claude", "anthropic"} {
		if strings.Contains(name, word) {
			bad("name holds the reserved word %s", word)
		}
	}
	switch {
	case description == "" || utf8.RuneCountInString(description) > maxDescription:
		bad("description has %d characters; want 1 to %d", utf8.RuneCountInString(description), maxDescription)
	case strings.ContainsAny(description, "<>"):
		bad("description holds < or >")
	case !strings.Contains(description, "Use when "):
		bad("description does not say when: Use when …")
	case strings.HasPrefix(description, "I ") || strings.HasPrefix(description, "You "):
		bad("description is not in the third person")
	}
	if n := strings.Count(body, "\n"); n == 0 || n >= maxLines {
		bad("the text has %d lines; want fewer than %d", n, maxLines)
	}
	return errors.Join(errs...)
}

// cutFrontMatter parts what is between the first two lines of dashes.
func cutFrontMatter(text string) (head, body string, err error) {
	rest, ok := strings.CutPrefix(text, "---\n")
	if ok {
		head, body, ok = strings.Cut(rest, "\n---\n")
	}
	if !ok {
		return "", "", errors.New("front matter: want it between two lines ---, at the top")
	}
	return head + "\n", body, nil
}

// Commands returns the commands of text that an agent runs, in order: the lines of
// its blocks ```sh. Other blocks are for the user.
func Commands(text string) []string {
	var commands []string
	in, sh := false, false
	begun := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if lang, ok := strings.CutPrefix(line, "```"); ok {
			in = !in
			sh = in && lang == "sh"
			continue
		}
		if !sh || line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if part, ok := strings.CutSuffix(line, "\\"); ok {
			begun += strings.TrimSpace(part) + " "
			continue
		}
		commands = append(commands, begun+line)
		begun = ""
	}
	return commands
}

// placeholder is a word in capitals, which stands for something of the user's.
var placeholder = regexp.MustCompile(`\b[A-Z][A-Z]+\b`)

// Fill replaces the placeholders of a command. A flag whose placeholder has the
// value "" goes, as an agent leaves it out. A placeholder without a value is an
// error.
func Fill(command string, values map[string]string) (string, error) {
	words := strings.Fields(command)
	var out []string
	for i, word := range words {
		empty, missing := false, ""
		word = placeholder.ReplaceAllStringFunc(word, func(p string) string {
			value, ok := values[p]
			if !ok {
				missing = p
			}
			empty = empty || ok && value == ""
			return value
		})
		if missing != "" {
			return "", fmt.Errorf("%s: no value for %s", command, missing)
		}
		if empty {
			if i > 0 && strings.HasPrefix(words[i-1], "--") && len(out) > 0 {
				out = out[:len(out)-1]
			}
			continue
		}
		out = append(out, word)
	}
	return strings.Join(out, " "), nil
}
