package workspace

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/sparse"
)

// maxSettled bounds the bytes of the host's files that Settle reads. Beyond it an edit that
// is done stays in the list, and an Apply finds out.
const maxSettled = 1 << 30

// Settle compares edits, all of them in the order of Diff, with what the host has at dir
// now. It leaves out those that are done. Those of files that an earlier Apply has put
// there, as placed says, begin at that. What the guest has again as it was packed, which is
// what listed does not report, becomes an edit where the host still has what was placed.
func Settle(ctx context.Context, dir string, m *Manifest, edits []Edit, placed *Placed, listed func(path string) bool) ([]Edit, error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return edits, nil // an apply says so
	}
	defer unix.Close(root)
	s := &settler{root: root, manifest: m, placed: placed, left: maxSettled, dir: -1, unmoved: make(map[string]bool)}
	defer s.close()
	for i := range edits {
		if e := &edits[i]; e.Op == Rename && !s.moved(e) {
			s.unmoved[e.From], s.unmoved[e.Path] = true, true
		}
	}
	edits, err = s.restored(ctx, edits, listed)
	if err != nil {
		return nil, err
	}
	done := make([]bool, len(edits))
	some := false
	for i := range edits {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		e := &edits[i]
		if e.Skipped != "" || e.Op == Rename && s.unmoved[e.Path] || insideAny(s.unmoved, e.Path) {
			continue
		}
		if done[i], err = s.settle(ctx, e); err != nil {
			return nil, err
		}
		some = some || done[i]
	}
	if !some {
		return edits, nil
	}
	// What others need stays: the directory that they are in, and the file that they name.
	needed := make(map[string]bool)
	for i := range edits {
		if !done[i] && edits[i].Link != "" {
			needed[edits[i].Link] = true
		}
	}
	inside := make(map[string]bool)
	n := 0
	for i := len(edits) - 1; i >= 0; i-- {
		e := &edits[i]
		if done[i] = done[i] && !needed[e.Path] && !inside[e.Path]; !done[i] {
			mark(inside, e.Path)
			n++
		}
	}
	left := make([]Edit, 0, n)
	for i := range edits {
		if !done[i] {
			left = append(left, edits[i])
		}
	}
	setImplied(left)
	return left, nil
}

// settler is one run of Settle.
type settler struct {
	root     int
	manifest *Manifest
	placed   *Placed
	left     int64           // bytes that may be read
	unmoved  map[string]bool // both paths of renames that are not done

	parent string // the directory that is open as dir, if that is not -1
	dir    int
}

func (s *settler) close() {
	if s.dir >= 0 {
		unix.Close(s.dir)
	}
	s.dir = -1
}

// look returns what the host has at a path.
func (s *settler) look(path string) (now hostFile, name string, err error) {
	parent, name := splitPath(path)
	if s.dir < 0 || parent != s.parent {
		s.close()
		s.parent = parent
		if s.dir, err = openBeneath(s.root, parent, unix.O_PATH|unix.O_DIRECTORY); err != nil {
			s.dir = -1
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
				err = nil
			}
			return hostFile{}, name, err
		}
	}
	now, err = look(s.dir, name)
	return now, name, err
}

// moved reports whether the host has renamed a directory.
func (s *settler) moved(e *Edit) bool {
	old := s.manifest.Find(e.From)
	now, _, err := s.look(e.Path)
	return err == nil && old != nil && now.kind == Dir && now.id.Dev == old.ID.Dev && now.id.Ino == old.ID.Ino
}

// settle reports whether the host has what e makes. If it has what an earlier Apply made, e
// begins there.
func (s *settler) settle(ctx context.Context, e *Edit) (done bool, err error) {
	now, name, err := s.look(e.Path)
	if err != nil {
		// What was below a link that took a directory's place is gone; an apply says the rest.
		return e.NewKind == None && errors.Is(err, unix.ELOOP), nil
	}
	switch {
	case now.kind == None:
		if e.NewKind == None {
			return true, nil
		}
	case now.kind != e.NewKind && now.kind == Dir, now.kind == Other:
		return false, nil
	case now.kind == Dir:
		mode := now.mode & 0o777
		return mode == e.NewMode || e.Op == Add && mode != e.NewMode|0o700, nil
	}
	old := s.manifest.Find(e.Packed())
	if old == nil && now.kind == None || old != nil && now.id == old.ID && s.manifest.trusts(old) {
		return false, nil // nobody has touched it
	}
	is := placed{Kind: now.kind, Mode: now.mode & 0o7777, Size: now.size}
	want := placed{Kind: e.NewKind, Mode: e.NewMode & 0o777, Size: e.NewSize, Target: []byte(e.NewTarget)}
	if e.summed() {
		want.Sum = e.Sum[:]
	}
	switch now.kind {
	case Symlink:
		target, err := readlinkat(s.dir, name)
		if err != nil {
			return false, nil
		}
		is.Target = []byte(target)
	case File:
		known := want.like(&is)
		for i := range s.placed.at[e.Path] {
			known = known || s.placed.at[e.Path][i].like(&is)
		}
		if !known || now.size > s.left {
			return false, nil
		}
		s.left -= now.size
		sum, err := sumAt(ctx, s.dir, name, now.size)
		if err != nil {
			return false, ctx.Err()
		}
		is.Sum = sum[:]
	}
	if want.equal(&is) {
		return true, nil
	}
	if e.From == "" {
		for i := range s.placed.at[e.Path] {
			if s.placed.at[e.Path][i].equal(&is) {
				e.begin(&is)
			}
		}
	}
	return false, nil
}

// restored returns edits with those that bring packed files back.
func (s *settler) restored(ctx context.Context, edits []Edit, listed func(path string) bool) ([]Edit, error) {
	var more []Edit
	for path := range s.placed.at {
		if listed(path) || insideAny(s.unmoved, path) || checkPath(path) != nil {
			continue
		}
		e := Edit{Op: Add, Path: path}
		if old := s.manifest.Find(path); old != nil {
			if old.Kind == Dir {
				continue
			}
			e.Op, e.NewKind, e.NewMode, e.NewSize, e.NewTarget = Modify, old.Kind, old.Mode&0o777, old.Size, old.Target
			if old.Kind == File {
				e.Copies = path
			}
		}
		if _, err := s.settle(ctx, &e); err != nil {
			return nil, err
		}
		if e.Since && (e.OldKind != None || e.NewKind != None) {
			more = append(more, e)
		}
	}
	if len(more) == 0 {
		return edits, nil
	}
	edits = append(slices.Clone(edits), more...)
	slices.SortFunc(edits, func(a, b Edit) int { return comparePaths(a.Path, b.Path) })
	return edits, nil
}

// like reports whether two may be the same, as far as that shows without their contents.
func (p *placed) like(is *placed) bool {
	return p.Kind == is.Kind && (p.Kind != File || p.Mode == is.Mode && p.Size == is.Size && len(p.Sum) > 0)
}

func (p *placed) equal(is *placed) bool {
	switch {
	case !p.like(is):
		return false
	case p.Kind == File:
		return bytes.Equal(p.Sum, is.Sum)
	case p.Kind == Symlink:
		return bytes.Equal(p.Target, is.Target)
	}
	return true
}

// begin has e begin at what an earlier Apply has left.
func (e *Edit) begin(at *placed) {
	e.Since = true
	e.OldKind, e.OldMode, e.OldSize, e.OldTarget, e.OldSum = at.Kind, at.Mode, at.Size, string(at.Target), new([sparse.Size]byte)
	copy(e.OldSum[:], at.Sum)
	if e.ModeOnly {
		e.ModeOnly, e.Copies, e.Lower = false, e.Path, false
	}
	switch {
	case at.Kind == None:
		e.Op, e.OldMode = Add, 0
	case at.Kind == Symlink:
		e.Op, e.OldMode = Modify, 0o777
	default:
		e.Op = Modify
	}
	if e.NewKind == None {
		e.Op = Delete
	}
}

// old returns what the host must have for e to be applied; nil for nothing.
func (a *applier) old(e *Edit) (*Entry, error) {
	switch {
	case e.Op == Add:
		return nil, nil
	case e.Since:
		// Without an identity: its content tells.
		return &Entry{Path: e.Path, Kind: e.OldKind, Mode: e.OldMode, Size: e.OldSize, Target: e.OldTarget}, nil
	}
	if old := a.Manifest.Find(e.Packed()); old != nil {
		return old, nil
	}
	return nil, errors.New("an edit of what was not packed")
}

// begins reports whether a name is what e begins at.
func (a *applier) begins(ctx context.Context, dir int, name string, now hostFile, old *Entry, e *Edit) (bool, error) {
	if !e.Since || now.kind != File || old.Kind != File || now.mode != old.Mode || now.size != old.Size {
		return a.isOld(ctx, dir, name, now, old)
	}
	sum, err := sumAt(ctx, dir, name, old.Size)
	if err != nil {
		return false, ctx.Err() // it was changed meanwhile, or cannot be read
	}
	return e.OldSum != nil && sum == *e.OldSum, nil
}

// sumAt returns that of the regular file name, which must have this size.
func sumAt(ctx context.Context, dir int, name string, size int64) (sum [sparse.Size]byte, err error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return sum, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() || fi.Size() != size {
		return sum, errDiffers
	}
	return sparse.SumOf(ctx, f, size)
}
