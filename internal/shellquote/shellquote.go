// Package shellquote writes words so that a POSIX shell reads them as they are.
package shellquote

import "strings"

// Word returns s as one argument of a shell command: as it is when nothing in it
// is special to any shell, else in single quotes. A shell has no way to write
// NUL, which s must not hold.
func Word(s string) string {
	if s == "" || s[0] == '=' || strings.ContainsFunc(s, special) { // zsh expands =command
		return Quoted(s)
	}
	return s
}

// Quoted is [Word] in single quotes in any case.
func Quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// special reports whether a character can mean something to a shell. Beyond ASCII
// that depends on the locale.
func special(r rune) bool {
	plain := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,:@%=", r)
	return !plain
}
