package policy

import (
	"errors"
	"net/url"
	"strings"
)

var errPath = errors.New("a path that servers may understand in more than one way")

// CleanPath returns the path of a request, unescaped. It is an error if two
// servers could take it for different ones: dot segments, empty segments, and
// separators that are escaped or those of another system.
func CleanPath(escaped string) (string, error) {
	if escaped == "" {
		return "/", nil
	}
	lower := strings.ToLower(escaped)
	if escaped[0] != '/' || strings.Contains(lower, "%2f") || strings.Contains(lower, "%5c") || strings.Contains(lower, "%25") {
		return "", errPath
	}
	path, err := url.PathUnescape(escaped)
	if err != nil || strings.ContainsAny(path, "\\;") || strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", errPath
	}
	segments := strings.Split(path[1:], "/")
	for i, segment := range segments {
		if segment == "." || segment == ".." || segment == "" && i < len(segments)-1 {
			return "", errPath
		}
	}
	return path, nil
}
