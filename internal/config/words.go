package config

import (
	"fmt"
	"strconv"
	"strings"
)

// nearest returns the candidate that word is probably a misspelling of, or "".
func nearest(word string, candidates []string) string {
	best, limit := "", 1+len(word)/4
	if len(word) > 64 {
		return "" // not a typing error, and distance costs the product of the lengths
	}
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), c); d <= limit {
			best, limit = c, d-1
		}
	}
	return best
}

// distance is the number of bytes to insert, remove or replace, or of
// neighbours to exchange, to make b of a (optimal string alignment).
func distance(a, b string) int {
	older, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], older[j-2]+1)
			}
		}
		older, prev, cur = prev, cur, older
	}
	return prev[len(b)]
}

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
