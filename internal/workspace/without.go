package workspace

// Without returns edits, all of them in the order of Diff, without those that drop is true
// of. A new directory goes if nothing is left in it, and the deletion of a directory if
// something in it stays.
func Without(edits []Edit, drop func(e *Edit) bool) []Edit {
	dropped := make([]bool, len(edits))
	type content struct{ kept, dropped bool }
	contents := make(map[string]content)
	for i := len(edits) - 1; i >= 0; i-- { // what is in a directory comes before it
		e := &edits[i]
		in := contents[e.Path]
		delete(contents, e.Path)
		switch {
		case drop(e):
			dropped[i] = true
		case e.Op == Add && e.NewKind == Dir:
			dropped[i] = in.dropped && !in.kept
		case e.Op == Delete && e.OldKind == Dir:
			dropped[i] = in.dropped
		}
		now := content{in.kept || !dropped[i], in.dropped || dropped[i]}
		for dir := range upwards(e.Path) {
			if dir == e.Path {
				continue
			}
			old := contents[dir]
			sum := content{old.kept || now.kept, old.dropped || now.dropped}
			if old == sum {
				break
			}
			contents[dir] = sum
		}
	}
	n := 0
	for _, is := range dropped {
		if !is {
			n++
		}
	}
	if n == len(edits) {
		return edits
	}
	left := make([]Edit, 0, n)
	for i := range edits {
		if !dropped[i] {
			left = append(left, edits[i])
		}
	}
	return left
}
