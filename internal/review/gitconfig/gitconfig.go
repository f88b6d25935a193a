// Package gitconfig reads files of git's configuration and says what a setting has git do.
//
// Files come from a guest, and git on the host must not read them: it would follow their
// includes. The parser takes git's grammar (config.c) with its traps (a setting behind the
// section's name, sections of the old form, several sections of a name, settings without a
// value, quotes, continued lines), and what it does not understand is an error, after which the
// caller takes the worst for granted. What is harmless is a short list; every other setting runs
// programs, sends data elsewhere, hides changes, or is unknown.
package gitconfig

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Bounds of a file.
const (
	MostBytes    = 1 << 20
	MostSettings = 20_000
)

// Setting is one setting of a file.
type Setting struct {
	Section    string // lower case
	Subsection string // "" if there is none
	Name       string // lower case
	Value      string
	Bare       bool // without "=", which is true
	Line       int  // from 1
}

// Key returns the setting's name as git writes it.
func (s Setting) Key() string {
	if s.Subsection == "" {
		return s.Section + "." + s.Name
	}
	return s.Section + "." + s.Subsection + "." + s.Name
}

// Parse reads a file.
func Parse(data []byte) ([]Setting, error) {
	if len(data) > MostBytes {
		return nil, errors.New("larger than what is read")
	}
	data = bytes.ReplaceAll(bytes.TrimPrefix(data, []byte("\uFEFF")), []byte("\r\n"), []byte("\n"))
	// git takes the first for the end of a text, and prints the second without showing it.
	if bytes.ContainsAny(data, "\x00\r") {
		return nil, errors.New("it holds NUL or a lone carriage return")
	}
	p := parser{data: data, line: 1}
	settings, err := p.file()
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", p.line, err)
	}
	return settings, nil
}

type parser struct {
	data    []byte
	at      int
	line    int
	ended   bool
	section string // with "." between its parts
}

// next returns the next byte. The file's end is a line's end, as for git.
func (p *parser) next() byte {
	if p.at >= len(p.data) {
		p.ended = true
		return '\n'
	}
	c := p.data[p.at]
	p.at++
	if c == '\n' {
		p.line++
	}
	return c
}

func (p *parser) file() ([]Setting, error) {
	var settings []Setting
	inSection, comment := false, false
	for {
		c := p.next()
		switch {
		case p.ended:
			return settings, nil
		case c == '\n':
			comment = false
		case comment, blank(c):
		case c == '#' || c == ';':
			comment = true
		case c == '[':
			if err := p.header(); err != nil {
				return nil, err
			}
			inSection = true
		case letter(c) && inSection:
			line := p.line
			s, err := p.setting(c)
			if err != nil {
				return nil, err
			}
			if len(settings) == MostSettings {
				return nil, errors.New("more settings than are read")
			}
			s.Line = line
			settings = append(settings, s)
		default:
			return nil, fmt.Errorf("unexpected %q", c)
		}
	}
}

// header reads a section's name, of both forms: [a "b"], and the old [a.b].
func (p *parser) header() error {
	var name []byte
	for {
		c := p.next()
		switch {
		case p.ended:
			return errors.New("a section without an end")
		case c == ']':
			return p.enter(name)
		case c == ' ' || c == '\t':
			return p.subsection(string(name))
		case !keyByte(c) && c != '.': // a line's end, too
			return fmt.Errorf("unexpected %q in a section's name", c)
		}
		name = append(name, lower(c))
	}
}

func (p *parser) subsection(section string) error {
	c := p.next()
	for blank(c) && c != '\n' {
		c = p.next()
	}
	if c != '"' || section == "" {
		return errors.New("a section of no known form")
	}
	name := []byte(section + ".")
	for {
		c = p.next()
		if c == '\\' {
			if c = p.next(); c != '\n' {
				name = append(name, c)
				continue
			}
		}
		switch c {
		case '\n':
			return errors.New("a section's name over lines")
		case '"':
			if p.next() != ']' {
				return errors.New("text after a section's name")
			}
			return p.enter(name)
		}
		name = append(name, c)
	}
}

// enter begins a section. git takes one whose second part is empty for another than that
// without a second part; nothing honest has it.
func (p *parser) enter(name []byte) error {
	if len(name) == 0 || name[0] == '.' || name[len(name)-1] == '.' && bytes.IndexByte(name, '.') == len(name)-1 {
		return errors.New("a section without a name")
	}
	p.section = string(name)
	return nil
}

func (p *parser) setting(first byte) (Setting, error) {
	name := []byte{lower(first)}
	c := p.next()
	for ; keyByte(c); c = p.next() {
		name = append(name, lower(c))
	}
	for c == ' ' || c == '\t' {
		c = p.next()
	}
	s := Setting{Name: string(name)}
	s.Section, s.Subsection, _ = strings.Cut(p.section, ".")
	switch c {
	case '\n':
		s.Bare = true
		return s, nil
	case '=':
		value, err := p.value()
		s.Value = value
		return s, err
	}
	return s, fmt.Errorf("unexpected %q after %q", c, name)
}

func (p *parser) value() (string, error) {
	var value []byte
	quoted, comment := false, false
	end := 0 // of the value without the blanks after it
	for {
		c := p.next()
		switch {
		case c == '\n':
			if quoted {
				return "", errors.New("a quote without an end")
			}
			return string(value[:end]), nil
		case comment:
			continue
		case blank(c) && !quoted:
			if len(value) > 0 {
				value = append(value, c)
			}
			continue
		case (c == '#' || c == ';') && !quoted:
			comment = true
			continue
		case c == '"':
			quoted, end = !quoted, len(value) // the blanks before it stay, also before a pair
			continue
		case c == '\\':
			end = len(value) // likewise before a line's end
			switch c = p.next(); c {
			case '\n':
				if p.ended {
					return "", errors.New("a continued line without another")
				}
				continue
			case 't':
				c = '\t'
			case 'b':
				c = '\b'
			case 'n':
				c = '\n'
			case '\\', '"':
			default:
				return "", fmt.Errorf("unknown escape %q", c)
			}
		}
		value = append(value, c)
		end = len(value)
	}
}

func blank(c byte) bool   { return c == ' ' || c == '\t' || c == '\n' }
func letter(c byte) bool  { return lower(c) >= 'a' && lower(c) <= 'z' }
func keyByte(c byte) bool { return letter(c) || c >= '0' && c <= '9' || c == '-' }

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// Change is a setting that differs between two files.
type Change struct {
	Setting
	Removed bool
}

// Diff returns the settings that differ, by key: what is new and what is gone. Values of a
// key whose order changed are all new, since the last one wins.
func Diff(before, after []Setting) []Change {
	was, now := byKey(before), byKey(after)
	var changes []Change
	done := map[string]bool{}
	for _, all := range [][]Setting{after, before} {
		for _, s := range all {
			key := s.Key()
			if done[key] {
				continue
			}
			done[key] = true
			changes = append(changes, diffValues(was[key], now[key])...)
		}
	}
	return changes
}

func byKey(settings []Setting) map[string][]Setting {
	all := make(map[string][]Setting, len(settings))
	for _, s := range settings {
		all[s.Key()] = append(all[s.Key()], s)
	}
	return all
}

type value struct {
	text string
	bare bool
}

func diffValues(before, after []Setting) []Change {
	if slices.EqualFunc(before, after, func(a, b Setting) bool { return a.Value == b.Value && a.Bare == b.Bare }) {
		return nil
	}
	left := map[value]int{}
	for _, s := range before {
		left[value{s.Value, s.Bare}]++
	}
	var changes []Change
	for _, s := range after {
		if v := (value{s.Value, s.Bare}); left[v] > 0 {
			left[v]--
			continue
		}
		changes = append(changes, Change{Setting: s})
	}
	for _, s := range before {
		if v := (value{s.Value, s.Bare}); left[v] > 0 {
			left[v]--
			changes = append(changes, Change{Setting: s, Removed: true})
		}
	}
	if len(changes) == 0 {
		for _, s := range after {
			changes = append(changes, Change{Setting: s})
		}
	}
	return changes
}
