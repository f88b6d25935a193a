package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/sparse"
)

// node is one path of a tree in memory.
type node struct {
	kind Kind
	mode uint32
	data string // content or target
}

func (n node) String() string { return fmt.Sprintf("%v %o %.60q", n.kind, n.mode, n.data) }

// tree is a directory in memory, by path.
type tree map[string]node

// build makes the tree in dir, which must be empty.
func (tr tree) build(t testing.TB, dir string) {
	t.Helper()
	paths := slices.SortedFunc(maps.Keys(tr), comparePaths)
	for _, p := range paths {
		n, full := tr[p], filepath.Join(dir, p)
		var err error
		switch n.kind {
		case Dir:
			err = os.Mkdir(full, 0o700)
		case Symlink:
			err = os.Symlink(n.data, full)
		case File:
			if err = os.WriteFile(full, []byte(n.data), 0o600); err == nil {
				err = os.Chmod(full, os.FileMode(n.mode))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range slices.Backward(paths) {
		if n := tr[p]; n.kind == Dir {
			if err := os.Chmod(filepath.Join(dir, p), os.FileMode(n.mode)); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Cleanup(func() { // so that t.TempDir can be removed
		filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				os.Chmod(p, 0o700)
			}
			return nil
		})
	})
}

// readTree reads what is in dir.
func readTree(t testing.TB, dir string) tree {
	t.Helper()
	tr := make(tree)
	err := filepath.WalkDir(dir, func(full string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrPermission) { // a directory that its owner may not list
			return nil
		}
		if err != nil || full == dir {
			return err
		}
		p := full[len(dir)+1:]
		var st unix.Stat_t
		if err := unix.Lstat(full, &st); err != nil {
			return err
		}
		n := node{kind: kindOf(&st), mode: st.Mode & 0o7777}
		switch n.kind {
		case File:
			b, err := os.ReadFile(full)
			if err != nil && !errors.Is(err, fs.ErrPermission) {
				return err
			}
			n.data = string(b)
		case Symlink:
			n.data, err = os.Readlink(full)
		}
		tr[p] = n
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// compare reports where two trees differ.
func compare(t testing.TB, what string, got, want tree) {
	t.Helper()
	for p, w := range want {
		if g, ok := got[p]; !ok {
			t.Errorf("%s: %q is missing; want %v", what, p, w)
		} else if g != w && !(g.kind == Symlink && w.kind == Symlink && g.data == w.data) {
			t.Errorf("%s: %q = %v; want %v", what, p, g, w)
		}
	}
	for p, g := range got {
		if _, ok := want[p]; !ok {
			t.Errorf("%s: %q = %v; want nothing", what, p, g)
		}
	}
}

// under returns the paths below dir, dir itself included.
func (tr tree) under(dir string) []string {
	var ps []string
	for p := range tr {
		if p == dir || below(p, dir) {
			ps = append(ps, p)
		}
	}
	slices.Sort(ps)
	return ps
}

// remove deletes a path and all below it.
func (tr tree) remove(p string) {
	for _, q := range tr.under(p) {
		delete(tr, q)
	}
}

// pick returns a random path of one of the kinds.
func (tr tree) pick(r *rand.Rand, kinds ...Kind) (string, bool) {
	var ps []string
	for p, n := range tr {
		if slices.Contains(kinds, n.kind) {
			ps = append(ps, p)
		}
	}
	if len(ps) == 0 {
		return "", false
	}
	slices.Sort(ps)
	return ps[r.IntN(len(ps))], true
}

var (
	fileModes = []uint32{0o644, 0o644, 0o755, 0o600, 0o444, 0o400}
	dirModes  = []uint32{0o755, 0o755, 0o700, 0o555, 0o750}
)

func randomNode(r *rand.Rand, kind Kind) node {
	switch kind {
	case Dir:
		return node{Dir, dirModes[r.IntN(len(dirModes))], ""}
	case Symlink:
		return node{Symlink, 0o777, []string{"a", "../b", "/etc/passwd", "x/y"}[r.IntN(4)]}
	}
	return node{File, fileModes[r.IntN(len(fileModes))], strings.Repeat(string(rune('a'+r.IntN(26))), r.IntN(3)*r.IntN(3000))}
}

func (tr tree) randomAdd(r *rand.Rand) {
	parent := ""
	if p, ok := tr.pick(r, Dir); ok && r.IntN(4) > 0 {
		parent = p + "/"
	}
	p := parent + []string{"a", "b", "a-b", "a.b", "é", "\xff", "c d", "z"}[r.IntN(8)]
	if _, ok := tr[p]; ok {
		return
	}
	tr[p] = randomNode(r, []Kind{File, File, File, Dir, Dir, Symlink}[r.IntN(6)])
}

// randomEdit does what a guest may do to a tree.
func (tr tree) randomEdit(r *rand.Rand) {
	p, ok := tr.pick(r, File, Dir, Symlink)
	if !ok {
		tr.randomAdd(r)
		return
	}
	n := tr[p]
	switch r.IntN(8) {
	case 0, 1:
		tr.randomAdd(r)
	case 2:
		tr.remove(p)
	case 3: // another thing of that name
		tr.remove(p)
		tr[p] = randomNode(r, []Kind{File, Dir, Symlink}[r.IntN(3)])
	case 4: // chmod
		if n.kind != Symlink {
			n.mode = randomNode(r, n.kind).mode
			tr[p] = n
		}
	case 5: // edit
		if n.kind == File {
			n.data += "x"
			tr[p] = n
		}
	case 6: // edit in place, same size
		if n.kind == File && n.data != "" {
			n.data = "!" + n.data[1:]
			tr[p] = n
		}
	case 7: // rename
		parent, _ := splitPath(p)
		to := joinPath(parent, "moved")
		if _, ok := tr[to]; ok {
			return
		}
		for _, q := range tr.under(p) {
			m := tr[q]
			delete(tr, q)
			tr[to+q[len(p):]] = m
		}
	}
}

// change returns what a guest reports for one path.
func (n node) change(p string) Change {
	c := Change{Path: p, Kind: n.kind, Mode: n.mode}
	switch n.kind {
	case File:
		c.Size = int64(len(n.data))
		c.Sum = sumOf(string(n.data))
	case Symlink:
		c.Target = n.data
	}
	return c
}

// changes returns the upper directory of an overlay that makes to of from. r
// decides what overlayfs leaves open, and the order.
func changes(r *rand.Rand, from, to tree) []Change {
	up := make(map[string]Change)
	for p, n := range to {
		old, ok := from[p]
		c := n.change(p)
		if ok && old == n && r.IntN(10) > 0 {
			continue // never written to; else copied up all the same
		}
		up[p] = c
	}
	// A directory that was deleted and made anew is opaque, and all that is in
	// it is in the upper directory.
	for p, n := range to {
		if n.kind == Dir && from[p].kind == Dir && r.IntN(6) == 0 {
			for _, q := range to.under(p) {
				up[q] = to[q].change(q)
			}
			c := n.change(p)
			c.Opaque = true
			up[p] = c
		}
	}
	opaque := func(p string) bool {
		for q, c := range up {
			if c.Opaque && below(p, q) {
				return true
			}
		}
		return false
	}
	for p := range from {
		if _, ok := to[p]; ok {
			continue
		}
		parent, _ := splitPath(p)
		if parent != "." && (to[parent].kind != Dir || from[parent].kind != Dir) {
			continue // gone with its parent
		}
		if opaque(p) && r.IntN(2) == 0 {
			continue
		}
		up[p] = Change{Path: p, Kind: Whiteout}
	}
	cs := slices.Collect(maps.Values(up))
	slices.SortFunc(cs, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	r.Shuffle(len(cs), func(i, j int) { cs[i], cs[j] = cs[j], cs[i] })
	return cs
}

// diffAll is Diff without a bound of its memory.
func diffAll(ctx context.Context, m *Manifest, base Base, changes iter.Seq2[Change, error]) ([]Edit, error) {
	return Diff(ctx, m, base, changes, math.MaxInt64)
}

func sequence(cs []Change) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		for _, c := range cs {
			if !yield(c, nil) {
				return
			}
		}
	}
}

// fetch is the Fetch of a guest that has the tree.
func (tr tree) fetch(ctx context.Context, paths []string, put func(string, io.Reader) error) error {
	for _, p := range paths {
		if err := put(p, strings.NewReader(tr[p].data)); err != nil {
			return err
		}
	}
	return nil
}

// session is a packed workspace.
type session struct {
	dir   string
	app   Application
	edits []Edit
}

// newSession makes from in a directory and packs it.
func newSession(t testing.TB, from tree) *session {
	t.Helper()
	s := &session{dir: filepath.Join(t.TempDir(), "ws")}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	from.build(t, s.dir)
	m, im := pack(t, s.dir, PackOptions{UID: 1000, GID: 1000})
	s.app = Application{Dir: s.dir, Manifest: m, Base: im, Journal: filepath.Join(t.TempDir(), "journal")}
	return s
}

// take diffs and stages what makes to of the packed tree.
func (s *session) take(t testing.TB, to tree, cs []Change) {
	t.Helper()
	var err error
	s.edits, err = diffAll(t.Context(), s.app.Manifest, s.app.Base, sequence(cs))
	if err != nil {
		t.Fatalf("Diff: %v", err)
	}
	s.app.Staging, err = Stage(t.Context(), filepath.Join(t.TempDir(), "staging"), Pointers(s.edits), to.fetch, StageOptions{})
	if err != nil {
		t.Fatalf("Stage: %v", err)
	}
}

// application is what applies all of its edits.
func (s *session) application() Application {
	app := s.app
	app.Edits = Pointers(s.edits)
	return app
}

func (s *session) apply(t testing.TB) Result {
	t.Helper()
	res, err := Apply(t.Context(), s.application())
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	if _, err := os.Lstat(s.app.Journal); err == nil {
		t.Error("Apply left its journal")
	}
	return res
}

// randomTrees returns a tree and what a guest made of it.
func randomTrees(r *rand.Rand) (from, to tree) {
	from = make(tree)
	for range r.IntN(60) {
		from.randomAdd(r)
	}
	to = maps.Clone(from)
	for range 1 + r.IntN(20) {
		to.randomEdit(r)
	}
	return from, to
}

func sumOf(content string) [sparse.Size]byte {
	s := sparse.NewSum()
	s.Write([]byte(content))
	return s.Sum()
}
