package commits

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
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
	maxGiven      = 200   // references at once, the latest first; the others come the next time
	maxGivenCount = 1_000 // commits of one that are counted
)

// Give finds out what a machine lacks whose references are has: its word, from which no more
// follows than what is not sent. Of a repository that was not copied as a whole it gets what is
// checked out, and the references carried with the copy; of another one, all: carried is nil.
func (r *Repository) Give(ctx context.Context, has []Ref, carried map[string]bool) (*Gift, error) {
	theirs := make(map[string]string)
	var ids []string
	for _, ref := range has {
		if isID(ref.ID, r.format) {
			theirs[ref.Name] = ref.ID
			ids = append(ids, ref.ID)
		}
	}
	known, err := r.hasCommits(ctx, r.cmd(), ids)
	if err != nil {
		return nil, err
	}
	g := &Gift{}
	for i, id := range ids {
		if known[i] && !slices.Contains(g.not, id) {
			g.not = append(g.not, id)
		}
	}
	head, err := r.head(ctx)
	if err != nil {
		return nil, err
	}
	out, err := r.git(ctx, "for-each-ref", "--sort=-creatordate", "--format=%(objecttype) %(objectname) %(refname) %(symref)", "refs/heads", "refs/remotes")
	if err != nil {
		return nil, err
	}
	ours := make(map[string]bool)
	give := func(name, original, ref, tip string) error {
		ours[ref] = true
		if len(g.Branches) == maxGiven || theirs[ref] == tip || theirs[ref] == "" && theirs[original] == tip {
			return nil
		}
		if carried != nil && !carried[original] && original != branchPrefix+head.Branch && original != headRef {
			return nil
		}
		count, err := r.missing(ctx, tip, g.not)
		if err != nil || count == 0 && theirs[ref] == "" { // the machine only went on from it
			return err
		}
		g.Branches = append(g.Branches, Given{name, ref, tip, count})
		return nil
	}
	if head.Branch == "" && head.ID != "" {
		if err := give(headRef, headRef, GivenBranches+headRef, head.ID); err != nil {
			return nil, err
		}
	}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != "commit" || !isID(fields[1], r.format) {
			continue
		}
		name, ref := strings.TrimPrefix(fields[2], remotePrefix), GivenRemotes
		if branch, ok := strings.CutPrefix(fields[2], branchPrefix); ok {
			if strings.HasPrefix(branch, "mayfly/") || strings.HasPrefix(branch, "mayfly-machines/") {
				continue // of this machine or of another one
			}
			name, ref = branch, GivenBranches
		}
		if err := give(name, fields[2], ref+name, fields[1]); err != nil {
			return nil, err
		}
	}
	for ref := range theirs {
		if (strings.HasPrefix(ref, GivenBranches) || strings.HasPrefix(ref, GivenRemotes)) && !ours[ref] {
			g.Gone = append(g.Gone, ref)
		}
	}
	slices.Sort(g.Gone)
	return g, nil
}

// missing counts commits that tip reaches and not does not.
func (r *Repository) missing(ctx context.Context, tip string, not []string) (int, error) {
	c := r.cmd("rev-list", "--count", fmt.Sprintf("--max-count=%d", maxGivenCount), "--stdin")
	c.Stdin = strings.NewReader(revisions([]string{tip}, not))
	out, err := gitrun.Output(ctx, c, 1000)
	if err != nil {
		if ctx.Err() != nil {
			return 0, err
		}
		return 0, unfit("git rev-list: %s", gitrun.Reason(err))
	}
	return strconv.Atoi(out)
}

func revisions(tips, not []string) string {
	text := strings.Join(tips, "\n") + "\n"
	for _, id := range not {
		text += "^" + id + "\n"
	}
	return text
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
