package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/image/erofs"
	"github.com/mayfly-vm/mayfly/internal/sparse"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Bounds of what a guest may report.
const (
	maxChanges     = 1_000_000
	maxChangeBytes = 256 << 20 // of all paths and targets
)

// Change is one entry of the upper directory of the guest's overlay, as the
// guest reports it. Nothing in it is to be believed.
type Change struct {
	Path       string // relative to the workspace, never the workspace itself
	Kind       Kind
	Opaque     bool // of a directory: what was packed in it is gone
	Attributes bool // a file has extended attributes, which stay in the guest
	Mode       uint32
	Size       int64  // of a file
	MTime      int64  // nanoseconds since 1970
	Target     string // of a symbolic link
	// Redirect is, of a directory, the packed one that it shows in place of what was
	// packed at Path: "/" and a path, or a name beside its own.
	Redirect string
	Sum      [sparse.Size]byte // of a file's content, but not of a copy's
	// Link is, of a file, the path of another in the list that it is the same file as. What
	// differs between the two is that one's.
	Link string

	copies string // the packed file of which it is a copy that the guest made by renames
}

// Base gives the contents that were packed; an *erofs.Image is one.
type Base interface {
	// Open returns the content of the regular file at a path.
	Open(path string) (*io.SectionReader, error)
}

var _ Base = (*erofs.Image)(nil)

var errChanges = errors.New("the machine's list of changes is not acceptable")

// Diff turns the guest's changes, in any order, into edits of the host's
// directory, in the order of comparePaths.
//
// A whiteout, an opaque directory or a directory that became something else
// gives one Delete for everything that was packed below it. Files that were
// written but are the same as before give nothing. A packed directory with
// another name gives one Rename, and edits for what differs in it. A list that
// no overlay could have produced is refused as a whole, and so is one whose edits
// may take more than memory, in bytes.
func Diff(ctx context.Context, m *Manifest, base Base, changes iter.Seq2[Change, error], memory int64) ([]Edit, error) {
	edits, _, err := DiffSynced(ctx, m, base, nil, changes, DiffOptions{Memory: memory})
	return edits, err
}

// DiffOptions say what DiffSynced lists.
type DiffOptions struct {
	Memory int64 // bytes that the list may take
	// Count returns how many there will be, as far as is known when the first one comes.
	Count func() int64
	// Leave returns those of new directories whose content is not to be listed, but counted.
	// It is asked where there are very many changes; nil for none.
	Leave func(ctx context.Context, dirs []string) (map[string]bool, error)
}

// DiffSynced is Diff for a machine into which something was sent: that is no change of the
// guest's. What of it the guest has changed since, or removed, is.
func DiffSynced(ctx context.Context, m *Manifest, base Base, synced *Synced, changes iter.Seq2[Change, error], o DiffOptions) ([]Edit, *Left, error) {
	cs, err := collect(changes, o)
	if err != nil {
		return nil, nil, err
	}
	left := &Left{}
	if o.Leave != nil && len(cs) >= leaveFrom {
		if cs, err = left.take(ctx, m, synced, cs, o.Leave); err != nil {
			return nil, nil, err
		}
	}
	memory := o.Memory
	view, moves, cs, err := rearrange(m, synced, cs, memory)
	if err != nil {
		return nil, nil, err
	}
	d := &differ{
		manifest: view, moves: moves, base: base, sent: synced.moved(moves), changes: cs, memory: memory, hides: make(map[string]bool),
		edits: make([]Edit, 0, len(cs)),
	}
	if err := d.run(ctx); err != nil {
		return nil, nil, err
	}
	for i := range d.edits {
		d.edits[i].From = d.from(&d.edits[i])
	}
	setImplied(d.edits)
	return d.edits, left, nil
}

// setImplied says which directories other edits make obvious: with them they come or go.
// Those that are ignored do not come with those that are not.
func setImplied(edits []Edit) {
	var next [2]string // the path of the next edit, of those not ignored and those ignored
	for i := len(edits) - 1; i >= 0; i-- {
		e := &edits[i]
		n := &next[0]
		if e.Ignored {
			n = &next[1]
		}
		e.Implied = (e.Op == Add && e.NewKind == Dir || e.Op == Delete && e.OldKind == Dir) && below(*n, e.Path)
		*n = e.Path
	}
}

// collect checks the changes one by one and sorts them.
func collect(changes iter.Seq2[Change, error], o DiffOptions) ([]Change, error) {
	var cs []Change
	bytes := 0
	for c, err := range changes {
		if err != nil {
			return nil, err
		}
		if err := c.check(); err != nil {
			return nil, fmt.Errorf("%w: %w", errChanges, err)
		}
		bytes += len(c.Path) + len(c.Target) + len(c.Redirect) + len(c.Link)
		if cs == nil && o.Count != nil {
			n := o.Count()
			o.Count = func() int64 { return n } // there is no place for what it counts later
			if n > 0 && o.CheckListed(n, 0) == nil {
				cs = make([]Change, 0, n)
			}
		}
		cs = append(cs, c)
		if err := o.CheckListed(int64(len(cs)), int64(bytes)); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(cs, func(a, b Change) int { return comparePaths(a.Path, b.Path) })
	for i := 1; i < len(cs); i++ {
		if cs[i].Path == cs[i-1].Path {
			return nil, fmt.Errorf("%w: %s is there twice", errChanges, termsafe.Quote(cs[i].Path))
		}
	}
	return cs, resolveLinks(cs)
}

// resolveLinks gives those that are other names of a file what that is. cs is sorted.
func resolveLinks(cs []Change) error {
	for i := range cs {
		c := &cs[i]
		if c.Link == "" {
			continue
		}
		j, ok := slices.BinarySearchFunc(cs, c.Link, func(c Change, p string) int { return comparePaths(c.Path, p) })
		if !ok || c.Kind != File || cs[j].Kind != File || cs[j].Link != "" {
			return fmt.Errorf("%w: %s is another name of what is no file in it", errChanges, termsafe.Quote(c.Path))
		}
		of := cs[j]
		c.Mode, c.Size, c.MTime, c.Sum, c.Attributes = of.Mode, of.Size, of.MTime, of.Sum, of.Attributes
	}
	return nil
}

func (c *Change) check() error {
	if err := checkPath(c.Path); err != nil {
		return err
	}
	switch c.Kind {
	case File:
		if c.Size < 0 || c.Size > maxContent {
			return fmt.Errorf("%s has a size of %d", termsafe.Quote(c.Path), c.Size)
		}
	case Symlink:
		if c.Target == "" || len(c.Target) > maxTarget || strings.IndexByte(c.Target, 0) >= 0 {
			return fmt.Errorf("%s has a bad link target", termsafe.Quote(c.Path))
		}
	case Dir:
		if c.Redirect != "" {
			return checkRedirect(c.Redirect)
		}
	case Whiteout, Other:
	default:
		return fmt.Errorf("%s is of %v", termsafe.Quote(c.Path), c.Kind)
	}
	return nil
}

// differ walks the manifest, what was sent and the changes side by side. All are in the
// order of comparePaths, so a directory is met before what is below it.
type differ struct {
	manifest *Manifest // as after the renames
	sent     []Sent    // as after the renames
	moves    *moves
	base     Base
	changes  []Change
	edits    []Edit
	memory   int64 // that edits may take
	names    int64 // bytes, in edits

	hides  map[string]bool
	hidden string // the outermost changed path whose packed children are gone
	kept   string // a packed directory that the guest made a special file of
}

// from returns the packed path of the old half of e, "" where it is e.Path.
func (d *differ) from(e *Edit) string {
	if e.OldKind == None {
		return ""
	}
	if from := d.moves.origin(e.Path); from != e.Path {
		return from
	}
	return ""
}

func (d *differ) run(ctx context.Context) error {
	es, ss, cs := d.manifest.Entries, d.sent, d.changes
	for len(es) > 0 || len(ss) > 0 || len(cs) > 0 {
		var path string
		first := func(p string) {
			if path == "" || comparePaths(p, path) < 0 {
				path = p
			}
		}
		var at place
		if len(es) > 0 {
			first(es[0].Path)
		}
		if len(ss) > 0 {
			first(ss[0].Path)
		}
		if len(cs) > 0 {
			first(cs[0].Path)
		}
		if len(es) > 0 && es[0].Path == path {
			at.packed, es = &es[0], es[1:]
			at.old = at.packed
		}
		if len(ss) > 0 && ss[0].Path == path {
			at.sent, ss = &ss[0], ss[1:]
			if at.old = &at.sent.Entry; at.old.Kind == None {
				at.old = nil
			}
		}
		if len(cs) == 0 || cs[0].Path != path {
			if err := d.unchanged(ctx, at); err != nil {
				return err
			}
			if err := CheckCount(int64(len(d.edits)), d.names, d.memory); err != nil {
				return err
			}
			continue
		}
		n := len(d.edits)
		if err := d.changed(ctx, at, &cs[0]); err != nil {
			return err
		}
		for _, e := range d.edits[n:] {
			d.names += int64(len(e.Path) + len(e.OldTarget) + len(e.NewTarget) + len(e.Link))
		}
		if err := CheckCount(int64(len(d.edits)), d.names, d.memory); err != nil {
			return err
		}
		cs = cs[1:]
	}
	return nil
}

// place is what there is to say of one path beside what the guest reports.
type place struct {
	packed *Entry // nil for nothing
	sent   *Sent  // since then; nil for nothing
	old    *Entry // what the guest's changes start from: what was sent or, without that, packed
}

// gone reports whether p was packed below something whose children are gone.
func (d *differ) gone(p string) bool {
	if d.hidden == "" || len(d.moves.order) == 0 {
		return d.hidden != "" && below(p, d.hidden)
	}
	// What a rename has brought below something hidden is there.
	parent, _ := splitPath(p)
	for q := range upwards(parent) {
		if _, moved := d.moves.from[q]; moved || d.hides[q] {
			return !moved
		}
	}
	return false
}

// hide makes the packed children of p gone.
func (d *differ) hide(p string) {
	d.hides[p] = true
	if !d.gone(p) {
		d.hidden = p
	}
}

// unchanged handles a path that the guest did not report.
func (d *differ) unchanged(ctx context.Context, at place) error {
	var here *Entry // what the guest shows of it
	if at.packed != nil && !d.gone(at.packed.Path) {
		here = at.packed
	}
	switch {
	case d.kept != "" && (here == nil && at.old != nil && below(at.old.Path, d.kept)):
		return nil
	case here == nil:
		if at.old != nil {
			d.edits = append(d.edits, newEdit(Delete, at.old, nil))
			d.names += int64(len(at.old.Path) + len(at.old.Target))
		}
		return nil
	case at.sent == nil:
		return nil
	}
	// It shows what was packed in place of what was sent.
	c := Change{Path: here.Path, Kind: here.Kind, Mode: here.Mode & 0o777, Size: here.Size, MTime: here.ID.MTime, Target: here.Target}
	if c.Kind == File {
		c.copies = d.moves.origin(here.Path)
	}
	return d.compare(ctx, at, &c)
}

// changed handles a path that the guest reported.
func (d *differ) changed(ctx context.Context, at place, c *Change) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := d.checkParent(c); err != nil {
		return err
	}
	packedDir := at.packed != nil && at.packed.Kind == Dir
	if packedDir && (c.Kind != Dir || c.Opaque) {
		d.hide(c.Path)
	}
	if _, moved := d.moves.from[c.Path]; moved && at.packed != nil {
		d.edits = append(d.edits, newEdit(Rename, at.packed, c))
		return nil
	}
	switch c.Kind {
	case Whiteout:
		if at.old != nil {
			d.edits = append(d.edits, newEdit(Delete, at.old, nil))
		}
		return nil
	case Other:
		if packedDir || at.old != nil && at.old.Kind == Dir {
			d.kept = c.Path
		}
		e := newEdit(opOf(at.old), at.old, c)
		e.Skipped = "sockets, pipes and devices stay in the machine"
		d.edits = append(d.edits, e)
		return nil
	}
	return d.compare(ctx, at, c)
}

func opOf(old *Entry) Op {
	if old == nil {
		return Add
	}
	return Modify
}

// compare makes an edit of what is at a path now, unless it is the same as before.
func (d *differ) compare(ctx context.Context, at place, c *Change) error {
	e := newEdit(opOf(at.old), at.old, c)
	if c.Kind == Symlink {
		e.Escapes = leavesTree(d.manifest.Root, c.Path, c.Target)
	}
	if at.old != nil && at.old.Kind == c.Kind {
		same, err := d.sameContent(ctx, at, c)
		if err != nil {
			return err
		}
		if same && (c.Kind == Symlink || e.OldMode == e.NewMode) {
			return nil
		}
		e.ModeOnly = same
	}
	d.edits = append(d.edits, e)
	return nil
}

// checkParent makes sure that c lies in what is a directory in the guest.
func (d *differ) checkParent(c *Change) error {
	parent, _ := splitPath(c.Path)
	if parent == "." {
		return nil
	}
	i, ok := slices.BinarySearchFunc(d.changes, parent, func(c Change, p string) int { return comparePaths(c.Path, p) })
	if ok && d.changes[i].Kind == Dir {
		return nil
	}
	if !ok && !d.gone(parent) {
		if e := d.manifest.Find(parent); e != nil && e.Kind == Dir {
			return nil
		}
	}
	return fmt.Errorf("%w: %s is not in a directory", errChanges, termsafe.Quote(c.Path))
}

// sameContent compares all but modes of two of the same kind.
func (d *differ) sameContent(ctx context.Context, at place, c *Change) (same bool, err error) {
	switch c.Kind {
	case Symlink:
		return at.old.Target == c.Target, nil
	case File:
		if at.old.Size != c.Size {
			return false, nil
		}
		var before [sparse.Size]byte
		if at.sent != nil {
			before = at.sent.Sum
		} else {
			before, err = d.sum(ctx, d.moves.origin(at.old.Path))
		}
		if err == nil && c.copies != "" {
			c.Sum, err = d.sum(ctx, c.copies)
		}
		return before == c.Sum, err
	}
	return true, nil
}

// sum returns that of the content of a packed file.
func (d *differ) sum(ctx context.Context, packed string) (sum [sparse.Size]byte, err error) {
	r, err := d.base.Open(packed)
	if err == nil {
		sum, err = sparse.SumOf(ctx, r, r.Size())
	}
	if err != nil {
		return sum, fmt.Errorf("read the packed %s: %w", termsafe.Quote(packed), err)
	}
	return sum, nil
}

// newEdit returns the edit from old to c, either of which may be nil.
func newEdit(op Op, old *Entry, c *Change) Edit {
	e := Edit{Op: op}
	if old != nil {
		e.Path = old.Path
		e.OldKind = old.Kind
		e.OldMode = old.Mode & 0o777
		e.OldSize = old.Size
		e.OldTarget = old.Target
	}
	if c != nil {
		e.Path = c.Path
		e.NewKind = c.Kind
		switch c.Kind {
		case File:
			e.NewMode = c.Mode & 0o777
			e.NewSize = c.Size
			e.MTime = c.MTime
			e.Sum = c.Sum
			e.Copies, e.Lower = c.copies, c.copies != ""
			e.Link = c.Link
			e.Attributes = c.Attributes
		case Dir:
			e.NewMode = c.Mode & 0o777
		case Symlink:
			e.NewMode = 0o777
			e.NewTarget = c.Target
		}
	}
	return e
}
