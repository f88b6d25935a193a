// Package termsafe decides what text of others may be printed on a terminal.
//
// A guest, a repository, a file name or a server can put anything into a text:
// sequences that control the terminal, line breaks that begin a line in mayfly's
// name, characters that turn the direction of writing or are not seen at all.
// [Printable] is the one rule for all of them. The other functions apply it:
// [Line] and [Text] replace what it refuses, [Quote] and [JSON] escape it.
package termsafe

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Printable reports whether a terminal shows r as a character of its own that a
// reader can see, or as a plain space. These are the letters, marks, numbers,
// punctuation and symbols of Unicode, except those that are drawn as nothing.
//
// It refuses controls (C0, DEL, C1), line and paragraph separators, format
// characters (overrides and isolates of the direction, joiners, characters of
// no width, tags), private and unassigned code points, surrogates, spaces other
// than U+0020, and U+FFFD, by which Go reports bytes that are not UTF-8.
func Printable(r rune) bool {
	switch {
	case r < utf8.RuneSelf:
		return r >= ' ' && r <= '~'
	case r == utf8.RuneError, blank(r):
		return false
	}
	return unicode.IsGraphic(r) &&
		!unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// blank reports whether r looks like a space and is none.
func blank(r rune) bool {
	const braille = '\u2800' // the pattern without dots
	return r != ' ' && unicode.Is(unicode.Zs, r) || r == braille
}

// Is reports whether s can be printed as it is, on one line.
func Is(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !Printable(r) })
}

// maxLine is how many bytes of a text Line shows.
const maxLine = 1000

// Line returns the beginning of s for one line: line breaks and tabs become
// spaces, and all else that is not printable a question mark.
func Line(s string) string { return replace(Clip(s, maxLine), ' ') }

// Text returns the whole of s, with its lines. A tab becomes four spaces, and all
// else that is not printable a question mark.
func Text(s string) string { return replace(strings.ReplaceAll(s, "\t", "    "), '\n') }

func replace(s string, newline rune) string {
	return strings.Map(func(r rune) rune {
		switch {
		case Printable(r):
			return r
		case r == '\n':
			return newline
		case r == '\t' || blank(r):
			return ' '
		}
		return '?'
	}, s)
}

// Clip returns at most the first n bytes of s, and an ellipsis if it is longer.
// It cuts no character in two.
func Clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// Abridge returns s, or at most about n bytes of it: its beginning, its end, and how much
// is left out between them. An error tells what was done first, and why it failed last.
func Abridge(s string, n int) string {
	if len(s) <= n {
		return s
	}
	head, tail := n*2/3, len(s)-n/3
	for head > 0 && !utf8.RuneStart(s[head]) {
		head--
	}
	for tail < len(s) && !utf8.RuneStart(s[tail]) {
		tail++
	}
	return fmt.Sprintf("%s… (%d bytes) …%s", s[:head], tail-head, s[tail:])
}

// Quote returns s as it is when nobody can take it for something else. Otherwise
// it returns s as a quoted Go string, in which all is visible and nothing lost.
func Quote(s string) string {
	if s != "" && Is(s) && s[0] != ' ' && s[len(s)-1] != ' ' && !strings.ContainsAny(s, `"\`) {
		return s
	}
	// strconv escapes controls, spaces and bytes that are not UTF-8, but not all
	// that Printable refuses.
	return string(escape([]byte(strconv.Quote(s)), func(r rune) string {
		if r > 0xffff {
			return fmt.Sprintf(`\U%08x`, r)
		}
		return fmt.Sprintf(`\u%04x`, r)
	}))
}

// Visible returns s, one line without its break, with all that is not printable in a
// form that is: \u{202e}, and \x{ff} for a byte that is not UTF-8. marked is applied to each
// of these. Tabs stay.
func Visible(s string, marked func(string) string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == '\t' || Printable(r):
			b.WriteRune(r)
		case r == utf8.RuneError && s[i] != "\ufffd"[0]:
			b.WriteString(marked(fmt.Sprintf(`\x{%02x}`, s[i])))
		default:
			b.WriteString(marked(fmt.Sprintf(`\u{%x}`, r)))
		}
	}
	return b.String()
}

// JSON escapes in a JSON text what is not printable, which does not change what
// it means. encoding/json itself escapes less.
func JSON(text []byte) []byte {
	return escape(text, func(r rune) string {
		// All that is not ASCII is in strings, and so is DEL: where each can be
		// escaped. Line breaks and tabs between values stay.
		if r == '\n' || r == '\t' || r == '\r' {
			return string(r)
		}
		var b strings.Builder
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
		return b.String()
	})
}

// escape replaces what is not printable in UTF-8.
func escape(text []byte, escaped func(rune) string) []byte {
	odd := func(r rune) bool { return !Printable(r) }
	var out []byte
	for {
		i := bytes.IndexFunc(text, odd)
		if i < 0 {
			return append(out, text...)
		}
		r, n := utf8.DecodeRune(text[i:])
		out = append(append(out, text[:i]...), escaped(r)...)
		text = text[i+n:]
	}
}
