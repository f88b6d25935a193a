package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// answer is what becomes of a machine's changes.
type answer string

const (
	answerNone     answer = "none" // nothing changed
	answerApply    answer = "yes"
	answerDiscard  answer = "no"
	answerKeep     answer = "keep"
	answerList     answer = "list"
	answerDrop     answer = "drop"
	answerDiff     answer = "diff"
	answerPick     answer = "pick"
	answerConflict answer = "conflict" // applied, but for conflicts
	answerHeld     answer = "held"     // applied, but for what was held back
)

type reviewOptions struct {
	apply    bool // ordinary changes, and all that the selection has
	discard  bool
	ignored  bool // also what git ignores
	branch   bool // make branches of commits only
	rebase   bool // make commits anew on top of the host's
	checkout bool // check out the branch that is made of them
	sign     bool // and sign them
	keep     bool // the machine lives on in any case
	quiesce  bool // end the guest's processes first, so that nothing changes meanwhile
	// attended says that there was somebody to ask when the command began.
	attended bool
	// running has the machine live on: what is not applied is in it.
	running bool

	selection mayfly.Selection
	settings  []string // of git's configuration, to be applied
}

// changed is a machine whose changes can be listed.
type changed interface {
	Name() string
	Changes(ctx context.Context, quiesce bool) (*mayfly.ChangeSet, error)
	ChangesToApply(ctx context.Context, quiesce bool) (*mayfly.ChangeSet, error)
}

// list lists the changes of m, with those that git ignores one by one or as far as an apply
// needs them.
func list(ctx context.Context, m changed, quiesce, ignored bool) (*mayfly.ChangeSet, error) {
	saveMemory()
	if ignored {
		return m.Changes(ctx, quiesce)
	}
	return m.ChangesToApply(ctx, quiesce)
}

// errUnanswered is the error of a question that nobody answers any more.
var errUnanswered = errors.New("the question was not answered")

// review lists the changes of m and applies those of them that are wanted.
func (a *app) review(ctx context.Context, m changed, o reviewOptions) (answer, error) {
	set, err := list(ctx, m, o.quiesce, o.ignored || len(o.selection.Paths) > 0)
	if err != nil {
		return "", err
	}
	defer set.Close()
	if err := arrangeCommits(ctx, set, o); err != nil {
		return "", err
	}
	if len(set.Changes) == 0 && len(set.Repositories) == 0 && set.IgnoredFiles == 0 {
		a.debug("nothing changed in the workspace")
		return answerNone, nil
	}
	set.ApplyIgnored = o.ignored
	if err := set.Review(ctx, mayfly.ReviewOptions{Whole: o.apply || o.attended}); err != nil {
		return "", err
	}
	sel := &o.selection
	sel.Paths = workspacePaths(set, sel.Paths)
	if len(o.settings) > 0 {
		if err := set.PickGitSettings(ctx, o.settings); err != nil {
			return "", err
		}
		sel.Paths = append(sel.Paths, mayfly.GitConfig)
	}
	changes, err := set.Selected(*sel)
	if err != nil {
		return "", err
	}
	committed := len(sel.Paths) == 0 && a.commits(a.Err, set)
	groups := a.overview(a.Err, set, changes, mostOrdinary)
	groups.name(sel.Paths)
	if groups.empty() && !committed {
		if len(sel.Paths) == 0 && !o.discard && refusedCommits(set) {
			return answerConflict, nil
		}
		if len(changes)+set.IgnoredFiles > 0 && !o.keep && !o.running && !o.discard {
			a.note("they go with the machine; mayfly run --keep keeps it, and them")
		}
		return answerNone, nil
	}
	q := questions{a: a, o: &o, name: m.Name(), groups: groups, set: set, changes: changes, committed: committed}
	what, err := q.ask()
	if what == answerPick && err == nil {
		return a.pickOpen(ctx, m, &q)
	}
	if what != answerApply || err != nil {
		return what, err
	}
	sel.Approved = append(q.approved, sel.Paths...) // a path that is named is wanted, whatever its class
	left, err := q.settle(ctx)
	if err != nil {
		return "", err
	}
	what, err = a.applyChanges(ctx, m, set, o.selection, q.dropped)
	if left > 0 && err == nil && what == answerApply {
		what = answerHeld
	}
	return what, err
}

// workspacePaths returns how paths that the user gave are named in the set. One is
// relative to the current directory, if that is in the workspace and something there has
// changed, or to the workspace.
func workspacePaths(set *mayfly.ChangeSet, paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = set.Path(p)
		if here, err := filepath.Abs(p); err == nil && !filepath.IsAbs(p) {
			if _, err := set.Selected(mayfly.Selection{Paths: []string{here}}); err == nil {
				out[i] = set.Path(here)
			}
		}
	}
	return out
}

// applyChanges carries the selected changes out on the host's directory. What was dropped
// is not missed.
func (a *app) applyChanges(ctx context.Context, m changed, set *mayfly.ChangeSet, sel mayfly.Selection, dropped map[string]bool) (answer, error) {
	result, err := set.Apply(ctx, sel)
	// Also after an error: what was done is done.
	if err == nil && result.Of > 0 || result.Applied > 0 {
		a.note("applied %d of %d changes to %s", result.Applied, result.Of, termsafe.Quote(set.Root))
	}
	if result.Applied > 0 && set.Undoable() {
		a.note("mayfly undo %s takes them back", m.Name())
	}
	for _, note := range result.Notes {
		a.note("%s", note)
	}
	for _, conflict := range result.Conflicts {
		a.note("not applied: %s", conflict)
	}
	if err != nil {
		return "", err
	}
	refused := len(sel.Paths) == 0 && !sel.FilesOnly && !a.landed(set, m.Name())
	held := slices.DeleteFunc(result.Held, func(c mayfly.Change) bool { return dropped[c.Path] })
	a.heldBack(held)
	switch {
	case refused, len(result.Conflicts) > 0:
		return answerConflict, nil
	case len(held) > 0:
		a.note(heldHint, m.Name(), m.Name())
		return answerHeld, nil
	}
	return answerApply, nil
}

// heldHint says what can be done about what was held back.
const heldHint = "what was held back is in the machine: mayfly diff %s lists it, mayfly apply %s PATH applies it"

// mostHeld is how many changes that were held back are named.
const mostHeld = 10

// heldBack names changes that were held back.
func (a *app) heldBack(changes []mayfly.Change) {
	for _, c := range changes[:min(mostHeld, len(changes))] {
		a.note("held back: %s", words.Held(c))
	}
	if n := len(changes) - mostHeld; n > 0 {
		a.note("held back: %d more", n)
	}
}

// held is the exit code of what was held back.
func held(what answer) error {
	switch what {
	case answerConflict:
		return exitCode(exitError)
	case answerHeld:
		return exitCode(exitHeld)
	}
	return nil
}

// groups are changes by what is asked of them.
type groups struct {
	ordinary []mayfly.Change
	builds   []mayfly.Change
	alone    []mayfly.Change // each is asked about by itself
	withheld []mayfly.Change // never come back, and somebody may want to know
}

func (g *groups) empty() bool { return g.count() == 0 }

func (g *groups) count() int {
	return len(g.ordinary) + len(g.builds) + len(g.alone) + len(g.withheld)
}

// name has no questions asked about changes whose own paths the user gave: who names one
// wants it.
func (g *groups) name(paths []string) {
	for _, group := range []*[]mayfly.Change{&g.builds, &g.alone} {
		*group = slices.DeleteFunc(*group, func(c mayfly.Change) bool {
			named := slices.Contains(paths, c.Path)
			if named {
				g.ordinary = append(g.ordinary, c)
			}
			return named
		})
	}
}

// take adds changes. There may be very many.
func (g *groups) take(changes []mayfly.Change) {
	counts := make(map[*[]mayfly.Change]int)
	for i := range changes {
		counts[g.of(&changes[i])]++
	}
	for group, n := range counts {
		switch {
		case group != nil && n == len(changes) && *group == nil:
			*group = slices.Clip(changes)
			return
		case group != nil:
			*group = slices.Grow(*group, n)
		}
	}
	for i := range changes {
		if group := g.of(&changes[i]); group != nil {
			*group = append(*group, changes[i])
		}
	}
}

// of returns the group of a change, nil for none.
func (g *groups) of(c *mayfly.Change) *[]mayfly.Change {
	switch {
	case c.Withheld && (c.Class == mayfly.Ordinary || c.Class == ""):
		return nil
	case c.Withheld:
		return &g.withheld
	case c.Alone():
		return &g.alone
	case c.Class == mayfly.Builds:
		return &g.builds
	}
	return &g.ordinary
}

// plural returns the words for a number.
func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return fmt.Sprintf(many, n)
}
