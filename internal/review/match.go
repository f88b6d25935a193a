package review

import (
	"path"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// fold returns a path as rules match it: lower case, composed, and without the dots and
// blanks at the ends of names that some file systems drop.
func fold(p string) string {
	p = strings.ToLower(norm.NFC.String(p))
	if !strings.ContainsAny(p, ". ") {
		return p
	}
	parts := strings.Split(p, "/")
	for i, part := range parts {
		if cut := strings.TrimRight(part, ". "); cut != "" {
			parts[i] = cut
		}
	}
	return strings.Join(parts, "/")
}

// match reports whether a folded path matches a pattern, at any depth: "name",
// "dir/name", "dir/**" (all below). A leading "/" ties the pattern to the workspace's root.
// Names may have the wildcards of path.Match.
func match(pattern, folded string) bool {
	rooted := strings.HasPrefix(pattern, "/")
	want := strings.Split(strings.TrimPrefix(pattern, "/"), "/")
	have := strings.Split(folded, "/")
	all := want[len(want)-1] == "**"
	if all {
		want = want[:len(want)-1]
	}
	for start := 0; start+len(want) <= len(have); start++ {
		rest := len(have) - start - len(want)
		if matchParts(want, have[start:start+len(want)]) && (rest == 0 && !all || rest > 0 && all) {
			return true
		}
		if rooted {
			break
		}
	}
	return false
}

func matchParts(want, have []string) bool {
	for i := range want {
		if ok, err := path.Match(want[i], have[i]); err != nil || !ok {
			return false
		}
	}
	return true
}
