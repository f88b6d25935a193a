package workspace

import (
	"context"
	"slices"
)

// leaveFrom is from how many changes on some may be left.
const leaveFrom = 5000

// Left is what of a guest's changes was counted and not listed: the content of new
// directories that are not wanted, such as installed packages.
type Left struct {
	Files int   // all but directories
	Bytes int64 // of the files
	dirs  map[string]bool
}

// Has reports whether something at a path was left.
func (l *Left) Has(path string) bool {
	return l != nil && (l.dirs[path] || insideAny(l.dirs, path))
}

// take returns cs, which are sorted, without what leave says is not wanted. A directory is
// new if nothing was packed or sent there. If the guest has renamed packed directories
// nothing is left: what is in one of a new name may have come from elsewhere.
func (l *Left) take(ctx context.Context, m *Manifest, synced *Synced, cs []Change, leave func(ctx context.Context, dirs []string) (map[string]bool, error)) ([]Change, error) {
	sent := make(map[string]bool) // directories in which something was sent
	if synced != nil {
		for i := range synced.Entries {
			mark(sent, synced.Entries[i].Path)
		}
	}
	var dirs []string
	for i := range cs {
		switch c := &cs[i]; {
		case c.Redirect != "":
			return cs, nil
		case c.Kind == Dir && !sent[c.Path] && synced.Find(c.Path) == nil && m.Find(c.Path) == nil:
			dirs = append(dirs, c.Path)
		}
	}
	if len(dirs) == 0 {
		return cs, nil
	}
	unwanted, err := leave(ctx, dirs)
	if err != nil || len(unwanted) == 0 {
		return cs, err
	}
	l.dirs = make(map[string]bool)
	under := "" // the outermost of them
	gone := func(c Change) bool {
		switch {
		case under != "" && below(c.Path, under):
		case c.Kind == Dir && unwanted[c.Path]:
			under = c.Path
			l.dirs[under] = true
		default:
			return false
		}
		if c.Kind != Dir && c.Kind != Whiteout {
			l.Files++
		}
		if c.Kind == File && c.Link == "" {
			l.Bytes += c.Size
		}
		return true
	}
	cs = slices.DeleteFunc(cs, gone)
	l.relink(cs)
	return slices.Clone(cs), nil // the rest can be used for other things
}

// relink has those of cs that are other names of a file that was left be names of each other.
func (l *Left) relink(cs []Change) {
	first := make(map[string]string)
	for i := range cs {
		c := &cs[i]
		if c.Link == "" || !l.Has(c.Link) {
			continue
		}
		link := c.Link
		c.Link = first[link]
		if c.Link == "" {
			first[link] = c.Path
		}
	}
}
