package review

import (
	"path"
	"slices"
	"strings"
)

// producedDirs are trees that tools make and make again, whatever the project.
var producedDirs = []string{"node_modules", ".venv", "__pycache__", ".next", ".nuxt", ".gradle", ".terraform", ".tox", ".nox", ".mypy_cache",
	".pytest_cache", ".ruff_cache", ".turbo", ".parcel-cache", ".svelte-kit", ".dart_tool", ".eggs", "bower_components", ".angular"}

// ignoredDirs are such trees where git ignores them: other projects have sources there.
var ignoredDirs = []string{"target", "build", "dist", "out", "venv", "env", "obj", "bin", "coverage", "vendor", "deps", "_build", "cmake-build-debug",
	"cmake-build-release", "zig-out", "zig-cache", ".zig-cache", ".cache", "site-packages", "storybook-static", "htmlcov", "pods"}

// generated reports whether the path is in a tree that tools produce. What git shows is
// never: it was put there as a source.
func (s *subject) generated() bool {
	c := s.change
	source := s.set.repository && !c.Ignored
	if c.Old.Kind == Regular && source {
		return false
	}
	parts := strings.Split(s.folded, "/")
	at := ""
	for i, part := range parts {
		at = path.Join(at, part)
		if i == len(parts)-1 && c.New.Kind != Dir {
			break
		}
		switch {
		case slices.Contains(producedDirs, part):
			return !source || len(s.set.in.Host.Names(prefix(c.Path, i+1))) == 0
		case c.Ignored && slices.Contains(ignoredDirs, part):
			return true
		case part == "vendor" && i+1 < len(parts) && parts[i+1] == "bundle":
			return true
		case (part == "venv" || part == "env") && s.set.has(at+"/pyvenv.cfg"),
			part == "target" && (s.set.has(at+"/.rustc_info.json") || s.set.has(at+"/cachedir.tag")):
			return true
		case strings.HasSuffix(part, ".egg-info"):
			return true
		}
	}
	return false
}

// marks are files by which has knows such a tree.
var marks = []string{"pyvenv.cfg", ".rustc_info.json", "cachedir.tag"}

// has reports whether the change set brings a file of this folded path, one of marks.
func (t *set) has(folded string) bool {
	if t.folded == nil {
		t.folded = make(map[string]bool)
		for i := range t.in.Changes {
			if c := &t.in.Changes[i]; c.New.Kind != None && slices.Contains(marks, fold(path.Base(c.Path))) {
				t.folded[fold(c.Path)] = true
			}
		}
	}
	return t.folded[folded]
}

// fixtures are directories of what tests read.
var fixtures = []string{"testdata", "test-data", "test_data", "fixtures", "fixture", "__fixtures__", "__snapshots__", "__tests__", "__mocks__", "mocks",
	"test", "tests", "spec", "specs", "e2e", "cassettes", "golden", "goldens", "snapshots", "corpus"}

// fixture reports whether the path is one of tests and of what they read.
func (s *subject) fixture() bool {
	dir, base := path.Split(s.folded)
	for part := range strings.SplitSeq(dir, "/") {
		if slices.Contains(fixtures, part) {
			return true
		}
	}
	stem := strings.TrimSuffix(base, path.Ext(base))
	return strings.HasSuffix(stem, "_test") || strings.HasPrefix(base, "test_") || strings.HasSuffix(stem, ".test") || strings.HasSuffix(stem, ".spec") ||
		strings.HasSuffix(stem, "_spec") || base == "conftest.py" || path.Ext(base) == ".snap" || path.Ext(base) == ".golden"
}

// prefix returns the first n names of a path.
func prefix(p string, n int) string { return strings.Join(strings.SplitN(p, "/", n+1)[:n], "/") }
