package settings

import (
	"fmt"
	"strings"
)

// ini reads sections of keys. A key without "=" is one with an empty value, as npm and
// Python's configparser read it, and a line that is indented goes on with the value
// before it, as the latter does. It keeps all lines of a value.
func (b *builder) ini(data []byte) (node, error) {
	root := node{kind: table, value: "{}"}
	at, depth := &root, 1
	var last tail
	for i, line := range lines(data) {
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "":
			continue
		case trimmed[0] == '#' || trimmed[0] == ';':
			continue
		case line[0] == ' ' || line[0] == '\t':
			// Programs that do not join lines read a key here.
			if _, _, ok := cutPair(trimmed); last.add(trimmed) && !ok {
				continue
			}
		}
		if trimmed[0] == '[' {
			end := strings.LastIndexByte(trimmed, ']')
			if end < 0 {
				return node{}, fmt.Errorf("line %d: a section without an end", i+1)
			}
			if rest := strings.TrimSpace(trimmed[end+1:]); rest != "" && rest[0] != '#' && rest[0] != ';' {
				return node{}, fmt.Errorf("line %d: text after a section", i+1)
			}
			if err := b.take(1); err != nil {
				return node{}, err
			}
			section := group(table, i+1, nil)
			section.name = strings.TrimSpace(trimmed[1:end])
			root.children = append(root.children, section)
			last.end()
			at, depth = &root.children[len(root.children)-1], 2
			continue
		}
		name, value, _ := cutPair(trimmed)
		if err := b.take(depth); err != nil {
			return node{}, err
		}
		last.end()
		at.children = append(at.children, node{kind: text, name: name, value: value, line: i + 1})
		last.begin(&at.children[len(at.children)-1])
	}
	last.end()
	return root, nil
}

// tail gathers the lines of the last value, so that many lines cost no more than their bytes.
type tail struct {
	node  *node
	lines []string
}

func (t *tail) begin(n *node) {
	*t = tail{node: n, lines: []string{n.value}}
}

// add reports whether there is a value that goes on.
func (t *tail) add(line string) bool {
	t.lines = append(t.lines, line)
	return t.node != nil
}

func (t *tail) end() {
	if t.node != nil {
		t.node.value = strings.TrimPrefix(strings.Join(t.lines, "\n"), "\n")
	}
	*t = tail{}
}

// cutPair returns a key and its value, which the first = or : divides.
func cutPair(line string) (name, value string, ok bool) {
	i := strings.IndexAny(line, "=:")
	if i < 0 {
		return line, "", false
	}
	return strings.TrimSpace(line[:i]), strings.TrimSpace(line[i+1:]), true
}

// env reads each line that assigns. Programs differ in which quotes may hold line breaks,
// so every line counts that is an assignment for any of them; the other lines are parts
// of values, and belong to the one before them.
func (b *builder) env(data []byte) (node, error) {
	root := node{kind: table, value: "{}"}
	var last tail
	for i, line := range lines(data) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if rest, ok := strings.CutPrefix(line, "export"); ok && strings.TrimLeft(rest, " \t") != rest {
			line = strings.TrimSpace(rest)
		}
		name, value, ok := cutPair(line)
		if !ok || !variable(name) {
			last.add(line)
			continue
		}
		if err := b.take(1); err != nil {
			return node{}, err
		}
		last.end()
		root.children = append(root.children, node{kind: text, name: name, value: unquote(value), line: i + 1})
		last.begin(&root.children[len(root.children)-1])
	}
	last.end()
	return root, nil
}

// variable reports whether a name may be that of an environment variable.
func variable(name string) bool {
	return name != "" && !strings.ContainsAny(name, " \t\"'$`()")
}

func unquote(value string) string {
	if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
		return value[1 : n-1]
	}
	return value
}

func lines(data []byte) []string {
	return strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
}
