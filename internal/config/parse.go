package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// parse turns a file into settings, in the order of its lines. What is wrong
// with the file as such (syntax, version, unknown keys) are the errors; the
// values are checked when they are applied.
//
// go-toml's own strict mode stops at the first wrong type and knows no line of
// a value that it has accepted. So the document is decoded into plain maps,
// which can only fail by syntax, and the lines come from a walk over the same
// document with go-toml's parser.
func parse(f File) ([]setting, []*Error) {
	if len(f.Data) > MaxFileSize {
		return nil, []*Error{{File: f.Path, Line: 1, Msg: fmt.Sprintf("larger than %d KiB", MaxFileSize>>10)}}
	}
	var doc map[string]any
	if err := toml.Unmarshal(f.Data, &doc); err != nil {
		e := &Error{File: f.Path, Line: 1, Msg: termsafe.Line(strings.TrimPrefix(err.Error(), "toml: "))}
		if d, ok := errors.AsType[*toml.DecodeError](err); ok {
			e.Line, _ = d.Position()
		}
		return nil, []*Error{e}
	}
	w := walker{file: f, lines: lineNumbers(f.Data)}

	version, ok := doc["version"]
	switch {
	case !ok:
		w.fail("version", 1, fmt.Sprintf("missing; add `version = %d`", Version))
	case version != int64(Version):
		// Whatever else is in the file has another meaning then.
		w.fail("version", w.line("version"), fmt.Sprintf("is %s; this mayfly reads version %d", describe(version), Version))
		return nil, w.errs
	}
	delete(doc, "version")
	w.table("", doc)
	slices.SortStableFunc(w.settings, func(a, b setting) int { return a.line - b.line })
	return w.settings, w.errs
}

// walker flattens a document into settings.
type walker struct {
	file     File
	lines    map[string]int
	settings []setting
	errs     []*Error
}

// table visits the keys of one table, in a fixed order.
func (w *walker) table(prefix string, table map[string]any) {
	names := make([]string, 0, len(table))
	for name := range table {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		key, value := joinKey(prefix, name), table[name]
		sub, isTable := value.(map[string]any)
		switch {
		case isSection(key) && isTable:
			w.table(key, sub)
		case isSection(key):
			w.fail(key, w.line(key), fmt.Sprintf("must be a table, written [%s], not %s", key, describe(value)))
		case prefix == secretsSection:
			w.secret(key, value)
		case isList(key):
			w.list(key, value)
		case !known(key):
			e := unknown(key)
			e.File, e.Line = w.file.Path, w.line(key)
			w.errs = append(w.errs, e)
		default:
			if path, ok := value.(string); ok && key == "workspace.path" {
				value = w.file.abs(path)
			}
			w.settings = append(w.settings, setting{origin{w.file.Path, w.line(key)}, key, value})
		}
	}
}

// secret visits a table [secrets.NAME]. No error repeats what is there in place of
// one.
func (w *walker) secret(key string, value any) {
	table, isTable := value.(map[string]any)
	switch {
	case !isTable:
		w.fail(key, w.line(key), fmt.Sprintf("must be a table, written [%s], with the keys from and hosts", key))
	case len(table) == 0:
		w.fail(key, w.line(key), "is empty; it needs the keys from and hosts")
	default:
		w.table(key, table)
	}
}

// list makes a setting of each element.
func (w *walker) list(key string, value any) {
	if key == "network.ports" && value == autoPorts {
		value = []any{value} // which is not one of several
	}
	list, ok := value.([]any)
	if !ok {
		w.fail(key, w.line(key), fmt.Sprintf("must be a list, not %s", describe(value)))
		return
	}
	for i, element := range list {
		w.settings = append(w.settings, setting{origin{w.file.Path, w.line(elementKey(key, i))}, key, element})
	}
}

func (w *walker) fail(key string, line int, msg string) {
	w.errs = append(w.errs, &Error{File: w.file.Path, Line: line, Key: key, Msg: msg})
}

// line returns the line of key or, for one that a walk did not see, of the
// list or table that it is in.
func (w *walker) line(key string) int {
	for {
		if n := w.lines[key]; n > 0 {
			return n
		}
		i := strings.LastIndexAny(key, ".[")
		if i < 0 {
			return 1
		}
		key = key[:i]
	}
}

// elementKey names an element of a list as no key can be named: joinKey quotes
// brackets.
func elementKey(key string, i int) string { return fmt.Sprintf("%s[%d]", key, i) }

// lineNumbers returns the line on which each key, table and element of a list of
// a valid document is first written.
func lineNumbers(doc []byte) map[string]int {
	lines := make(map[string]int)
	count := make(map[string]int) // of the tables in a list of tables
	var p unstable.Parser
	p.Reset(doc)
	var section string
	for p.NextExpression() {
		n := p.Expression()
		switch n.Kind {
		case unstable.ArrayTable:
			section = recordKey(&p, lines, "", n)
			for it := n.Key(); it.Next(); {
				lines[elementKey(section, count[section])] = p.Shape(it.Node().Raw).Start.Line
			}
			count[section]++
		case unstable.Table:
			section = recordKey(&p, lines, "", n)
		case unstable.KeyValue:
			recordValue(&p, lines, section, n)
		}
	}
	return lines
}

// recordValue notes the lines of a key and of what is in its inline table.
func recordValue(p *unstable.Parser, lines map[string]int, prefix string, kv *unstable.Node) {
	key := recordKey(p, lines, prefix, kv)
	switch value := kv.Value(); value.Kind {
	case unstable.InlineTable:
		for it := value.Children(); it.Next(); {
			if it.Node().Kind == unstable.KeyValue {
				recordValue(p, lines, key, it.Node())
			}
		}
	case unstable.Array:
		i := 0
		for it := value.Children(); it.Next(); {
			if it.Node().Kind == unstable.Comment {
				continue
			}
			if raw := it.Node().Raw; raw.Length > 0 {
				lines[elementKey(key, i)] = p.Shape(raw).Start.Line
			}
			i++
		}
	}
}

// recordKey notes the line of each part of a dotted key and returns the whole.
func recordKey(p *unstable.Parser, lines map[string]int, prefix string, n *unstable.Node) string {
	key := prefix
	for it := n.Key(); it.Next(); {
		part := it.Node()
		key = joinKey(key, string(part.Data))
		if lines[key] == 0 {
			lines[key] = p.Shape(part.Raw).Start.Line
		}
	}
	return key
}

// joinKey appends a name to a dotted key, quoted where a bare name could be
// taken for something else.
func joinKey(prefix, name string) string {
	bare := name != ""
	for _, r := range name {
		bare = bare && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	}
	if !bare {
		name = strconv.Quote(name)
	}
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

// describe says what a value is, for an error.
func describe(v any) string {
	switch v := v.(type) {
	case string:
		return "the string " + shortQuote(v)
	case int64:
		return fmt.Sprintf("the integer %d", v)
	case int:
		return fmt.Sprintf("the integer %d", v)
	case float64:
		return "a floating-point number"
	case bool:
		return fmt.Sprintf("the boolean %t", v)
	case []any, []string:
		return "a list"
	case map[string]any:
		return "a table"
	default:
		return "a date or time"
	}
}

// shortQuote quotes a value, cut so that an error stays one line.
func shortQuote(s string) string {
	const limit = 64
	if len(s) <= limit {
		return strconv.Quote(s)
	}
	return strconv.Quote(strings.ToValidUTF8(s[:limit], "")) + "…"
}
