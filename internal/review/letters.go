package review

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// invisible reports whether a letter shows nothing by itself, or turns the direction of
// what is beside it.
func invisible(r rune) bool {
	switch {
	case turns(r), r == 0x200e, r == 0x200f, r == 0x061c: // direction
	case r >= 0x200b && r <= 0x200d, r >= 0x2060 && r <= 0x2064, r == 0x180e, r == 0xfeff, r == 0x00ad: // no width
	case r >= 0xe0000 && r <= 0xe007f: // tags
	case r >= 0xe0100 && r <= 0xe01ef: // variants
	case r == 0x115f, r == 0x1160, r == 0x3164, r == 0xffa0, r == 0x2800: // fillers and blanks
	default:
		return false
	}
	return true
}

// turns reports whether a letter begins or ends a part of another direction.
func turns(r rune) bool { return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 }

// isRightToLeft reports whether a letter is of a script that is written so.
func isRightToLeft(r rune) bool {
	return r >= 0x590 && unicode.In(r, unicode.Hebrew, unicode.Arabic, unicode.Syriac, unicode.Thaana, unicode.Nko, unicode.Adlam)
}

// isPlainWord reports whether a letter is of a script whose words need no joiners.
func isPlainWord(r rune) bool {
	return r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' ||
		r >= 0x80 && unicode.In(r, unicode.Latin, unicode.Cyrillic, unicode.Greek)
}

// joins reports whether the joiner at i does what joiners are for: it holds an emoji
// together, or is between letters of a script that needs it.
func joins(runes []rune, i int) bool {
	if i == 0 || i+1 >= len(runes) {
		return false
	}
	before, after := runes[i-1], runes[i+1]
	if isPictureMark(before) && i > 1 {
		before = runes[i-2]
	}
	return !isPlainWord(before) && !isPlainWord(after) && before > 0x7f && after > 0x7f && !invisible(before) && !invisible(after)
}

// isPictureMark reports whether a letter changes the look of an emoji before it.
func isPictureMark(r rune) bool { return r == 0xfe0e || r == 0xfe0f || r >= 0x1f3fb && r <= 0x1f3ff }

// latin has for letters that look like Latin ones what they look like.
var latin = map[rune]rune{
	// Cyrillic
	'а': 'a', 'в': 'b', 'с': 'c', 'ԁ': 'd', 'е': 'e', 'һ': 'h', 'і': 'i', 'ј': 'j', 'к': 'k', 'ӏ': 'l', 'м': 'm', 'о': 'o',
	'р': 'p', 'ԛ': 'q', 'ѕ': 's', 'т': 't', 'ѵ': 'v', 'ԝ': 'w', 'х': 'x', 'у': 'y', 'ү': 'y',
	'А': 'A', 'В': 'B', 'С': 'C', 'Е': 'E', 'Н': 'H', 'І': 'l', 'Ј': 'J', 'К': 'K', 'М': 'M', 'О': 'O', 'Р': 'P', 'Ѕ': 'S', 'Т': 'T',
	'Х': 'X', 'У': 'Y', 'Ү': 'Y', 'Ԍ': 'G', 'Ԛ': 'Q', 'Ԝ': 'W', 'Ӏ': 'l',
	// Greek
	'α': 'a', 'ε': 'e', 'ι': 'i', 'κ': 'k', 'ν': 'v', 'ο': 'o', 'ρ': 'p', 'υ': 'u', 'χ': 'x', 'γ': 'y', 'ϲ': 'c', 'ϳ': 'j', 'η': 'n',
	'Α': 'A', 'Β': 'B', 'Ε': 'E', 'Ζ': 'Z', 'Η': 'H', 'Ι': 'l', 'Κ': 'K', 'Μ': 'M', 'Ν': 'N', 'Ο': 'O', 'Ρ': 'P', 'Τ': 'T', 'Υ': 'Y', 'Χ': 'X',
	// Armenian, Latin and others
	'օ': 'o', 'ո': 'n', 'ս': 'u', 'հ': 'h', 'ց': 'g', 'ı': 'i', 'ɑ': 'a', 'ɡ': 'g', 'ɩ': 'i', 'ʟ': 'L', 'ꓲ': 'l', 'ꓳ': 'O', 'ꓬ': 'Y',
	'ⅼ': 'l', 'ⅰ': 'i', 'ⅽ': 'c', 'ⅾ': 'd', 'ⅿ': 'm', 'ⅴ': 'v', 'ⅹ': 'x', '∕': '/', '⁄': '/', '․': '.', '‐': '-', '‑': '-', '–': '-', '−': '-',
	// digits
	'0': 'o', '1': 'l', '|': 'l', 'I': 'l',
}

// skeleton returns a name by what it looks like: equal skeletons look alike.
func skeleton(name string) string {
	var b strings.Builder
	for _, r := range norm.NFKC.String(name) {
		if look, ok := latin[r]; ok {
			r = look
		}
		if !invisible(r) && !unicode.Is(unicode.Mn, r) {
			b.WriteRune(r)
		}
	}
	return strings.ReplaceAll(fold(b.String()), "rn", "m")
}
