package workspace

import "slices"

// Select returns those of edits that are about one of the paths or what is below it, with
// the directories that they need, in the same order.
func Select(edits []Edit, paths []string) []Edit {
	var out []Edit
	for _, e := range edits {
		wanted := func(p string) bool { return e.Path == p || below(e.Path, p) }
		needed := func(p string) bool { return below(p, e.Path) && e.NewKind == Dir && e.OldKind != Dir }
		if slices.ContainsFunc(paths, wanted) || slices.ContainsFunc(paths, needed) {
			out = append(out, e)
		}
	}
	return out
}
