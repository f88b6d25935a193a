package policy

import (
	"errors"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

var errPath = errors.New("a path that servers may understand in more than one way")

// CleanPath returns the path of a request, unescaped. It is an error if two
// servers could take it for different ones: dot segments, empty segments, separators
// that are escaped, those of another system, and characters that some servers take for
// any of these.
func CleanPath(escaped string) (string, error) {
	if escaped == "" {
		return "/", nil
	}
	lower := strings.ToLower(escaped)
	if escaped[0] != '/' || strings.Contains(lower, "%2f") || strings.Contains(lower, "%5c") || strings.Contains(lower, "%25") {
		return "", errPath
	}
	path, err := url.PathUnescape(escaped)
	// Not UTF-8: %c0%ae is a dot for those who decode it without care.
	if err != nil || !utf8.ValidString(path) || strings.ContainsAny(path, "\\;?#") || strings.ContainsFunc(path, isAmbiguous) {
		return "", errPath
	}
	segments := strings.Split(path[1:], "/")
	for i, segment := range segments {
		// Some systems drop dots and spaces at the end of a name.
		dots := strings.Trim(segment, ". ") == ""
		if segment != "" && dots || segment == "" && i < len(segments)-1 {
			return "", errPath
		}
	}
	return path, nil
}

// isAmbiguous reports whether a server may drop r from a path, or take it for a dot or a
// separator: control and format characters, and what compatibility decomposition or a
// conversion to another character set makes of others.
func isAmbiguous(r rune) bool {
	const fullwidthFirst, fullwidthLast = 0xff01, 0xff5e
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) || fullwidthFirst <= r && r <= fullwidthLast ||
		strings.ContainsRune("\u2024\u2025\u2026\u2044\u2215\u2216\u29f5\u29f8\u29f9\ufe52\ufe54\ufe56\ufe5f\ufe68\ufe6a\ufe30\u037e", r)
}
