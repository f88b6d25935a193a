package cli

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/pflag"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
)

// branchFlag registers --branch, by which commits become branches and nothing else.
func branchFlag(f *pflag.FlagSet, branch *bool) {
	f.BoolVar(branch, "branch", false, "leave your branch where it is: commits become branches mayfly/NAME/BRANCH only")
}

// arrangeCommits has an apply take commits as the user wants them.
func arrangeCommits(ctx context.Context, set *mayfly.ChangeSet, o reviewOptions) error {
	if o.branch {
		set.BranchOnly()
	}
	if o.sign {
		set.Sign()
	}
	switch {
	case o.rebase:
		return set.Rebase(ctx)
	case o.checkout:
		return set.Checkout(ctx)
	}
	return nil
}

// commits prints what was committed in the machine, and returns whether an apply would
// bring any of it.
func (a *app) commits(w io.Writer, set *mayfly.ChangeSet) (some bool) {
	for _, r := range set.Repositories {
		for _, line := range words.Commits(r) {
			fmt.Fprintln(w, line)
		}
		some = some || len(r.Branches) > 0
	}
	if set.GitFiles > 0 {
		a.note("%s", words.GitFiles(set.GitFiles))
	}
	return some
}

// refusedCommits reports whether there are commits that cannot be brought back, which is said
// by commits. Their machine has them alone.
func refusedCommits(set *mayfly.ChangeSet) bool {
	return slices.ContainsFunc(set.Repositories, func(r mayfly.Repository) bool { return r.Refused != "" })
}

// landed says what became of commits, and returns whether all of them are on the host.
func (a *app) landed(set *mayfly.ChangeSet, machine string) bool {
	for _, r := range set.Repositories {
		for _, b := range r.Branches {
			if b.Forward || b.Landed != "" {
				a.note("%s", words.Landed(r, b))
				if line := words.GoOn(machine, r, b); line != "" {
					a.note("%s", line)
				}
			}
		}
	}
	return !refusedCommits(set)
}
