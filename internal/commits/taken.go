package commits

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/gitrun"
)

// taken returns the first commits of a tip that head does not reach whose changes it has by
// other commits: those that were made anew by an earlier apply, or by the user. The first one
// that it lacks ends them, as what comes after a revert may be the same change once more. What
// is not found out in time, or not by git, is not among them, and stays.
func (im *Import) taken(ctx context.Context, head, tip string) (map[string]bool, error) {
	within, cancel := context.WithTimeout(ctx, im.limits.Compare)
	defer cancel()
	taken := make(map[string]bool)
	first, mine, err := im.alike(within, head, tip)
	if err != nil {
		return nil, context.Cause(ctx)
	}
	tries := 0
	for _, id := range first {
		// One of the user's stands for one. They are mostly in the same order.
		i := slices.IndexFunc(mine, func(other string) bool {
			tries++
			return tries <= maxRewritten && im.replays(within, id, other)
		})
		if i < 0 {
			break
		}
		mine = slices.Delete(mine, i, i+1)
		taken[id] = true
	}
	return taken, context.Cause(ctx)
}

// alike returns commits of tip and of head which the other does not reach, the oldest first,
// that git takes for the same change, whatever blanks it is made of and wherever in a file it is.
// Of tip they are those with none before them that is not.
func (im *Import) alike(ctx context.Context, head, tip string) (first, mine []string, err error) {
	same := make(map[string]bool)
	c := im.cmd("rev-list", "--cherry-mark", "--no-merges", head+"..."+tip)
	c.Stdout = &records{end: '\n', each: func(line string) error {
		if id, ok := strings.CutPrefix(line, "="); ok {
			same[id] = true
		}
		return nil
	}}
	if err := gitrun.Run(ctx, c); err != nil || len(same) == 0 {
		return nil, nil, err
	}
	ended := false
	c = im.cmd("rev-list", "--topo-order", "--reverse", tip, "^"+head)
	c.Stdout = &records{end: '\n', each: func(id string) error {
		if ended = !same[id] || len(first) == maxRewritten; ended {
			return errors.New("there are no more")
		}
		first = append(first, id)
		return nil
	}}
	if err := gitrun.Run(ctx, c); err != nil && !ended || len(first) == 0 {
		return nil, nil, err
	}
	c = im.cmd("rev-list", "--topo-order", "--reverse", head, "^"+tip)
	c.Stdout = &records{end: '\n', each: func(id string) error {
		if same[id] {
			mine = append(mine, id)
		}
		return nil
	}}
	return first, mine, gitrun.Run(ctx, c)
}

// replays reports whether the commit mine is the commit id made anew: with the change of that,
// what there was before mine becomes what mine has.
func (im *Import) replays(ctx context.Context, id, mine string) bool {
	out, err := gitrun.Output(ctx, im.cmd("rev-parse", id+"^", mine+"^^{tree}", mine+"^{tree}"), 1000)
	names := strings.Fields(out)
	if err != nil || len(names) != 3 {
		return false // the beginning of a history
	}
	const nobody = "nobody <nobody@localhost> 0 +0000"
	there, err := im.makeCommit(ctx, fmt.Sprintf("tree %s\nparent %s\nauthor %s\ncommitter %s\n\n", names[1], names[0], nobody, nobody))
	if err != nil {
		return false
	}
	tree, paths, err := im.merge(ctx, there, id)
	return err == nil && len(paths) == 0 && tree == names[2]
}
