package workspace

import (
	"path"
	"slices"
	"strings"
)

// Choose returns those of edits, all of them in the order of Diff, that are wanted and
// allowed and can be applied without the rest, with the directories that they need, if
// those are allowed. wanted and allowed are asked by the number of an edit. So some are
// left out:
//
//   - what is in a directory that is new, or was renamed, and is not allowed;
//   - a directory that goes, or becomes something else, while something in it stays.
func Choose(edits []*Edit, wanted, allowed func(i int) bool) []*Edit {
	taken := make([]bool, len(edits))
	refused := make(map[string]bool) // new directories
	for i, e := range edits {
		ok := e.Skipped == "" && (e.Implied || allowed(i)) && !insideAny(refused, e.Path)
		taken[i] = ok && wanted(i) && !(e.makesDir() && e.Implied)
		if e.makesDir() && !ok {
			refused[e.Path] = true
		}
	}
	// From the leaves up: what stays, and what needs its directory.
	stays := make(map[string]bool)
	needed := make(map[string]bool)
	for i, e := range slices.Backward(edits) {
		removesDir := e.OldKind == Dir && e.NewKind != Dir
		switch {
		case e.makesDir() && needed[e.Path] && !refused[e.Path]:
			taken[i] = true
		case removesDir && stays[e.Path]:
			taken[i] = false
		}
		if taken[i] {
			mark(needed, e.Path)
		} else if e.Op == Delete || removesDir {
			mark(stays, e.Path)
		}
	}
	n := 0
	for _, is := range taken {
		if is {
			n++
		}
	}
	out := make([]*Edit, 0, n)
	for i := range edits {
		if taken[i] {
			out = append(out, edits[i])
		}
	}
	return out
}

// makesDir reports whether e makes a place for others.
func (e *Edit) makesDir() bool { return e.NewKind == Dir && e.OldKind != Dir || e.Op == Rename }

// insideAny reports whether p is in one of dirs.
func insideAny(dirs map[string]bool, p string) bool {
	if len(dirs) == 0 {
		return false
	}
	for dir := range upwards(p) {
		if dir != p && dirs[dir] {
			return true
		}
	}
	return false
}

// mark notes all directories that p is in.
func mark(dirs map[string]bool, p string) {
	for dir := range upwards(p) {
		if dir != p {
			if dirs[dir] {
				return
			}
			dirs[dir] = true
		}
	}
}

// At reports whether e is about one of the paths or what is below it.
func (e *Edit) At(p string) bool {
	return p == "." || e.Path == p || below(e.Path, p) || e.Op == Rename && (e.From == p || below(e.From, p))
}

// Matches reports whether e is about what a pattern that CheckExclude takes stands for, or
// what is in it.
func (e *Edit) Matches(patterns []string) bool {
	es, err := parseExcludes(patterns)
	if err != nil {
		return false
	}
	if es.match(e.Path, e.NewKind == Dir || e.NewKind == None && e.OldKind == Dir) {
		return true
	}
	for dir := path.Dir(e.Path); dir != "."; dir = path.Dir(dir) {
		if es.match(dir, true) {
			return true
		}
	}
	return false
}

// CleanPath returns how a path that a user gives is written in edits: relative to the
// workspace root, where it is absolute and in it.
func CleanPath(root, p string) string {
	if rest, ok := strings.CutPrefix(path.Clean(p), root); ok && path.IsAbs(p) && (rest == "" || rest[0] == '/') {
		return path.Clean(strings.TrimPrefix(rest, "/"))
	}
	return path.Clean(p)
}

// ChooseWhole is Choose, with both halves of a file that was renamed or none of it.
func ChooseWhole(edits []*Edit, wanted, allowed func(i int) bool) []*Edit {
	alone := make(map[string]bool)
	for {
		chosen := Choose(edits, wanted, func(i int) bool { return !alone[edits[i].Path] && allowed(i) })
		there := make(map[string]bool)
		for _, e := range chosen {
			if e.Other != "" {
				there[e.Path] = true
			}
		}
		again := false
		for _, e := range chosen {
			if e.Other != "" && !there[e.Other] {
				alone[e.Path], again = true, true
			}
		}
		if !again {
			return chosen
		}
	}
}
