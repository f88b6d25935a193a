package commits

import (
	"context"
	"maps"
	"slices"

	"github.com/mayfly-vm/mayfly/internal/gitrun"
)

// Moved is what an import did to a reference of the user's repository: "" stands for none. That
// of HEAD has the texts of HEAD, "ref: REF" or a commit.
type Moved struct {
	Ref string `json:"ref"`
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`
}

// MaxMoved bounds the references that are taken back.
const MaxMoved = 10 * MaxRefs

// stagedReason is why the index does not go along.
const stagedReason = "you have staged something that its commits change, or another git runs"

// TakeBack makes references what they were before moves, the oldest first, where they still
// are what these made of them or what they were before. The branch that is checked out takes
// the index along; the files must be as before by then. It returns the references that are
// as before now, and those that are not, each with the reason.
func (r *Repository) TakeBack(ctx context.Context, moves []Moved) (back []string, left map[string]string, err error) {
	left = make(map[string]string)
	moves, headBack, why, err := r.takeHeadBack(ctx, moves)
	switch {
	case err != nil:
		return nil, nil, err
	case headBack:
		back = append(back, headRef)
	case why != "":
		left[headRef] = why
	}
	head, err := r.head(ctx)
	if err != nil {
		return nil, nil, err
	}
	now := make(map[string]string)
	for _, m := range moves {
		if checkRef(m.Ref) != nil || m.Old != "" && !isID(m.Old, r.format) || m.New != "" && !isID(m.New, r.format) {
			return nil, nil, unfit("a record of %q", m.Ref)
		}
		if _, ok := now[m.Ref]; ok {
			continue
		}
		id, err := gitrun.Output(ctx, r.cmd("rev-parse", "--verify", "--quiet", m.Ref), 1000)
		if err != nil && !gitrun.Failed(err, 1) {
			return nil, nil, err
		}
		now[m.Ref] = id
	}
	was := maps.Clone(now)
	for _, m := range slices.Backward(moves) {
		switch was[m.Ref] {
		case m.New:
			was[m.Ref] = m.Old
		case m.Old: // it was not carried out, or was taken back
		default:
			left[m.Ref] = "it has other commits now"
		}
	}
	used := r.checkedOut()
	var changes []change
	var undo []func()
	for _, ref := range slices.Sorted(maps.Keys(was)) {
		branch := ref[len(branchPrefix):]
		switch {
		case left[ref] != "":
			continue
		case was[ref] == now[ref]:
			back = append(back, ref)
			continue
		// A branch that Land made may be checked out by now; another that is to go was there
		// without a commit, and is so again.
		case branch == head.Branch && (was[ref] != "" || !OfMachine(ref)):
			if err := r.readTree(ctx, now[ref], was[ref]); err != nil {
				if ctx.Err() != nil {
					return nil, nil, err
				}
				left[ref] = stagedReason
				continue
			}
			undo = append(undo, func() { r.readTree(context.WithoutCancel(ctx), was[ref], now[ref]) })
		case used[branch]:
			left[ref] = "it is checked out"
			continue
		}
		changes = append(changes, change{ref, was[ref], now[ref]})
		back = append(back, ref)
	}
	if err := r.update(ctx, "mayfly: undo", changes); err != nil {
		for _, f := range undo {
			f()
		}
		return nil, nil, err
	}
	if len(undo) > 0 {
		r.refresh(ctx)
	}
	return back, left, nil
}
