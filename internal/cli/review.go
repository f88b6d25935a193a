package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

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
	answerConflict answer = "conflict" // applied, but for conflicts
)

type reviewOptions struct {
	apply   bool
	discard bool
	ignored bool // also what git ignores
	keep    bool // the machine lives on in any case
	quiesce bool // end the guest's processes first, so that nothing changes meanwhile
	// attended says that there was somebody to ask when the command began.
	attended bool
}

// changed is a machine whose changes can be listed.
type changed interface {
	Name() string
	Changes(ctx context.Context, quiesce bool) (*mayfly.ChangeSet, error)
}

// mostChanges are shown before a question, without being asked for.
const mostChanges = 40

// errUnanswered is the error of a question that nobody answers any more.
var errUnanswered = errors.New("the question was not answered")

// review lists the changes of m and applies them if that is wanted.
func (a *app) review(ctx context.Context, m changed, o reviewOptions) (answer, error) {
	set, err := m.Changes(ctx, o.quiesce)
	if err != nil {
		return "", err
	}
	defer set.Close()
	if len(set.Changes) == 0 {
		a.debug("nothing changed in the workspace")
		return answerNone, nil
	}
	set.ApplyIgnored = o.ignored
	changes := a.printChanges(a.Err, set, mostChanges)
	if len(changes) == 0 {
		return answerNone, nil
	}
	for !o.apply {
		switch {
		case o.discard || o.keep: // kept, the machine lives on with them
			return answerDiscard, nil
		case a.hungUp(), o.attended && !a.attended():
			return "", errUnanswered
		case !o.attended:
			a.note("nothing was applied; --apply does that, --keep keeps the machine")
			return answerDiscard, nil
		}
		words := []string{string(answerApply), string(answerDiscard), string(answerKeep)}
		if len(changes) > mostChanges {
			words = append(words, string(answerList))
		}
		word, err := a.ask("apply these changes?", words)
		if a.hungUp() {
			err = errUnanswered
		}
		if err != nil {
			return "", err
		}
		switch answer(word) {
		case answerApply:
			o.apply = true
		case answerList:
			a.printChanges(a.Err, set, len(changes))
		default:
			return answer(word), nil
		}
	}
	return a.applyChanges(ctx, set)
}

// printChanges prints the changes that set would apply, at most a number of them, and
// returns all of those. What is left out since git ignores it is one line.
func (a *app) printChanges(w io.Writer, set *mayfly.ChangeSet, most int) (changes []mayfly.Change) {
	var ignored []mayfly.Change
	for _, c := range set.Changes {
		if c.Ignored && !set.ApplyIgnored {
			ignored = append(ignored, c)
		} else {
			changes = append(changes, c)
		}
	}
	for i, c := range changes {
		if i < most {
			fmt.Fprintln(w, c)
		}
	}
	if len(changes) > most {
		fmt.Fprintf(w, "… and %d more\n", len(changes)-most)
	}
	if len(changes) > 0 {
		a.note("%s", words.Changes(changes))
	}
	if len(ignored) > 0 {
		a.note("%s; not applied (--ignored applies them)", words.Ignored(ignored))
	}
	return changes
}

// applyChanges carries all changes out on the host's directory.
func (a *app) applyChanges(ctx context.Context, set *mayfly.ChangeSet) (answer, error) {
	result, err := set.Apply(ctx, mayfly.Selection{Classes: mayfly.Classes()})
	// Also after an error: what was done is done.
	if err == nil || result.Applied > 0 {
		a.note("applied %d of %d changes to %s", result.Applied, result.Of, termsafe.Quote(set.Root))
	}
	for _, note := range result.Notes {
		a.note("%s", note)
	}
	for _, conflict := range result.Conflicts {
		a.note("not applied: %s", conflict)
	}
	switch {
	case err != nil:
		return "", err
	case len(result.Conflicts) > 0:
		return answerConflict, nil
	}
	return answerApply, nil
}
