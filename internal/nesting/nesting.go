// Package nesting says how deep JSON and TOML nest, for parsers that call themselves for each
// level and have no bound of their own: a text goes in, and whether it may be parsed comes out.
package nesting

import "bytes"

// JSON reports whether the brackets of JSON, which may have comments, nest at most so deep.
func JSON(data []byte, most int) bool { return shallow(data, most, false, "//", "/*", `"`) }

// TOML reports whether those of TOML do, with the dots of keys: "a.b.c" is three tables.
func TOML(data []byte, most int) bool { return shallow(data, most, true, "#", "", `"'`) }

// shallow counts no brackets in comments and strings. dotted says that the dots of a key nest,
// which are counted up to where the next key may begin; the one of a number is, too.
// lineComment and blockComment begin comments, "" where a format has none; quotes begin and
// end strings. What is no valid file may be counted wrongly after its first error, where the
// parser stops.
func shallow(data []byte, most int, dotted bool, lineComment, blockComment, quotes string) bool {
	depth, dots := 0, 0
	for i := 0; i < len(data); {
		rest := data[i:]
		if bytes.IndexByte([]byte("\n=,{["), data[i]) >= 0 {
			dots = 0
		}
		switch c := data[i]; {
		case c == '.' && dotted:
			if dots++; depth+dots > most {
				return false
			}
			i++
		case c == '[' || c == '{':
			if depth++; depth > most {
				return false
			}
			i++
		case c == ']' || c == '}':
			depth = max(depth-1, 0)
			i++
		case lineComment != "" && bytes.HasPrefix(rest, []byte(lineComment)):
			end := bytes.IndexByte(rest, '\n')
			if end < 0 {
				return true
			}
			i += end
		case blockComment != "" && bytes.HasPrefix(rest, []byte(blockComment)):
			end := bytes.Index(rest, []byte("*/"))
			if end < 0 {
				return true
			}
			i += end + 2
		case bytes.IndexByte([]byte(quotes), c) >= 0:
			i += quoted(rest)
		default:
			i++
		}
	}
	return true
}

// quoted returns the length of the string that rest begins with: of JSON, or one of TOML's
// four kinds, of which those with ' have no escapes.
func quoted(rest []byte) int {
	q := rest[0]
	long := bytes.HasPrefix(rest, []byte{q, q, q})
	i := 1
	if long {
		i = 3
	}
	for i < len(rest) {
		switch {
		case rest[i] == '\\' && q == '"':
			i += 2
			continue
		case rest[i] == q && !long:
			return i + 1
		case long && bytes.HasPrefix(rest[i:], []byte{q, q, q}):
			// Up to two more quotes belong to the string.
			for i += 3; i < len(rest) && rest[i] == q; i++ {
			}
			return i
		case rest[i] == '\n' && !long:
			return i // an error; the parser stops here
		}
		i++
	}
	return len(rest)
}
