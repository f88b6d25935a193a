package config

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/mayfly-vm/mayfly/internal/tomlquote"
)

// Encode writes settings as a configuration file that Load reads. The comment, if it
// is not empty, stands at its top.
func Encode(comment string, settings []Setting) ([]byte, error) {
	e := encoder{sections: make(map[string]*section)}
	for _, s := range settings {
		if err := e.add(s); err != nil {
			return nil, fmt.Errorf("write the configuration: %w", err)
		}
	}
	var b bytes.Buffer
	for line := range strings.Lines(comment) {
		b.WriteString("# " + strings.TrimRight(line, "\n") + "\n")
	}
	fmt.Fprintf(&b, "version = %d\n", Version)
	if s := e.sections[""]; s != nil {
		s.write(&b)
	}
	for _, name := range e.order() {
		s := e.sections[name]
		if s.repeated {
			for _, table := range s.tables {
				fmt.Fprintf(&b, "\n[[%s]]\n", name)
				for _, key := range tableOrder(table) {
					fmt.Fprintf(&b, "%s = %s\n", key, literal(table[key]))
				}
			}
			continue
		}
		fmt.Fprintf(&b, "\n[%s]\n", name)
		s.write(&b)
	}
	// What a reader would refuse is not written.
	if _, errs := parse(File{Path: "the new file", Data: b.Bytes()}); len(errs) > 0 {
		return nil, join(errs)
	}
	return b.Bytes(), nil
}

type encoder struct{ sections map[string]*section }

// section is a table, or with repeated a list of tables.
type section struct {
	keys     []string
	values   map[string]any
	repeated bool
	tables   []map[string]any
}

func (e *encoder) section(name string) *section {
	if e.sections[name] == nil {
		e.sections[name] = &section{values: make(map[string]any)}
	}
	return e.sections[name]
}

// add sorts one setting in, behind those of the same key.
func (e *encoder) add(s Setting) error {
	if !strings.Contains(s.Key, ".") && isList(s.Key) {
		return e.addTables(s)
	}
	name, key, ok := cutLast(s.Key, ".")
	if !ok {
		name, key = "", s.Key
	}
	sec := e.section(name)
	old, had := sec.values[key]
	if !had {
		sec.keys = append(sec.keys, key)
	}
	switch v := s.Value.(type) {
	case []string:
		all, _ := old.([]any)
		for _, element := range v {
			all = append(all, element)
		}
		sec.values[key] = all
	case []any:
		all, _ := old.([]any)
		sec.values[key] = append(all, v...)
	default:
		sec.values[key] = v
	}
	return nil
}

// addTables adds elements that are written as tables of their own.
func (e *encoder) addTables(s Setting) error {
	sec := e.section(s.Key)
	sec.repeated = true
	for _, one := range (setting{key: s.Key, value: s.Value}).elements() {
		switch v := one.value.(type) {
		case map[string]any:
			sec.tables = append(sec.tables, v)
		case string:
			table, err := stringTable(s.Key, v)
			if err != nil {
				return err
			}
			sec.tables = append(sec.tables, table)
		default:
			return fmt.Errorf("%s: %s is no table", s.Key, describe(v))
		}
	}
	return nil
}

// stringTable returns the table that a flag's text stands for.
func stringTable(key, text string) (map[string]any, error) {
	switch key {
	case "volume":
		table, err := volumeTable(setting{key: key, value: text})
		if err != nil {
			return nil, err
		}
		return table, nil
	case "share":
		s, err := parseShare(text)
		if err != nil {
			return nil, err
		}
		table := map[string]any{"source": s.Source}
		if s.Path != "" {
			table["path"] = s.Path
		}
		if s.ReadOnly {
			table["readonly"] = true
		}
		return table, nil
	}
	return nil, fmt.Errorf("%s: %s is no table", key, shortQuote(text))
}

// order returns the sections in the order of the format's table, each kind's
// sorted by name.
func (e *encoder) order() []string {
	rank := func(name string) int {
		head, _, _ := strings.Cut(name, ".")
		order := []string{"machine", "image", "workspace", "share", "volume", "network", "home", "git", "agent", "env", secretsSection}
		if i := slices.Index(order, head); i >= 0 {
			return i
		}
		return len(order)
	}
	names := slices.Collect(maps.Keys(e.sections))
	names = slices.DeleteFunc(names, func(name string) bool { return name == "" })
	slices.SortFunc(names, func(a, b string) int {
		if ra, rb := rank(a), rank(b); ra != rb {
			return ra - rb
		}
		return strings.Compare(a, b)
	})
	return names
}

// tableOrder returns the keys of a small table: what names it first.
func tableOrder(table map[string]any) []string {
	first := []string{"name", "source", "url", "host"}
	return slices.SortedFunc(maps.Keys(table), func(a, b string) int {
		ra, rb := slices.Index(first, a), slices.Index(first, b)
		switch {
		case ra >= 0 && rb < 0:
			return -1
		case rb >= 0 && ra < 0:
			return 1
		}
		return strings.Compare(a, b)
	})
}

func (s *section) write(b *bytes.Buffer) {
	for _, key := range s.keys {
		fmt.Fprintf(b, "%s = %s\n", key, literal(s.values[key]))
	}
}

// literal writes a value as TOML does.
func literal(v any) string {
	switch v := v.(type) {
	case []any:
		parts := make([]string, len(v))
		for i, element := range v {
			parts[i] = literal(element)
		}
		if one := "[" + strings.Join(parts, ", ") + "]"; len(one) <= 80 {
			return one
		}
		return "[\n\t" + strings.Join(parts, ",\n\t") + ",\n]"
	case map[string]any:
		var parts []string
		for _, key := range tableOrder(v) {
			parts = append(parts, key+" = "+literal(v[key]))
		}
		return "{ " + strings.Join(parts, ", ") + " }"
	case string:
		if strings.Contains(v, "\n") {
			return tomlquote.Text(v)
		}
		return tomlquote.String(v)
	case int:
		return strconv.Itoa(v)
	}
	data, err := toml.Marshal(map[string]any{"v": v})
	if err != nil {
		return "" // refused when it is read back
	}
	_, text, _ := strings.Cut(strings.TrimSpace(string(data)), "= ")
	return text
}
