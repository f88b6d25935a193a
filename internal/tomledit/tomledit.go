// Package tomledit adds to TOML files that people write: text goes in, and the same text
// with one thing more comes out, its comments, order and spaces as they were.
//
// A file can say the same in many ways, and not each can be added to without rewriting
// what somebody wrote. What comes out is read again: unless it differs from what was
// there by exactly what was to be added, the answer is [ErrShape].
package tomledit

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// ErrShape is the error for a file that says what is to be added to in a way that cannot
// be added to.
var ErrShape = errors.New("the file is written in a way that only its owner can add to")

// AppendTo adds a value, in TOML's words on one line, to the list at section.key. A list
// that is not there begins with it, and so does a section.
func AppendTo(doc []byte, section, key, value string) ([]byte, error) {
	before, err := decode(doc)
	if err != nil {
		return nil, err
	}
	added, err := decode([]byte("v = " + value + "\n"))
	if err != nil || len(added) != 1 {
		return nil, fmt.Errorf("%q is no value of TOML", value)
	}
	out := appendTo(doc, section, key, value)
	table, _ := before[section].(map[string]any)
	list, _ := table[key].([]any)
	if table == nil {
		table = make(map[string]any)
	}
	table[key] = append(slices.Clip(list), added["v"])
	before[section] = table
	return checked(out, before)
}

func decode(doc []byte) (map[string]any, error) {
	values := make(map[string]any)
	err := toml.Unmarshal(doc, &values)
	return values, err
}

// checked returns a document that says what is wanted.
func checked(doc []byte, want map[string]any) ([]byte, error) {
	got, err := decode(doc)
	if err != nil || !maps.EqualFunc(got, want, func(a, b any) bool { return reflect.DeepEqual(a, b) }) {
		return nil, ErrShape
	}
	return doc, nil
}

// lineEnd is how the lines of a document end.
func lineEnd(doc []byte) string {
	if line, _, ok := strings.Cut(string(doc), "\n"); ok && strings.HasSuffix(line, "\r") {
		return "\r\n"
	}
	return "\n"
}

// atEnd returns a copy of a document, whose last line is ended.
func atEnd(doc []byte, eol string) []byte {
	out := slices.Clone(doc)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, eol...)
	}
	return out
}

// appendTo adds a value where it belongs. What comes out is to be checked.
func appendTo(doc []byte, section, key, value string) []byte {
	eol := lineEnd(doc)
	var (
		p       unstable.Parser
		table   []string // that the lines are in
		listAt  = -1     // where the list's value begins
		listEnd int
		behind  = -1 // where the section's last line ends
		prefix  string
	)
	p.Reset(doc)
	for p.NextExpression() {
		n := p.Expression()
		path, keyEnd := keyOf(n)
		switch n.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = path
			if slices.Equal(path, []string{section}) {
				behind, prefix = lineAfter(doc, keyEnd), ""
			}
			continue
		case unstable.KeyValue:
		default:
			continue
		}
		whole := append(slices.Clone(table), path...)
		end := int(n.Raw.Offset + n.Raw.Length)
		switch {
		case slices.Equal(whole, []string{section, key}) && n.Value().Kind == unstable.Array:
			listAt, listEnd = keyEnd+strings.IndexByte(string(doc[keyEnd:]), '[')+1, end-1
		case len(whole) == 2 && whole[0] == section:
			behind, prefix = lineAfter(doc, end), ""
			if len(path) == 2 {
				prefix = section + "."
			}
		}
	}
	switch {
	case p.Error() != nil:
		return nil
	case listAt >= 0:
		return intoList(doc, listAt, listEnd, value, eol)
	case behind >= 0:
		out := atEnd(doc[:behind], eol)
		out = append(out, prefix+key+" = ["+value+"]"+eol...)
		return append(out, doc[behind:]...)
	}
	out := atEnd(doc, eol)
	if len(out) > 0 {
		out = append(out, eol...)
	}
	return append(out, "["+section+"]"+eol+key+" = ["+value+"]"+eol...)
}

// keyOf returns the parts of the key of a table or a value, and where the last ends.
func keyOf(n *unstable.Node) (path []string, end int) {
	for it := n.Key(); it.Next(); {
		path = append(path, string(it.Node().Data))
		end = int(it.Node().Raw.Offset + it.Node().Raw.Length)
	}
	return path, end
}

// lineAfter returns where the line behind the one of i begins.
func lineAfter(doc []byte, i int) int {
	if n := strings.IndexByte(string(doc[i:]), '\n'); n >= 0 {
		return i + n + 1
	}
	return len(doc)
}

// intoList adds a value to the list whose elements are in doc[from:to].
func intoList(doc []byte, from, to int, value, eol string) []byte {
	end, comma := lastToken(doc, from, to)
	var b strings.Builder
	b.Write(doc[:end])
	if end == from { // it is empty
		return []byte(b.String() + value + string(doc[end:]))
	}
	if !comma {
		b.WriteString(",")
	}
	line := strings.LastIndexByte(string(doc[:end]), '\n') + 1
	if line <= from { // all on one line
		return []byte(b.String() + " " + value + string(doc[end:]))
	}
	text := string(doc[line:end])
	indent := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
	next := lineAfter(doc, end)
	if next > to { // the list ends on the line
		return []byte(b.String() + eol + indent + value + string(doc[end:]))
	}
	// What else is on the line is about what is there.
	b.Write(doc[end:next])
	return []byte(b.String() + indent + value + "," + eol + string(doc[next:]))
}

// lastToken returns where the last of the elements in doc[from:to] ends, or the comma
// behind it, if there is one; from if there is none.
func lastToken(doc []byte, from, to int) (end int, comma bool) {
	end = from
	for i := from; i < to; {
		switch c := doc[i]; c {
		case ' ', '\t', '\r', '\n':
			i++
			continue
		case '#':
			i = lineAfter(doc, i)
			continue
		case '"', '\'':
			i = stringEnd(doc, i)
		default:
			i++
		}
		end, comma = i, doc[i-1] == ','
	}
	return end, comma
}

// stringEnd returns where the string that begins at i ends. The document is valid.
func stringEnd(doc []byte, i int) int {
	quote := string(doc[i])
	if strings.HasPrefix(string(doc[i:]), strings.Repeat(quote, 3)) {
		quote = strings.Repeat(quote, 3)
	}
	for i += len(quote); i < len(doc); i++ {
		switch {
		case doc[i] == '\\' && quote[0] == '"':
			i++
		case strings.HasPrefix(string(doc[i:]), quote):
			i += len(quote)
			// One of several lines may end in two quotes of its own.
			for len(quote) == 3 && i < len(doc) && doc[i] == quote[0] {
				i++
			}
			return i
		}
	}
	return len(doc)
}
