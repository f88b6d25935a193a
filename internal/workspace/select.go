package workspace

import "slices"

// Select returns those of edits that are about one of the paths or what is below it, with
// the directories that they need, in the same order.
func Select(edits []Edit, paths []string) []Edit {
	wanted := func(e *Edit) bool {
		return slices.ContainsFunc(paths, func(p string) bool {
			return e.Path == p || below(e.Path, p) || e.Op == Rename && (e.From == p || below(e.From, p))
		})
	}
	needed := make(map[string]bool) // directories
	for i := range edits {
		if e := &edits[i]; wanted(e) {
			for dir := range upwards(e.Path) {
				needed[dir] = true
			}
		}
	}
	var out []Edit
	for i := range edits {
		e := &edits[i]
		if wanted(e) || needed[e.Path] && (e.NewKind == Dir && e.OldKind != Dir || e.Op == Rename) {
			out = append(out, *e)
		}
	}
	return out
}
