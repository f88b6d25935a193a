// Package settings reads files of settings (JSON with and without comments, TOML, YAML,
// INI, .env) and says by key what differs between two of them.
//
// A file becomes a list of its values, each with the path of keys that leads to it. Files
// come from a guest: size, depth and number of values are bounded, aliases count as what
// they stand for, and what a parser does not understand, or what two parsers would
// understand differently, is an error. Then the caller takes the worst for granted. The
// package does not know what a key means.
package settings

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Format is the format of a file.
type Format uint8

// The formats.
const (
	JSON Format = iota // also with comments and commas at the end
	TOML
	YAML // all documents of the file, as one list where there are several
	INI  // also as Python's configparser and npm read it
	Env  // NAME=value by lines
)

// Bounds of a file.
const (
	MostBytes = 8 << 20
	// MostYAML is less, since that parser is slower.
	MostYAML    = 2 << 20
	MostDepth   = 64
	MostEntries = 200_000
)

// ErrBounds is the error of a file that is larger, deeper or fuller than what is read.
var ErrBounds = errors.New("more settings than are read")

// Element is the name of each element of a list in a path.
const Element = "[]"

// Entry is one value.
type Entry struct {
	// Path is the keys that lead to the value, with Element for those of lists.
	Path []string
	// Value is a string's content, or the text of any other value; "{}" and "[]" where
	// nothing is in a table or list.
	Value string
	Line  int // from 1, or 0 where it is not known
}

// Key returns the path as people write it.
func (e Entry) Key() string { return Key(e.Path) }

// Key returns a path as people write it, such as "jobs.test.steps[].run".
func Key(path []string) string {
	return strings.ReplaceAll(strings.Join(path, "."), "."+Element, Element)
}

// File is a parsed file.
type File struct{ root node }

// Parse reads a file. Empty data are a file without settings in every format.
func Parse(f Format, data []byte) (*File, error) {
	if err := plain(f, data); err != nil {
		return nil, err
	}
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	if len(bytes.TrimSpace(data)) == 0 {
		return &File{root: node{kind: table}}, nil
	}
	b := builder{left: MostEntries}
	var root node
	var err error
	switch f {
	case JSON:
		root, err = b.json(data)
	case TOML:
		root, err = b.toml(data)
	case YAML:
		root, err = b.yaml(data)
	case INI:
		root, err = b.ini(data)
	case Env:
		root, err = b.env(data)
	default:
		err = fmt.Errorf("unknown format %d", f)
	}
	if err != nil {
		return nil, err
	}
	return &File{root: root}, nil
}

// plain refuses what parsers disagree about: lines that end in what only some of them take
// for a line's end, so that a comment for one is a setting for another.
func plain(f Format, data []byte) error {
	switch most := MostBytes; {
	case f == YAML && len(data) > MostYAML, len(data) > most:
		return ErrBounds
	case !utf8.Valid(data):
		return errors.New("not UTF-8")
	case bytes.IndexByte(data, 0) >= 0:
		return errors.New("it holds NUL")
	}
	for rest := data; ; {
		i := bytes.IndexByte(rest, '\r')
		if i < 0 {
			break
		}
		if i+1 == len(rest) || rest[i+1] != '\n' {
			return errors.New("a carriage return without a line feed")
		}
		rest = rest[i+1:]
	}
	for _, r := range []string{"\u0085", "\u2028", "\u2029"} {
		if bytes.Contains(data, []byte(r)) {
			return errors.New("a line separator that not every parser takes for one")
		}
	}
	return nil
}

// Entries returns the values in the order of the file.
func (f *File) Entries() []Entry {
	var all []Entry
	f.root.walk(nil, func(path []string, n *node) {
		all = append(all, Entry{Path: path, Value: n.value, Line: n.line})
	})
	return all
}

type kind uint8

const (
	text   kind = iota // a string
	scalar             // any other value: a number does not equal the same digits quoted
	table
	list
)

// node is a value or a group of them.
type node struct {
	kind     kind
	name     string // in a table
	value    string
	line     int
	children []node
	sum      uint64 // of the content, while files are compared
}

// walk calls leaf for each value below n.
func (n *node) walk(path []string, leaf func([]string, *node)) {
	if len(n.children) == 0 {
		if n.kind >= table && len(path) == 0 {
			return
		}
		leaf(path, n)
		return
	}
	for i := range n.children {
		c := &n.children[i]
		name := c.name
		if n.kind == list {
			name = Element
		}
		c.walk(join(path, name), leaf)
	}
}

// builder makes nodes within the bounds.
type builder struct{ left int }

// take counts one node at a depth.
func (b *builder) take(depth int) error {
	b.left--
	if b.left < 0 || depth > MostDepth {
		return ErrBounds
	}
	return nil
}

// group returns a table or a list.
func group(k kind, line int, children []node) node {
	n := node{kind: k, line: line, children: children, value: "{}"}
	if k == list {
		n.value = "[]"
	}
	return n
}

// unique refuses a table with the same key twice: some programs take the first value, some the last.
func unique(children []node) error {
	seen := make(map[string]bool, len(children))
	for i := range children {
		if seen[children[i].name] {
			return fmt.Errorf("line %d: the key %q is there twice", children[i].line, children[i].name)
		}
		seen[children[i].name] = true
	}
	return nil
}
