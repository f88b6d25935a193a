package config

import (
	"fmt"
	"strconv"
	"strings"
)

// quotedList writes `"a", "b" or "c"`.
func quotedList(words []string) string {
	var b strings.Builder
	for i, w := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(strconv.Quote(w))
	}
	return b.String()
}

// Expand replaces $NAME and ${NAME} by the variables in vars and $$ by a
// dollar sign. Any other name is an error: in the guest it would silently be
// empty.
func Expand(s string, vars map[string]string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, "$")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		if after, ok := strings.CutPrefix(rest, "$"); ok {
			b.WriteByte('$')
			s = after
			continue
		}
		name := rest
		if after, ok := strings.CutPrefix(rest, "{"); ok {
			name, s, ok = strings.Cut(after, "}")
			if !ok {
				return "", fmt.Errorf("${ without }")
			}
		} else {
			end := strings.IndexFunc(rest, func(r rune) bool {
				return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_'
			})
			if end >= 0 {
				name = rest[:end]
			}
			s = rest[len(name):]
		}
		value, ok := vars[name]
		if !ok {
			return "", fmt.Errorf("$%s has no value here: only $HOME and $USER have; write $$ for a dollar sign", strings.Trim(shortQuote(name), `"`))
		}
		b.WriteString(value)
	}
}
