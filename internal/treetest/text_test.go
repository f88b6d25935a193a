package treetest

import (
	"bytes"
	"regexp"
	"testing"
)

// unwanted is what no file of the repository may hold. None of the expressions
// matches its own text.
var unwanted = []struct {
	what string
	re   *regexp.Regexp
}{
	// Mirrors and registries are the host's configuration; a name in the code
	// would be asked by everyone, also where nothing but a mirror is reachable.
	{"a registry's host", regexp.MustCompile(`(deb|ftp|security|snapshot|archive|ports)\.(debian\.(org|net)|ubuntu\.com)`)},
	{"a registry's host", regexp.MustCompile(`(registry|registry-1|proxy|sum|index|auth)\.(npmjs\.(org|com)|yarnpkg\.com|golang\.org|docker\.(io|com))`)},
	{"a registry's host", regexp.MustCompile(`://(ghcr|quay|docker)\.io`)},
	{"a path of one computer", regexp.MustCompile(`/work/(main|shared)|/tmp/(mayfly)/|/(home|Users)/[a-z]+/go/pkg/mod`)},
	{"a conflict's marker", regexp.MustCompile(`(?m)^(<{7}|>{7}) `)},
}

func TestUnwantedText(t *testing.T) {
	for _, f := range tree(t) {
		if !isText(f.data) {
			continue
		}
		for _, u := range unwanted {
			if at := u.re.FindIndex(f.data); at != nil {
				line := 1 + bytes.Count(f.data[:at[0]], []byte("\n"))
				t.Errorf("%s:%d: %s: %q", f.path, line, u.what, f.data[at[0]:at[1]])
			}
		}
	}
}
