package workspace

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// together returns edits without renames of files of which one half cannot be applied: then
// the other stays as well.
func (a *applier) together(ctx context.Context, edits []*Edit) ([]*Edit, error) {
	halves := make(map[string]*Edit)
	for _, e := range edits {
		if e.Other != "" {
			halves[e.Path] = e
		}
	}
	if len(halves) == 0 {
		return edits, nil
	}
	blocked := make(map[*Edit]string)
	for _, e := range edits {
		if e.Other == "" || halves[e.Other] == nil {
			continue
		}
		why, err := a.blocked(ctx, e)
		if err != nil {
			return nil, err
		}
		if why != "" {
			blocked[e] = why
			if other := halves[e.Other]; blocked[other] == "" {
				blocked[other] = "the file that it was renamed from or to cannot be applied"
			}
		}
	}
	left := make([]*Edit, 0, len(edits))
	for _, e := range edits {
		if why := blocked[e]; why != "" {
			a.conflict(e, why)
			continue
		}
		left = append(left, e)
	}
	return left, nil
}

// blocked says why an edit would be a conflict, "" if it would not.
func (a *applier) blocked(ctx context.Context, e *Edit) (string, error) {
	parent, name := splitPath(e.Path)
	dir, err := openBeneath(a.root, parent, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ELOOP) {
		return conflictSymlink.Error(), nil
	}
	if err != nil {
		return "", nil // it is still to be made, or is gone
	}
	defer unix.Close(dir)
	now, err := look(dir, name)
	if err != nil {
		return "", nil
	}
	old, err := a.old(e)
	if err != nil {
		return "", err
	}
	_, err = a.check(ctx, dir, name, now, old, e)
	if why, ok := errors.AsType[conflictError](err); ok {
		return why.Error(), nil
	}
	return "", ctx.Err()
}
