package mayfly

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/commits"
	"github.com/mayfly-vm/mayfly/internal/engine"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// SyncOptions say how changes of the user's directory get into a machine.
type SyncOptions struct {
	// DryRun only finds out what would be sent.
	DryRun bool
	// Merge gives the machine both changes of texts that both sides changed. Where they
	// touch, it gets both between lines of markers. It does nothing with DryRun.
	Merge bool
}

// MergedFile is a text in a machine that has the changes of both sides now.
type MergedFile struct {
	Path string `json:"path"`
	// Conflicts is the number of places where both changed the same; both are in the text.
	Conflicts int `json:"conflicts"`
}

// Synced is a path that is in a machine as it is in the user's directory now.
type Synced struct {
	Op   string `json:"op"` // "A" added, "M" modified or "D" deleted
	Path string `json:"path"`
	Kind string `json:"kind,omitempty"` // "directory", or empty
}

// String returns the path on one line, fit to be printed.
func (s Synced) String() string {
	name := termsafe.Quote(s.Path)
	if s.Kind != "" {
		name += "/"
	}
	return s.Op + "  " + name
}

// SyncedCommits are commits of a branch of the user's in the machine's copy of the repository.
// Nothing that the machine has checked out or committed is changed.
type SyncedCommits struct {
	Branch string `json:"branch"`
	Count  int    `json:"count"`
	// Ref is where the machine has them, such as mayfly/host/main.
	Ref string `json:"ref"`
}

// SyncResult is what became of a sync.
type SyncResult struct {
	Sent   []Synced     `json:"sent"`
	Merged []MergedFile `json:"merged"`
	// Commits are branches of the user's that have commits which were new to the machine.
	Commits []SyncedCommits `json:"commits"`
	// Conflicts were left alone in the machine: it has changed them, too.
	Conflicts []Conflict `json:"conflicts"`
	// Notes are what could not be sent, or was left out.
	Notes []string `json:"notes"`
}

// Sync sends into the machine what was changed in the directory of its workspace since it
// was copied, or sent the last time. What the machine has changed itself is a conflict and
// stays as it is there. What was sent is no change of the machine's. What was done is
// returned also when there is an error.
func (m *Machine) Sync(ctx context.Context, o SyncOptions) (SyncResult, error) {
	s, err := m.m.NewSync()
	if err != nil {
		return SyncResult{}, public(err)
	}
	res, err := s.Run(ctx, engine.SyncOptions{DryRun: o.DryRun, Merge: o.Merge})
	return newSyncResult(res), public(err)
}

// WatchSync syncs at once, and whenever something changes in the directory, until ctx or the
// machine ends, which is no error; it reports whether the machine did. each is called with
// what became of each batch of changes: what was sent, and conflicts that are new. DryRun is
// of no account.
func (m *Machine) WatchSync(ctx context.Context, o SyncOptions, each func(SyncResult) error) (machineEnded bool, err error) {
	s, err := m.m.NewSync()
	if err != nil {
		return false, public(err)
	}
	ended, err := s.Watch(ctx, engine.SyncOptions{Merge: o.Merge}, func(res engine.SyncResult) error { return each(newSyncResult(res)) })
	return ended, public(err)
}

func newSyncResult(res engine.SyncResult) SyncResult {
	out := SyncResult{
		Sent: convert(res.Sent, func(s engine.Synced) Synced {
			kind := ""
			if s.Dir {
				kind = workspace.Dir.String()
			}
			return Synced{s.Op.String(), s.Path, kind}
		}),
		Commits: convert(slices.DeleteFunc(slices.Clone(res.Given), func(g commits.Given) bool { return g.Count == 0 }), func(g commits.Given) SyncedCommits {
			return SyncedCommits{g.Name, g.Count, strings.TrimPrefix(g.Ref, "refs/")}
		}),
		Merged:    convert(res.Merged, func(f engine.Merged) MergedFile { return MergedFile(f) }),
		Conflicts: convert(res.Conflicts, func(c workspace.Conflict) Conflict { return Conflict(c) }),
		Notes:     convert(res.Notes, workspace.Note.String),
	}
	if res.MoreNotes > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("%d more like these", res.MoreNotes))
	}
	return out
}
