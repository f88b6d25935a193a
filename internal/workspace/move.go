package workspace

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// moves are directories that the guest has renamed. A packed directory that has another
// name in the guest is there under its new one, with its old place as a redirect
// (filesystems/overlayfs.rst). The guest is root in its machine and may write any
// redirect: what is not what renames give is taken for a copy, as the kernel shows it.
//
// The order is one in which the host can do the same, each in one step.
type moves struct {
	order []move
	to    map[string]string // by the packed path
	from  map[string]string // the packed path, by the new one
}

type move struct{ from, to string }

func (m *moves) add(from, to string) {
	if m.to == nil {
		m.to, m.from = make(map[string]string), make(map[string]string)
	}
	m.order = append(m.order, move{from, to})
	m.to[from], m.from[to] = to, from
}

// where returns where the packed path p is.
func (m *moves) where(p string) string { return swapPrefix(m.to, p) }

// origin returns the only packed path that may be at p.
func (m *moves) origin(p string) string { return swapPrefix(m.from, p) }

// swapPrefix replaces the longest prefix of p that is in table.
func swapPrefix(table map[string]string, p string) string {
	if len(table) == 0 {
		return p
	}
	for q := range upwards(p) {
		if to, ok := table[q]; ok {
			return to + p[len(q):]
		}
	}
	return p
}

// upwards yields p and the directories that it is in, but for the workspace itself.
func upwards(p string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for p != "." && yield(p) {
			p, _ = splitPath(p)
		}
	}
}

// rearrange takes the redirects out of a list of changes. It returns the renames in it,
// what was packed as it looks after them, and the changes as of that. What is no rename
// becomes changes that copy: so does a rename of a directory that the host has not any more,
// by what was sent, or to where it has something.
func rearrange(m *Manifest, synced *Synced, cs []Change, memory int64) (*Manifest, *moves, []Change, error) {
	r := &rearranger{manifest: m, synced: synced, memory: memory, moves: &moves{}, changes: make(map[string]*Change), shown: make(map[string][]string), sources: make(map[string]string), targets: make(map[string]string)}
	if !slices.ContainsFunc(cs, func(c Change) bool { return c.Redirect != "" }) {
		return m, r.moves, cs, nil
	}
	if err := CheckCount(int64(len(cs)), 0, memory); err != nil {
		return nil, nil, nil, err // nothing of it is left
	}
	for i := range cs {
		r.changes[cs[i].Path] = &cs[i]
	}
	var pending, copies []move
	for i := range cs {
		c := &cs[i]
		if c.Kind != Dir || c.Opaque {
			c.Redirect = ""
		}
		if c.Redirect == "" {
			continue
		}
		from, ok := r.lower(c)
		if parent, _ := splitPath(c.Path); ok && from == c.Path && !r.hidden(parent, "") {
			c.Redirect = ""
			continue
		}
		if e := m.Find(from); !ok || e == nil || e.Kind != Dir {
			// It shows nothing that was packed, also not what was at its own path.
			c.Redirect, c.Opaque = "", true
			continue
		}
		// Before any other is looked at that is relative to it.
		c.Redirect = "/" + from
		if len(r.shown[from]) < 2 {
			r.shown[from] = append(r.shown[from], c.Path)
		}
		if _, taken := r.sources[from]; taken {
			copies = append(copies, r.copied(move{from, c.Path}))
			continue
		}
		r.sources[from], r.targets[c.Path] = c.Path, from
		pending = append(pending, move{from, c.Path})
	}
	copies = append(copies, r.settle(pending)...)
	var err error
	if cs, err = r.copy(cs, copies); err != nil {
		return nil, nil, nil, err
	}
	return r.view(), r.moves, cs, nil
}

// maxRounds bounds the work of finding an order. Renames that wait for each other more
// often than that are copies.
const maxRounds = 64

type rearranger struct {
	manifest *Manifest
	synced   *Synced
	memory   int64 // that the changes may take
	changes  map[string]*Change
	moves    *moves

	shown map[string][]string // where redirects show a packed directory; at most two places
	// Of the renames that are not settled: the new path by the packed one, and back.
	sources, targets map[string]string
}

// lower returns the packed path that a redirect leads to.
func (r *rearranger) lower(c *Change) (string, bool) {
	if path, ok := strings.CutPrefix(c.Redirect, "/"); ok {
		return path, true
	}
	parent, _ := splitPath(c.Path)
	for q := range upwards(parent) {
		above := r.changes[q]
		switch {
		case above == nil:
			continue
		case above.Opaque || above.Kind != Dir:
			return "", false
		case above.Redirect != "":
			// Parents come first, so that this one is absolute by now.
			return joinPath(above.Redirect[1:]+parent[len(q):], c.Redirect), true
		}
	}
	return joinPath(parent, c.Redirect), true
}

// copied says that m is a copy: a new directory takes the place of what was packed there.
func (r *rearranger) copied(m move) move {
	r.changes[m.to].Opaque = true
	return m
}

// settle finds an order for renames, and returns those that there is none for.
func (r *rearranger) settle(pending []move) (copies []move) {
	for range maxRounds {
		var waiting []move
		for _, m := range pending {
			if !r.ready(m) {
				waiting = append(waiting, m)
				continue
			}
			delete(r.sources, m.from)
			delete(r.targets, m.to)
			switch {
			case r.moves.where(m.from) != m.to && r.possible(m):
				r.moves.add(m.from, m.to)
			case r.moves.where(m.from) == m.to && !r.replaced(m.to):
				// It is there already, by the rename of a directory above.
			default:
				copies = append(copies, r.copied(m))
			}
		}
		stuck := len(waiting) == len(pending)
		if pending = waiting; stuck {
			break
		}
	}
	for _, m := range pending {
		copies = append(copies, r.copied(m))
	}
	return copies
}

// replaced reports whether a new directory is above p, or above it in one that was renamed.
// What was packed at p is then there only because it was moved out of the way and back.
func (r *rearranger) replaced(p string) bool {
	parent, _ := splitPath(p)
	for q := range upwards(parent) {
		if c := r.changes[q]; c != nil && (c.Opaque || c.Redirect != "") {
			return c.Opaque
		}
	}
	return false
}

// packedAt returns what of the packed tree is at p after the renames so far.
func (r *rearranger) packedAt(p string) *Entry {
	if o := r.moves.origin(p); r.moves.where(o) == p {
		return r.manifest.Find(o)
	}
	return nil
}

// ready reports whether no rename has to come before m: of what is in its way, or of a
// directory that it is to be in.
func (r *rearranger) ready(m move) bool {
	for q := range upwards(m.to) {
		if _, ok := r.targets[q]; ok && q != m.to {
			return false
		}
		if e := r.packedAt(q); e != nil && e.Path != m.from {
			if _, ok := r.sources[e.Path]; ok {
				return false
			}
		}
	}
	return true
}

// possible reports whether the host can do m in one step.
func (r *rearranger) possible(m move) bool {
	now := r.moves.where(m.from)
	if below(m.to, now) || r.packedAt(m.to) != nil {
		return false
	}
	if s := r.synced.Find(m.from); s != nil && s.Kind != Dir {
		return false
	}
	if s := r.synced.Find(m.to); s != nil && s.Kind != None {
		return false
	}
	parent, _ := splitPath(m.to)
	for q := range upwards(parent) {
		c := r.changes[q]
		if e := r.packedAt(q); e != nil && e.Kind != Dir || e == nil && c == nil || c != nil && c.Kind != Dir {
			return false
		}
	}
	// The guest may see it nowhere else: where it was, or in another that it is in.
	if !r.hidden(m.from, "") {
		return false
	}
	above, _ := splitPath(m.from)
	for q := range upwards(above) {
		shown := r.shown[q]
		if len(shown) > 1 || len(shown) == 1 && !r.hidden(shown[0]+m.from[len(q):], shown[0]) {
			return false
		}
	}
	return true
}

// hidden reports whether something takes the place of what was packed at path, or of
// what that is in below dir.
func (r *rearranger) hidden(path, dir string) bool {
	for q := range upwards(path) {
		if q == dir {
			return false
		}
		if c := r.changes[q]; c != nil && (c.Kind != Dir || c.Opaque || c.Redirect != "") {
			return true
		}
	}
	return false
}

// copy adds the changes that make copies of packed directories.
func (r *rearranger) copy(cs []Change, copies []move) ([]Change, error) {
	all := cs
	bytes := 0
	for _, m := range copies {
		skip := ""
		for _, e := range r.manifest.below(m.from) {
			to := m.to + e.Path[len(m.from):]
			if skip != "" && below(to, skip) {
				continue
			}
			if c := r.changes[to]; c != nil {
				if c.Kind != Dir || c.Opaque || c.Redirect != "" {
					skip = to
				}
				continue
			}
			c := Change{Path: to, Kind: e.Kind, Mode: e.Mode, Size: e.Size, MTime: e.ID.MTime, Target: e.Target}
			if c.Kind == File {
				c.copies = e.Path
			}
			if err := checkPath(to); err != nil {
				return nil, fmt.Errorf("%w: %w", errChanges, err)
			}
			bytes += len(to)
			if err := CheckCount(int64(len(all))+1, int64(bytes), r.memory); err != nil {
				return nil, fmt.Errorf("with copies of %s: %w", termsafe.Quote(m.from), err)
			}
			all = append(all, c)
		}
	}
	if len(all) > len(cs) {
		slices.SortFunc(all, func(a, b Change) int { return comparePaths(a.Path, b.Path) })
	}
	return all, nil
}

// below returns the entries below a directory.
func (m *Manifest) below(dir string) []Entry {
	i, _ := slices.BinarySearchFunc(m.Entries, dir+"/", func(e Entry, p string) int { return comparePaths(e.Path, p) })
	n := i
	for n < len(m.Entries) && below(m.Entries[n].Path, dir) {
		n++
	}
	return m.Entries[i:n]
}

// view returns the manifest as it looks after the renames.
func (r *rearranger) view() *Manifest {
	if len(r.moves.order) == 0 {
		return r.manifest
	}
	v := &Manifest{Root: r.manifest.Root, Started: r.manifest.Started, Entries: slices.Clone(r.manifest.Entries)}
	for i := range v.Entries {
		v.Entries[i].Path = r.moves.where(v.Entries[i].Path)
	}
	slices.SortFunc(v.Entries, func(a, b Entry) int { return comparePaths(a.Path, b.Path) })
	return v
}

// checkRedirect accepts the redirects that overlayfs makes: a name, or an absolute path.
func checkRedirect(redirect string) error {
	path, absolute := strings.CutPrefix(redirect, "/")
	if !absolute && strings.Contains(path, "/") {
		return fmt.Errorf("%w: %s", errUnsafePath, termsafe.Quote(redirect))
	}
	return checkPath(path)
}
