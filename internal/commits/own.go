package commits

import (
	"strings"
	"unicode"
)

// Own reports whether a path is git's own: .git or something in it, at any depth, by any
// of the names that some file system takes for .git.
func Own(path string) bool {
	for name := range strings.SplitSeq(path, "/") {
		if isDotGit(name) {
			return true
		}
	}
	return false
}

// isDotGit knows what git knows of HFS+, which leaves characters out, and of NTFS, which
// cuts and shortens names.
func isDotGit(name string) bool {
	if len(name) < 4 {
		return false
	}
	name = strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII && unicode.Is(unicode.Cf, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, name)
	name, _, _ = strings.Cut(name, ":") // a stream of NTFS's
	name, _, _ = strings.Cut(name, `\`) // a directory of Windows's
	name = strings.TrimRight(name, ". ")
	return name == ".git" || name == "git~1"
}
