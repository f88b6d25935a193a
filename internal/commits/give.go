package commits

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/gitrun"
	"github.com/mayfly-vm/mayfly/internal/workspace/repository"
)

// The references of a machine that commits of the user's get. They are nobody's branch: what
// the machine has checked out, and its own commits, stay.
const (
	GivenBranches = "refs/mayfly/host/"    // the user's branches
	GivenRemotes  = "refs/mayfly/remotes/" // what the user has fetched
	remotePrefix  = "refs/remotes/"
)

// Gift is commits of the user's that a machine's copy of the repository lacks.
type Gift struct {
	Branches []Given
	Gone     []string // references of such a kind whose branches the user has no more
	More     bool     // there are more of them than go at once

	not []string // commits that the machine has
}

// Given is one reference of a Gift.
type Given struct {
	Name  string // of the user's branch, without refs/heads/ or refs/remotes/
	Ref   string // of the machine
	Tip   string
	Count int // of commits that no reference of the machine reaches
}

// Bounds of a gift.
const (
	maxGiven      = 200     // references at once, the latest first; the others come the next time
	maxGivenCount = 1_000   // commits of one that are counted
	maxMissing    = 100_000 // commits of all that are counted
)

// Give finds out what a machine lacks whose references are has: its word, which decides only
// what is not sent. Of a repository that was not copied as a whole it gets what is checked out,
// and the references carried with the copy; of another one, all: carried is nil.
func (r *Repository) Give(ctx context.Context, has []Ref, carried map[string]bool) (*Gift, error) {
	g := &Gift{}
	theirs, err := g.has(ctx, r, has)
	if err != nil {
		return nil, err
	}
	ours, err := r.givable(ctx)
	if err != nil {
		return nil, err
	}
	head, err := r.head(ctx)
	if err != nil {
		return nil, err
	}
	if head.Branch == "" && head.ID != "" {
		ours = slices.Insert(ours, 0, givable{headRef, Given{Name: headRef, Ref: GivenBranches + headRef, Tip: head.ID}})
	}
	known := make(map[string]bool)
	ours = slices.DeleteFunc(ours, func(b givable) bool {
		known[b.Ref] = true
		return theirs[b.Ref] == b.Tip || theirs[b.Ref] == "" && theirs[b.original] == b.Tip ||
			carried != nil && !carried[b.original] && b.original != branchPrefix+head.Branch && b.original != headRef
	})
	count, err := r.missing(ctx, ours, g.not)
	if err != nil {
		return nil, err
	}
	for _, b := range ours {
		if b.Count = count(b.Tip); b.Count == 0 && theirs[b.Ref] == "" {
			continue // the machine only went on from it
		}
		if g.More = len(g.Branches) == maxGiven; g.More {
			break
		}
		g.Branches = append(g.Branches, b.Given)
	}
	for ref := range theirs {
		if (strings.HasPrefix(ref, GivenBranches) || strings.HasPrefix(ref, GivenRemotes)) && !known[ref] {
			g.Gone = append(g.Gone, ref)
		}
	}
	slices.Sort(g.Gone)
	return g, nil
}

// has returns what the references of a machine name, and takes down the commits of the user's
// among these.
func (g *Gift) has(ctx context.Context, r *Repository, refs []Ref) (map[string]string, error) {
	theirs := make(map[string]string)
	var ids []string
	for _, ref := range refs {
		if isID(ref.ID, r.format) {
			theirs[ref.Name] = ref.ID
			ids = append(ids, ref.ID)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	known, err := r.hasCommits(ctx, r.cmd(), ids)
	if err != nil {
		return nil, err
	}
	for i, id := range ids {
		if known[i] {
			g.not = append(g.not, id)
		}
	}
	return theirs, nil
}

// givable is a reference of the user's that a machine may get.
type givable struct {
	original string // its name
	Given
}

// givable returns the user's branches and remote branches, the latest first.
func (r *Repository) givable(ctx context.Context) (all []givable, err error) {
	out, err := r.git(ctx, "for-each-ref", "--sort=-creatordate", "--format=%(objecttype) %(objectname) %(refname) %(symref)", "refs/heads", "refs/remotes")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != "commit" || !isID(fields[1], r.format) || OfMachine(fields[2]) {
			continue // what is of this machine or of another one, too
		}
		name, ref := strings.TrimPrefix(fields[2], remotePrefix), GivenRemotes
		if branch, ok := strings.CutPrefix(fields[2], branchPrefix); ok {
			name, ref = branch, GivenBranches
		}
		all = append(all, givable{fields[2], Given{Name: name, Ref: ref + name, Tip: fields[1]}})
	}
	return all, nil
}

// missing finds the commits that references reach and not does not, by one git for all of them,
// and returns what counts those of a tip.
func (r *Repository) missing(ctx context.Context, refs []givable, not []string) (count func(tip string) int, err error) {
	if len(refs) == 0 {
		return func(string) int { return 0 }, nil
	}
	tips := make([]string, len(refs))
	for i, b := range refs {
		tips[i] = b.Tip
	}
	parents := make(map[string][]string)
	many := false
	c := r.cmd("rev-list", "--parents", "--stdin")
	c.Stdin = strings.NewReader(revisions(tips, not))
	c.Stdout = &records{end: '\n', each: func(line string) error {
		if many = len(parents) == maxMissing; many {
			return errors.New("too many")
		}
		ids := strings.Fields(line)
		parents[ids[0]] = ids[1:]
		return nil
	}}
	if err := gitrun.Run(ctx, c); err != nil && !many {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, unfit("git rev-list: %s", gitrun.Reason(err))
	}
	return func(tip string) int {
		if many { // there may be more of it than are known
			return maxGivenCount
		}
		found := make(map[string]bool)
		for next := []string{tip}; len(next) > 0 && len(found) < maxGivenCount; {
			id := next[len(next)-1]
			next = next[:len(next)-1]
			if above, ok := parents[id]; ok && !found[id] {
				found[id] = true
				next = append(next, above...)
			}
		}
		return len(found)
	}, nil
}

func revisions(tips, not []string) string {
	var b strings.Builder
	for _, id := range tips {
		b.WriteString(id + "\n")
	}
	for _, id := range not {
		b.WriteString("^" + id + "\n")
	}
	return b.String()
}

// Empty reports whether the machine has all of it.
func (g *Gift) Empty() bool { return len(g.Branches)+len(g.Gone) == 0 }

// Tips returns what its references name, and whether there is a pack to send first.
func (g *Gift) Tips() (tips []string, pack bool) {
	for _, b := range g.Branches {
		tips = append(tips, b.Tip)
		pack = pack || b.Count > 0
	}
	return tips, pack
}

// Pack writes a pack of what the machine lacks. It may build on what that has.
func (r *Repository) Pack(ctx context.Context, g *Gift, w io.Writer, limits Limits) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limits.Time, unfit("git did not pack commits in %v", limits.Time))
	defer cancel()
	tips, _ := g.Tips()
	c := r.cmd("pack-objects", "--revs", "--thin", "--stdout", "--delta-base-offset", "--quiet")
	c.Stdin = strings.NewReader(revisions(tips, g.not))
	c.Stdout = &limitedPack{w, limits.Bundle}
	if err := gitrun.Run(ctx, c); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return unfit("git pack-objects: %s", gitrun.Reason(err))
	}
	return nil
}

type limitedPack struct {
	w    io.Writer
	left int64
}

func (l *limitedPack) Write(p []byte) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		return 0, errors.New("the commits are too large")
	}
	return l.w.Write(p)
}

// Works reports whether a directory is in the working tree of a repository.
func Works(dir string) bool {
	_, ok := repository.Locate(dir)
	return ok
}

// State says what is checked out and where branches are, to be compared with what it was.
func (r *Repository) State(ctx context.Context) (string, error) {
	head, err := r.headText()
	if err != nil {
		return "", err
	}
	refs, err := r.git(ctx, "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/remotes")
	return head + "\n" + refs, err
}
