package mayfly

import (
	"context"
	"time"

	"github.com/mayfly-vm/mayfly/internal/commits"
	"github.com/mayfly-vm/mayfly/internal/engine"
)

// Repository is a git repository of the workspace in which a machine committed.
type Repository struct {
	Dir string `json:"dir"` // in the workspace; "." for the workspace itself
	// Refused is why its commits cannot be brought back; "" if they can.
	Refused  string   `json:"refused,omitempty"`
	Branches []Branch `json:"branches,omitempty"`
}

// Branch is a branch with commits that the host's repository lacks. Its names and texts
// are the machine's.
type Branch struct {
	Name     string   `json:"name"` // HEAD for commits that are on no branch
	Tip      string   `json:"tip"`
	Count    int      `json:"count"`              // of commits
	Commits  []Commit `json:"commits"`            // the last ones, newest first
	Files    int      `json:"files"`              // that differ from what the host has checked out
	Worktree string   `json:"worktree,omitempty"` // the directory of the machine where it is checked out
	// Forward says that the host's branch of the same name, which is checked out, goes on, or
	// went on, to these commits. Else Stay says why not.
	Forward bool   `json:"forward,omitempty"`
	Stay    string `json:"stay,omitempty"`
	// Differs is, of one that is Forward, how many files of the commits are not as in the
	// machine's working tree, after a review: what the changes show is not all that was committed.
	Differs int `json:"differs,omitempty"`
	// CheckedOut says that the branch that is made of these commits is checked out; see
	// [ChangeSet.Checkout].
	CheckedOut bool `json:"checked_out,omitempty"`
	// Anew says that the commits were made anew, on top of others or with signatures: the machine
	// has them as it made them.
	Anew bool `json:"anew,omitempty"`
	// Landed is the branch of the host's repository that an Apply made.
	Landed string `json:"landed,omitempty"`
}

// The values of Branch.Stay.
const (
	StayOther    = string(commits.StayOther)    // another branch is checked out on the host
	StayMoved    = string(commits.StayMoved)    // the host's branch has other commits
	StayIndex    = string(commits.StayIndex)    // something that the commits change is staged on the host
	StayBusy     = string(commits.StayBusy)     // a merge, a rebase or another git is not done
	StayOutside  = string(commits.StayOutside)  // files outside of the workspace are changed
	StaySparse   = string(commits.StaySparse)   // the host's index is of a kind that mayfly leaves alone
	StayFiles    = string(commits.StayFiles)    // not all files of the commits were applied
	StayUnwanted = string(commits.StayUnwanted) // as BranchOnly wants it
	StayMerged   = string(commits.StayMerged)   // a rebase merged files that both sides changed
)

// Commit is a commit of a machine, as it describes itself.
type Commit struct {
	ID      string    `json:"id"`
	Subject string    `json:"subject"`
	Author  string    `json:"author"` // "NAME <ADDRESS>"
	Time    time.Time `json:"time"`
	// Flags say what is not as usual: "identity" made by somebody else than who commits in
	// the machine, "signed" by nobody knows whom, "merge", "unrelated" to other commits,
	// from the "future".
	Flags []string `json:"flags,omitempty"`
}

// BranchOnly has Apply make branches of the machine's commits, mayfly/MACHINE/BRANCH, and
// leave the branch that is checked out where it is. What was committed is no change of
// files then. To be called before [ChangeSet.Review].
func (s *ChangeSet) BranchOnly() {
	s.c.BranchOnly()
	s.list()
}

// Checkout has Apply check out the branch that it makes of the commits that the machine has
// checked out, once their files are there. The branch that is checked out on the host stays
// where it is; the commits must build on it. To be called before [ChangeSet.Review].
func (s *ChangeSet) Checkout(ctx context.Context) error {
	err := s.c.Checkout(ctx)
	s.list()
	return public(err)
}

// Rebase makes the machine's commits anew on top of the branch of their name that is checked
// out on the host, where that has other commits by now. The branch then goes on to them in an
// Apply, unless both sides changed the same files: then they are a branch that builds on it.
// Authors and dates stay. If a commit is in conflict with the host's, that is the error, and
// nothing is changed. To be called before [ChangeSet.Review].
func (s *ChangeSet) Rebase(ctx context.Context) error {
	err := s.c.Rebase(ctx)
	s.list()
	return err
}

// Sign has Apply sign the commits that it brings, as the user's own git configuration says. This
// starts the user's program for signatures. Authors and dates stay.
func (s *ChangeSet) Sign() { s.c.Sign = true }

func newRepository(r *engine.Committed) Repository {
	out := Repository{Dir: r.Dir}
	if r.Err != nil {
		out.Refused = r.Err.Error()
	}
	now := time.Now()
	for _, b := range r.Branches {
		branch := Branch{
			Name: b.Name, Tip: b.Tip, Count: b.Count, Files: len(b.Paths), Worktree: r.Worktrees[b.Name],
			Forward: r.Onto == b.Name && !r.Checkout, CheckedOut: r.Onto == b.Name && r.Checkout, Landed: b.Land,
			Anew: b.Tip != b.Sent,
		}
		if r.Onto == b.Name {
			branch.Differs = r.Differs
		} else {
			branch.Stay = string(r.Stay)
		}
		for _, c := range b.Commits {
			branch.Commits = append(branch.Commits, Commit{
				ID: c.ID, Subject: c.Subject, Author: c.Author.Name + " <" + c.Author.Email + ">", Time: c.Committer.Time,
				Flags: convert(c.Flags(r.Identity, now), func(f commits.Flag) string { return string(f) }),
			})
		}
		out.Branches = append(out.Branches, branch)
	}
	return out
}
