package engine

import (
	"context"
	"io"
	"path"
	"slices"

	"github.com/mayfly-vm/mayfly/internal/commits"
	"github.com/mayfly-vm/mayfly/internal/linediff"
	"github.com/mayfly-vm/mayfly/internal/sparse"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// Bounds of the search for renamed files. Beyond them what is left is a deletion and a new
// file, which is as true.
const (
	maxRenameSummed  = 1 << 30   // bytes of deleted files that are summed
	maxRenamed       = 1 << 20   // bytes of a file that is compared with others
	maxRenamedAll    = 64 << 20  // bytes of all of them
	maxRenamedPairs  = 1_000_000 // that are compared
	maxRenamedPieces = 100 << 20 // of the contents of these
)

// pair finds out which new files are deleted ones with another name, and notes in both the
// path of the other: by their content, or by half of it. Contents are staged as far as
// they are to be looked into.
func (c *Changes) pair(ctx context.Context) error {
	r := renames{c: c}
	var moved []string
	for i := range c.Edits {
		if e := &c.Edits[i]; e.Op == workspace.Rename {
			moved = append(moved, e.From, e.Path)
		}
	}
	for i := range c.Edits {
		e := &c.Edits[i]
		e.Other, e.Likeness = "", 0
		if e.Skipped != "" || e.From != "" || e.Since || e.Link != "" || commits.Own(e.Path) || slices.ContainsFunc(moved, e.At) {
			continue
		}
		switch {
		case e.Op == workspace.Delete && e.OldKind == workspace.File && e.OldSize > 0:
			r.gone = append(r.gone, i)
		case e.Op == workspace.Add && e.NewKind == workspace.File && e.NewSize > 0 && c.Staged(e):
			r.come = append(r.come, i)
		}
	}
	if len(r.gone) == 0 || len(r.come) == 0 {
		return nil
	}
	if err := r.same(ctx); err != nil {
		return err
	}
	return r.alike(ctx)
}

// renames is a search for them.
type renames struct {
	c          *Changes
	gone, come []int // edits that are in no pair yet
}

// candidate is a pair that may be a rename.
type candidate struct {
	gone, come int
	likeness   int
	name       bool // both have the same last name
}

func (r *renames) candidate(gone, come, likeness int) candidate {
	a, b := &r.c.Edits[gone], &r.c.Edits[come]
	return candidate{gone, come, likeness, path.Base(a.Path) == path.Base(b.Path)}
}

// take makes pairs of candidates, the best first.
func (r *renames) take(all []candidate) {
	slices.SortStableFunc(all, func(a, b candidate) int {
		switch {
		case a.likeness != b.likeness:
			return b.likeness - a.likeness
		case a.name != b.name && a.name:
			return -1
		case a.name != b.name:
			return 1
		}
		return 0
	})
	edits := r.c.Edits
	for _, one := range all {
		gone, come := &edits[one.gone], &edits[one.come]
		if gone.Other == "" && come.Other == "" {
			gone.Other, come.Other = come.Path, gone.Path
			come.Likeness = uint8(one.likeness)
		}
	}
	free := func(i int) bool { return edits[i].Other != "" }
	r.gone, r.come = slices.DeleteFunc(r.gone, free), slices.DeleteFunc(r.come, free)
}

// comparable reports whether two edits may be one rename: both come back, or none does.
func (r *renames) comparable(gone, come int) bool {
	return r.c.Edits[gone].Ignored == r.c.Edits[come].Ignored
}

// same pairs files with the same content.
func (r *renames) same(ctx context.Context) error {
	bySize := make(map[int64]bool)
	bySum := make(map[[sparse.Size]byte][]int)
	for _, i := range r.come {
		e := &r.c.Edits[i]
		if bySize[e.NewSize] = true; e.Copies == "" {
			bySum[e.Sum] = append(bySum[e.Sum], i)
		}
	}
	var all []candidate
	left, pairs := int64(maxRenameSummed), 0
	for _, i := range r.gone {
		e := &r.c.Edits[i]
		if left -= e.OldSize; !bySize[e.OldSize] || left < 0 {
			continue
		}
		content, err := r.c.base.Open(e.Path)
		if err != nil {
			return err
		}
		sum, err := sparse.SumOf(ctx, content, e.OldSize)
		if err != nil {
			return err
		}
		for _, j := range bySum[sum] {
			if pairs++; pairs <= maxRenamedPairs && r.comparable(i, j) {
				all = append(all, r.candidate(i, j, 100))
			}
		}
	}
	r.take(all)
	return nil
}

// alike pairs files that have at least half of their content in common.
func (r *renames) alike(ctx context.Context) error {
	if len(r.gone) == 0 || len(r.come) == 0 || len(r.gone) > maxRenamedPairs/len(r.come) {
		return nil
	}
	left := int64(maxRenamedAll)
	print := func(e *workspace.Edit, size int64, open func(*workspace.Edit) (io.ReadCloser, error)) (linediff.Print, error) {
		if size > maxRenamed || size > left {
			return linediff.Print{}, nil
		}
		left -= size
		f, err := open(e)
		if err != nil {
			return linediff.Print{}, err
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, size))
		return linediff.NewPrint(data), err
	}
	prints := make(map[int]linediff.Print)
	for _, list := range []struct {
		edits []int
		old   bool
	}{{r.gone, true}, {r.come, false}} {
		for _, i := range list.edits {
			e := &r.c.Edits[i]
			size, open := e.NewSize, r.c.OpenNew
			if list.old {
				size, open = e.OldSize, r.c.OpenOld
			}
			p, err := print(e, size, open)
			if err != nil {
				return err
			}
			prints[i] = p
		}
	}
	var all []candidate
	pieces := maxRenamedPieces
	for _, i := range r.gone {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		for _, j := range r.come {
			a, b := prints[i], prints[j]
			if a.Len() == 0 || b.Len() == 0 || !r.comparable(i, j) {
				continue
			}
			if pieces -= a.Len() + b.Len(); pieces < 0 {
				break
			}
			if n := a.Alike(b); n >= linediff.MostUnlike {
				all = append(all, r.candidate(i, j, n))
			}
		}
	}
	r.take(all)
	return nil
}
