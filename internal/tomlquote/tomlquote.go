// Package tomlquote writes strings as TOML 1.0 has them, for files that people
// read: on their terminals, too, so what is not printable is escaped. go-toml's
// encoder escapes only what TOML itself forbids.
package tomlquote

import (
	"fmt"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// String returns s as a basic string, on one line. TOML cannot write bytes that
// are not UTF-8: they become U+FFFD.
func String(s string) string { return `"` + escape(s, false) + `"` }

// Text returns s as a string of several lines, which stand as they are. It is
// literal where it can be.
func Text(s string) string {
	literal := !strings.Contains(s, "'''") && !strings.HasSuffix(s, "'") &&
		!strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && r != '\t' && !termsafe.Printable(r) })
	if literal {
		return "'''\n" + s + "'''"
	}
	return "\"\"\"\n" + escape(s, true) + `"""`
}

func escape(s string, lines bool) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case termsafe.Printable(r), lines && (r == '\n' || r == '\t'):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08X`, r)
		default:
			fmt.Fprintf(&b, `\u%04X`, r)
		}
	}
	return b.String()
}
