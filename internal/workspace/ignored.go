package workspace

import "slices"

// SetIgnored marks those of edits, all of them in the order of Diff, that are about
// nothing but what is ignored. An edit with two paths, of a directory that was renamed,
// is so only if both are. What is not marked can be applied without the rest:
//
//   - a new directory belongs to what is in it: it is ignored if all of that is, and is
//     not if something in it is not;
//   - a directory that was deleted stays for what is ignored in it, as git leaves it.
func SetIgnored(edits []Edit, ignored func(path string) bool) {
	for i := range edits {
		e := &edits[i]
		e.Ignored = ignored(e.Path) && (e.From == "" || ignored(e.From))
	}
	// From the leaves up: what the last edits said of what is below a directory.
	type content struct{ any, ordinary, ignored bool }
	contents := make(map[string]content)
	for i := len(edits) - 1; i >= 0; i-- {
		e := &edits[i]
		in := contents[e.Path]
		delete(contents, e.Path)
		switch {
		case e.NewKind == Dir && e.OldKind != Dir || e.Op == Rename:
			switch {
			case in.ordinary:
				e.Ignored = false
			case in.any && e.Op == Add:
				e.Ignored = true
			}
		case e.Op == Delete && e.OldKind == Dir:
			e.Ignored = e.Ignored || in.ignored
		}
		in.any = true
		in.ordinary = in.ordinary || !e.Ignored
		in.ignored = in.ignored || e.Ignored
		// All that is above it, as far as that is not said already.
		for dir := range upwards(e.Path) {
			if dir == e.Path {
				continue
			}
			old := contents[dir]
			now := content{true, old.ordinary || in.ordinary, old.ignored || in.ignored}
			if old == now {
				break
			}
			contents[dir] = now
		}
	}
	setImplied(edits)
}

// WithoutIgnored returns the edits that are not marked as ignored.
func WithoutIgnored(edits []*Edit) []*Edit {
	return slices.DeleteFunc(slices.Clone(edits), func(e *Edit) bool { return e.Ignored })
}
