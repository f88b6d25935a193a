package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// mostAlone is how many changes are asked about one by one. Who answers more reads none.
const mostAlone = 10

// questions finds out which changes the user wants.
type questions struct {
	a *app
	o *reviewOptions
	*groups
	name      string          // of the machine
	changes   []mayfly.Change // all that was shown
	committed bool            // there are commits to bring back
	set       *mayfly.ChangeSet

	approved []string // paths of changes that are wanted and not ordinary
	dropped  map[string]bool
	declined []mayfly.Change
	open     []mayfly.Change // what is to be picked of; not nil if the user wants that
	first    bool            // and nothing was answered before
	settings []string        // of git's configuration that are wanted
	left     []string        // and that are not, and not dropped
}

// ask asks what flags leave open. The answer is answerApply if something is to be applied,
// or was held back, and answerPick if the user wants to pick of what is open.
func (q *questions) ask() (answer, error) {
	q.dropped = make(map[string]bool)
	if what, err := q.askOrdinary(); what != answerApply || err != nil {
		return what, err
	}
	if !q.o.attended || len(q.o.selection.Classes) > 0 {
		return answerApply, nil
	}
	for _, ask := range []func() error{q.askBuilds, q.askAlone, q.askSettings} {
		if err := ask(); err != nil {
			return "", err
		}
		if q.open != nil {
			return answerPick, nil
		}
	}
	return answerApply, nil
}

// askOrdinary asks whether anything is to be applied, with the ordinary changes as the
// first.
func (q *questions) askOrdinary() (answer, error) {
	for !q.o.apply {
		switch {
		case q.o.discard || q.o.keep: // kept, the machine lives on with them
			return answerDiscard, nil
		case q.a.hungUp(), q.o.attended && !q.a.attended():
			return "", errUnanswered
		case !q.o.attended:
			q.a.note("nothing was applied; --apply applies what is ordinary, --keep keeps the machine")
			return answerDiscard, nil
		case len(q.ordinary) == 0 && !q.committed:
			return answerApply, nil
		}
		choice := []string{string(answerApply), string(answerDiscard), string(answerKeep)}
		if len(q.ordinary) > mostOrdinary {
			choice = append(choice, string(answerList))
		}
		if slices.ContainsFunc(q.changes, pickable) {
			choice = append(choice, string(answerPick))
		}
		choice = append(choice, string(answerDiff))
		question := "apply these changes?"
		if len(q.ordinary) == 0 {
			question = "bring these commits back?"
		} else if len(q.builds)+len(q.alone)+len(q.withheld) > 0 {
			question = "apply " + plural(len(q.ordinary), "the ordinary change?", "the %d ordinary changes?")
		}
		word, err := q.answer(question, choice, "")
		if err != nil {
			return "", err
		}
		switch word {
		case answerApply:
			return answerApply, nil
		case answerList:
			for _, c := range q.ordinary {
				fmt.Fprintln(q.a.Err, c)
			}
		case answerDiff:
			if err := q.show(q.ordinary); err != nil {
				return "", err
			}
		case answerPick:
			q.pick(q.changes)
			q.first = true
			return word, nil
		default:
			return word, nil
		}
	}
	return answerApply, nil
}

// pick leaves changes to be picked of, in the order of the list.
func (q *questions) pick(changes []mayfly.Change) {
	open := make(map[string]bool, len(changes))
	for i := range changes {
		open[changes[i].Path] = true
	}
	q.open = []mayfly.Change{}
	for _, c := range q.changes {
		if pickable(c) && open[c.Path] {
			q.open = append(q.open, c)
		}
	}
}

// answer asks a question that a closed terminal does not answer.
func (q *questions) answer(question string, choice []string, empty answer) (answer, error) {
	word, err := q.a.askOr(question, choice, string(empty))
	if q.a.hungUp() {
		err = errUnanswered
	}
	return answer(word), err
}

// choice returns the answers to whether a change is wanted. With parts, some of it may be.
func (q *questions) choice(parts bool) []string {
	choice := []string{string(answerApply), string(answerDiscard)}
	if parts {
		choice = append(choice, string(answerPick))
	}
	choice = append(choice, string(answerDiff))
	if !q.o.running {
		choice = append(choice, string(answerDrop))
	}
	return choice
}

// decide notes what is wanted of changes.
func (q *questions) decide(word answer, changes []mayfly.Change) {
	for _, c := range changes {
		switch word {
		case answerApply:
			q.approved = append(q.approved, c.Path)
		case answerDrop:
			q.dropped[c.Path] = true
		default:
			q.declined = append(q.declined, c)
		}
	}
}

// askBuilds asks about what runs when the user builds, as one group: all of it was shown.
func (q *questions) askBuilds() error {
	if len(q.builds) == 0 {
		return nil
	}
	if len(q.builds) > mostOfClass {
		printClasses(q.a.Err, len(q.builds), q.builds)
	}
	what := plural(len(q.builds), "1 change that runs when you build?", "%d changes that run when you build?")
	return q.askAbout("apply "+what, q.builds, q.alone)
}

// askAbout asks about changes that are not ordinary, of which rest are open after these. How
// they differ is shown first.
func (q *questions) askAbout(question string, changes, rest []mayfly.Change) error {
	if err := q.preview(changes); err != nil {
		return err
	}
	parts := len(changes) > 1
	if !parts {
		var err error
		if parts, err = q.set.Divisible(changes[0]); err != nil {
			return err
		}
	}
	for {
		word, err := q.answer(question, q.choice(parts), answerDiscard)
		if err != nil {
			return err
		}
		switch word {
		case answerDiff:
		case answerPick:
			q.pick(slices.Concat(changes, rest))
			return nil
		default:
			q.decide(word, changes)
			return nil
		}
		if err := q.show(changes); err != nil {
			return err
		}
	}
}

// show shows how changes differ.
func (q *questions) show(changes []mayfly.Change) error {
	return q.a.paged(q.a.Err, func(w io.Writer, p paint) error { return writePatches(w, p, q.set, changes) })
}

// mostPreview is how many lines of a difference are shown before a question.
const mostPreview = 30

// preview shows how changes differ as far as there is room.
func (q *questions) preview(changes []mayfly.Change) error {
	var text bytes.Buffer
	if err := writePatches(&text, q.a.paintFor(q.a.Err), q.set, changes); err != nil {
		return err
	}
	first, more := firstLines(text.Bytes(), mostPreview)
	if _, err := q.a.Err.Write(first); err != nil {
		return err
	}
	if more > 0 {
		fmt.Fprintf(q.a.Err, "… and %d more lines; \"diff\" shows them\n", more)
	}
	return nil
}

// askAlone asks about the others one by one.
func (q *questions) askAlone() error {
	if len(q.alone) > mostAlone {
		q.a.note("%d changes are to be decided one by one, which is more than the %d that mayfly asks about:", len(q.alone), mostAlone)
		q.a.note("it holds them back; mayfly apply %s -p asks about each", q.name)
		return nil
	}
	for i, c := range q.alone {
		for _, f := range c.Rules[min(1, len(c.Rules)):] { // the first is in its line
			q.a.note("%s: %s", termsafe.Quote(c.Path), words.Finding(f))
		}
		if err := q.askAbout("apply "+termsafe.Quote(c.Path)+"?", []mayfly.Change{c}, q.alone[i+1:]); err != nil || q.open != nil {
			return err
		}
	}
	return nil
}

// askSettings asks about settings of git's one by one: their file never comes back.
func (q *questions) askSettings() error {
	if !slices.ContainsFunc(q.withheld, isGitConfig) {
		return nil
	}
	list, err := q.set.GitSettings()
	if err != nil {
		return err
	}
	if len(list) == mayfly.MostGitSettings {
		q.left = append(q.left, "more settings")
	}
	list = slices.DeleteFunc(list, func(s mayfly.GitSetting) bool { return s.Class == mayfly.Ordinary })
	for i, s := range list {
		if s.Never != "" || i >= mostAlone {
			q.left = append(q.left, s.Key)
			continue
		}
		q.a.note("%s", words.GitSetting(s))
		choice := slices.DeleteFunc(q.choice(false), func(w string) bool { return w == string(answerDiff) })
		word, err := q.answer("apply "+termsafe.Quote(s.Key)+" to "+mayfly.GitConfig+"?", choice, answerDiscard)
		switch {
		case err != nil:
			return err
		case word == answerApply:
			q.settings = append(q.settings, s.Key)
		case word != answerDrop:
			q.left = append(q.left, s.Key)
		}
	}
	if len(list) > 0 && len(q.settings)+len(q.left) == 0 {
		q.dropped[mayfly.GitConfig] = true
	}
	return nil
}

// settle has the set be such that Apply takes the settings that are wanted, and says which
// of the others are held back.
func (q *questions) settle(ctx context.Context) (left int, err error) {
	if len(q.settings) == 0 {
		return 0, nil // then all of the file is
	}
	if err := q.set.PickGitSettings(ctx, q.settings); err != nil {
		return 0, err
	}
	q.o.selection.Approved = append(q.o.selection.Approved, mayfly.GitConfig)
	for _, key := range q.left {
		q.a.note("held back: %s: %s", mayfly.GitConfig, termsafe.Quote(key))
	}
	return len(q.left), nil
}
