package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// syncOptions are the flags of mayfly sync.
type syncOptions struct {
	dryRun bool
	watch  bool
	merge  bool
}

func (a *app) syncCommand() *cobra.Command {
	var o syncOptions
	cmd := &cobra.Command{
		Use:   "sync NAME",
		Short: "Send your newer edits into a running machine",
		Long: `Send into a running machine what you changed in the directory of its workspace
since it was copied, or since the last sync. The machine keeps running.

A file that the machine changed, too, is a conflict: mayfly leaves it alone in
the machine and reports it, and the exit code is 1. What was sent is no change
of the machine: mayfly diff and mayfly apply leave it out.

With --merge, a text that both changed gets both changes in the machine, and is
not touched here. Where they touch, both are there between <<<<<<< and >>>>>>>
lines, and the exit code is 1.

Files come with the time of the sync, so that build tools see that they are new.
What is excluded from the copy is not sent. Files that git ignores are. Of .git,
only commits are sent: the machine has those of your branch main as
mayfly/host/main. What it has checked out or committed itself stays.

With --watch, mayfly goes on and sends each edit, until you press Ctrl-C or the
machine ends. With --json as well, each batch is an object on a line of its own.`,
		Example: `  mayfly sync web
  mayfly sync web --watch
  mayfly sync web --merge
  mayfly sync web --dry-run`,
		Args:              takes(1, 1),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.watch && o.dryRun {
				return usageError{errors.New("--watch and --dry-run exclude each other")}
			}
			if o.merge && o.dryRun {
				return usageError{errors.New("--merge and --dry-run exclude each other")}
			}
			if o.watch {
				return a.watchSync(cmd.Context(), args[0], o)
			}
			return a.sync(cmd.Context(), args[0], o)
		},
	}
	a.jsonFlag(cmd)
	cmd.Flags().BoolVarP(&o.dryRun, "dry-run", "n", false, "list what would be sent, and send nothing")
	cmd.Flags().BoolVar(&o.merge, "merge", false, "merge texts that both sides changed, in the machine")
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "go on, and send each edit")
	return cmd
}

func (a *app) sync(ctx context.Context, name string, o syncOptions) error {
	m, err := a.machine(ctx, name)
	if err != nil {
		return err
	}
	res, err := m.Sync(ctx, mayfly.SyncOptions{DryRun: o.dryRun, Merge: o.merge})
	if a.json && err == nil {
		err = a.printJSON(res)
	} else {
		a.synced(name, res, o, err)
	}
	marked := slices.ContainsFunc(res.Merged, func(f mayfly.MergedFile) bool { return f.Conflicts > 0 })
	if err == nil && (marked || len(res.Conflicts) > 0) {
		err = exitCode(exitError)
	}
	return err
}

// merged tells of texts that were merged.
func (a *app) merged(res mayfly.SyncResult) {
	for _, f := range res.Merged {
		text := "merged in the machine: " + termsafe.Quote(f.Path)
		if f.Conflicts > 0 {
			text += plural(f.Conflicts, ", with 1 conflict between markers", ", with %d conflicts between markers")
		}
		a.note("%s", text)
	}
}

// given tells of commits that the machine has now, or would have.
func (a *app) given(name string, res mayfly.SyncResult, dry bool) {
	for i, c := range res.Commits {
		if i == mostBatch {
			a.note("commits of %s", plural(len(res.Commits)-i, "1 more branch", "%d more branches"))
			return
		}
		count := plural(c.Count, "1 commit", "%d commits")
		if dry {
			a.note("%s of %s would be sent to %s", count, termsafe.Quote(c.Branch), name)
			continue
		}
		a.note("%s of %s: %s in %s, whose own branches stay", count, termsafe.Quote(c.Branch), termsafe.Quote(c.Ref), name)
	}
}

// watchSync sends what changes until the user or the machine ends that.
func (a *app) watchSync(ctx context.Context, name string, o syncOptions) error {
	m, err := a.machine(ctx, name)
	if err != nil {
		return err
	}
	if !a.json {
		a.note("what you edit is sent to %s; Ctrl-C ends that", name)
	}
	ended, err := m.WatchSync(ctx, mayfly.SyncOptions{Merge: o.merge}, func(res mayfly.SyncResult) error {
		if a.json {
			return writeJSON(a.Out, res, "")
		}
		a.batch(name, res)
		return nil
	})
	if err == nil && ended {
		a.note("%s has ended", name)
	}
	return err
}

// batch tells of one batch of a watch: what was sent on one line.
func (a *app) batch(name string, res mayfly.SyncResult) {
	if n := len(res.Sent); n > 0 {
		line := res.Sent[0].String()
		for i, s := range res.Sent[1:] {
			if i == mostBatch-1 {
				line += fmt.Sprintf(", and %d more", n-mostBatch)
				break
			}
			line += ", " + s.String()
		}
		fmt.Fprintf(a.Out, "%s  %s\n", time.Now().Format(time.TimeOnly), line)
	}
	a.merged(res)
	a.given(name, res, false)
	for _, note := range res.Notes {
		a.note("%s", note)
	}
	for _, c := range res.Conflicts {
		a.note("not sent: %s", c)
	}
}

// mostBatch is how many paths of a batch are named.
const mostBatch = 3

// mostSynced is how many paths that were sent are named.
const mostSynced = 20

// synced tells what became of a sync, which ended with an error or without one.
func (a *app) synced(name string, res mayfly.SyncResult, o syncOptions, err error) {
	for i, s := range res.Sent {
		if i == mostSynced && !o.dryRun {
			fmt.Fprintf(a.Out, "and %d more\n", len(res.Sent)-i)
			break
		}
		fmt.Fprintln(a.Out, s)
	}
	a.merged(res)
	for _, note := range res.Notes {
		a.note("%s", note)
	}
	for _, c := range res.Conflicts {
		a.note("not sent: %s", c)
	}
	switch n := len(res.Sent); {
	case n == 0 && len(res.Conflicts)+len(res.Merged)+len(res.Commits) == 0 && err == nil:
		a.note("%s has all that is in your directory", termsafe.Quote(name))
	case n > 0 && o.dryRun:
		a.note("%s would be sent to %s", plural(n, "1 path", "%d paths"), name)
	case n > 0:
		a.note("sent %s to %s", plural(n, "1 path", "%d paths"), name)
	}
	a.given(name, res, o.dryRun)
	if len(res.Conflicts) > 0 {
		a.note("mayfly diff %s --patch PATH shows what the machine changed", name)
	}
}
