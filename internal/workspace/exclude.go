package workspace

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// excludes decides which paths stay out of the copy. The patterns are the
// plain part of gitignore's:
//
//	node_modules   this name, at any depth
//	*.iso          names that match, at any depth
//	build/         directories of this name, at any depth
//	/dist, a/b     this path, from the top of the workspace
//	src/**/*.o     ** stands for any number of directories
//
// What lies in an excluded directory is excluded. There is no "!".
type excludes []exclude

type exclude struct {
	parts   []string // one per path component; "**" for any number of them
	dirOnly bool
}

// literalPattern returns the pattern that matches one path of the workspace and no other.
func literalPattern(path string) string {
	return "/" + strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// CheckExclude says what is wrong with an exclude pattern.
func CheckExclude(pattern string) error {
	_, err := parseExclude(pattern)
	return err
}

func parseExclude(pattern string) (exclude, error) {
	bad := func(why string) (exclude, error) {
		return exclude{}, fmt.Errorf("exclude pattern %s: %s", termsafe.Quote(pattern), why)
	}
	p, dirOnly := strings.CutSuffix(pattern, "/")
	if strings.HasPrefix(p, "!") {
		return bad(`"!" is not supported`)
	}
	anchored := strings.Contains(p, "/")
	p = strings.TrimPrefix(p, "/")
	if p == "" {
		return bad("it matches nothing")
	}
	var parts []string
	if !anchored {
		parts = append(parts, "**")
	}
	for part := range strings.SplitSeq(p, "/") {
		switch part {
		case "", ".", "..":
			return bad("it has an empty, \".\" or \"..\" component")
		}
		if part == "**" && len(parts) > 0 && parts[len(parts)-1] == "**" {
			continue // "**/**" is "**"; keeps matching cheap
		}
		if _, err := path.Match(part, ""); err != nil {
			return bad("syntax error")
		}
		parts = append(parts, part)
	}
	return exclude{parts, dirOnly}, nil
}

func parseExcludes(patterns []string) (excludes, error) {
	var es excludes
	var errs []error
	for _, p := range patterns {
		e, err := parseExclude(p)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		es = append(es, e)
	}
	return es, errors.Join(errs...)
}

// Excluded reports whether patterns that CheckExclude takes leave the directory dir, at
// the top of a workspace, out of the copy.
func Excluded(patterns []string, dir string) bool {
	es, err := parseExcludes(patterns)
	return err == nil && es.match(dir, true)
}

// Matcher matches paths by patterns as those of excludes.
type Matcher struct{ es excludes }

// NewMatcher returns a matcher of patterns.
func NewMatcher(patterns []string) (Matcher, error) {
	es, err := parseExcludes(patterns)
	return Matcher{es}, err
}

// Match reports whether the path p, none of whose parents match, matches.
func (m Matcher) Match(p string, dir bool) bool { return m.es.match(p, dir) }

// Paths returns the paths that the patterns name, if each of them is exactly one path.
func (m Matcher) Paths() (paths []string, exact bool) {
	for _, e := range m.es {
		if p := path.Join(e.parts...); !strings.ContainsAny(p, `*?[\\`) {
			paths = append(paths, p)
		}
	}
	return paths, len(paths) == len(m.es)
}

// match reports whether the path p, none of whose parents matched, is
// excluded.
func (es excludes) match(p string, dir bool) bool {
	for _, e := range es {
		if (dir || !e.dirOnly) && matchParts(e.parts, p) {
			return true
		}
	}
	return false
}

// matchParts matches one component after another. rest is "" at the end.
func matchParts(parts []string, rest string) bool {
	for i, part := range parts {
		if part == "**" {
			if i == len(parts)-1 {
				return rest != "" // all that is inside, not the directory itself
			}
			for more := true; more; _, rest, more = strings.Cut(rest, "/") {
				if matchParts(parts[i+1:], rest) {
					return true
				}
			}
			return false
		}
		if rest == "" {
			return false
		}
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		if ok, _ := path.Match(part, name); !ok {
			return false
		}
	}
	return rest == ""
}
