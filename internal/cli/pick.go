package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// errNobody is the error of --patch where nobody answers.
var errNobody = usageError{errors.New("--patch asks about each change, and there is no terminal to ask on")}

// picker asks about changes one by one, and about files hunk by hunk, as git add --patch.
type picker struct {
	a   *app
	set *mayfly.ChangeSet

	approved []string // paths of what is wanted, or of which a part is
	parts    []mayfly.Pick
	left     int // changes that are not wanted, or not as a whole
	refused  []string
	quit     bool
}

// applyPatch applies what the user picks of the changes of m.
func (a *app) applyPatch(ctx context.Context, m changed, o reviewOptions) (answer, error) {
	if !o.attended {
		return "", errNobody
	}
	set, err := list(ctx, m, false, o.ignored || len(o.selection.Paths) > 0)
	if err != nil {
		return "", err
	}
	defer set.Close()
	if err := arrangeCommits(ctx, set, o); err != nil {
		return "", err
	}
	set.ApplyIgnored = o.ignored
	if err := set.Review(ctx, mayfly.ReviewOptions{Whole: true}); err != nil {
		return "", err
	}
	sel := o.selection
	sel.Paths = workspacePaths(set, sel.Paths)
	changes, err := set.Selected(sel)
	if err != nil {
		return "", err
	}
	s := picking{settings: slices.ContainsFunc(changes, isGitConfig)}
	s.changes = slices.DeleteFunc(changes, func(c mayfly.Change) bool {
		return !pickable(c) || len(sel.Classes) > 0 && !slices.Contains(sel.Classes, c.Class)
	})
	s.commits = len(sel.Paths) == 0 && a.commits(a.Err, set)
	sel.FilesOnly = !s.commits
	if len(s.changes) == 0 && !s.commits && !s.settings {
		a.note("nothing to pick: your directory has all of it")
		return answerNone, nil
	}
	what, _, err := a.pick(ctx, m, set, sel, s)
	return what, err
}

// pickable reports whether somebody can pick a change, or a part of it.
func pickable(c mayfly.Change) bool { return !c.Withheld && c.Skipped == "" && !c.LeftOut }

// picking is what there is to pick.
type picking struct {
	changes  []mayfly.Change
	commits  bool     // there are some whose fate is open
	settings bool     // there are some of git's
	approved []string // paths of changes that are wanted already
}

// pick asks about each of what there is to pick, and applies what is wanted. It returns whether
// anything is left.
func (a *app) pick(ctx context.Context, m changed, set *mayfly.ChangeSet, sel mayfly.Selection, s picking) (what answer, left bool, err error) {
	p := &picker{a: a, set: set, approved: s.approved}
	if s.commits {
		word, err := p.letter("bring these commits back?", "ynq?", wholeHelp)
		if err != nil {
			return "", false, err
		}
		sel.FilesOnly, p.quit = word != "y", word == "q"
	}
	if err := p.askEach(s.changes); err != nil {
		return "", false, err
	}
	if err := p.join(ctx, s.changes); err != nil {
		return "", false, err
	}
	if s.settings {
		if err := p.askSettings(ctx); err != nil {
			return "", false, err
		}
	}
	what = answerApply
	if len(p.approved) > 0 || !sel.FilesOnly {
		sel.Only, sel.Classes, sel.Approved = true, nil, p.approved
		if what, err = a.applyChanges(ctx, m, set, sel, nil); err != nil {
			return "", false, err
		}
	}
	return what, p.leaves(m.Name(), s.commits && sel.FilesOnly), nil
}

// pickOpen has the user pick of what the questions left open, and applies that and what was
// wanted before.
func (a *app) pickOpen(ctx context.Context, m changed, q *questions) (answer, error) {
	sel := q.o.selection
	s := picking{changes: q.open, settings: slices.ContainsFunc(q.withheld, isGitConfig), approved: append(q.approved, sel.Paths...)}
	if q.first {
		s.commits = q.committed
	} else {
		for _, c := range q.ordinary {
			s.approved = append(s.approved, c.Path)
		}
	}
	sel.FilesOnly = !q.committed && !refusedCommits(q.set)
	what, left, err := a.pick(ctx, m, q.set, sel, s)
	if err != nil {
		return "", err
	}
	held := append(q.declined, slices.DeleteFunc(slices.Clone(q.withheld), isGitConfig)...)
	if a.heldBack(held); len(held) > 0 {
		a.note(heldHint, m.Name(), m.Name())
	}
	if what == answerApply && (left || len(held) > 0) {
		what = answerHeld
	}
	return what, nil
}

// leaves says what is left in the machine name, and reports whether anything is.
func (p *picker) leaves(name string, commits bool) bool {
	switch {
	case commits && p.left > 0:
		p.a.note("the commits and %s in the machine: mayfly apply %s -p", plural(p.left, "1 change are left", "%d changes are left"), name)
	case commits:
		p.a.note("the commits are left in the machine: mayfly apply %s -p", name)
	case p.left > 0:
		p.a.note("%s in the machine: mayfly apply %s -p", plural(p.left, "1 change is left", "%d changes are left"), name)
	}
	return commits || p.left > 0
}

// askEach asks about changes.
func (p *picker) askEach(changes []mayfly.Change) error {
	for i, c := range changes {
		if p.quit {
			p.left += len(changes) - i
			break
		}
		if slices.ContainsFunc(p.refused, func(dir string) bool { return strings.HasPrefix(c.Path, dir+"/") }) {
			p.left++
			continue
		}
		if i > 0 {
			fmt.Fprintln(p.a.Err)
		}
		if err := p.ask(c); err != nil {
			return err
		}
	}
	return nil
}

// Help for the letters.
const (
	wholeHelp = "y - apply it\nn - leave it in the machine\nq - leave it and all that follow, and apply what was picked\n? - explain these letters\n"
	hunkHelp  = "y - apply this hunk\nn - leave it in the machine\nq - leave it and all that follow, and apply what was picked\n" +
		"a - apply it and the later hunks of this file\nd - leave it and the later hunks of this file\ns - split it into smaller hunks\n? - explain these letters\n"
)

// letter asks a question whose answers are single letters.
func (p *picker) letter(question, letters, help string) (string, error) {
	for {
		word, err := p.a.askOr(question, strings.Split(letters, ""), "")
		if p.a.hungUp() {
			err = errUnanswered
		}
		if word != "?" || err != nil {
			return word, err
		}
		for line := range strings.Lines(help) {
			if letter, _, _ := strings.Cut(line, " "); strings.Contains(letters, letter) {
				fmt.Fprint(p.a.Err, line)
			}
		}
	}
}

// ask asks about one change.
func (p *picker) ask(c mayfly.Change) error {
	divisible, err := p.set.Divisible(c)
	if err != nil {
		return err
	}
	if !divisible {
		if err := p.a.paged(p.a.Err, func(w io.Writer, paint paint) error { return writePatch(w, paint, p.set, c) }); err != nil {
			return err
		}
		p.reasons(c)
		return p.askWhole(c)
	}
	patch, err := p.set.Patch(c)
	if err != nil {
		return err
	}
	fmt.Fprintln(p.a.Err, p.a.paintFor(p.a.Err).in("1", words.Reviewed(c)))
	p.reasons(c)
	return p.askHunks(c, patch.Hunks)
}

// reasons prints those that a line about the change leaves out.
func (p *picker) reasons(c mayfly.Change) {
	for _, f := range c.Rules[min(1, len(c.Rules)):] {
		p.a.note("%s: %s", termsafe.Quote(c.Path), words.Finding(f))
	}
}

// askWhole asks about a change that cannot be divided.
func (p *picker) askWhole(c mayfly.Change) error {
	word, err := p.letter("apply "+words.Whole(c)+"?", "ynq?", wholeHelp)
	switch {
	case err != nil:
		return err
	case word == "y":
		p.approved = append(p.approved, c.Path)
		return nil
	}
	if c.Kind == "directory" && c.Op != "D" {
		p.refused = append(p.refused, c.Path) // with what is in it
	}
	p.left++
	p.quit = word == "q"
	return nil
}

// askHunks asks about the new mode and the hunks of a file.
func (p *picker) askHunks(c mayfly.Change, hunks []mayfly.Hunk) error {
	pick := mayfly.Pick{Path: c.Path, Mode: c.Mode == c.OldMode}
	whole := true
	if !pick.Mode {
		word, err := p.letter(fmt.Sprintf("apply the mode %03o, was %03o?", c.Mode, c.OldMode), "ynq?", wholeHelp)
		if err != nil {
			return err
		}
		pick.Mode, p.quit = word == "y", word == "q"
		whole = pick.Mode
	}
	rest := ""
	for i := 0; i < len(hunks); i++ {
		word := rest
		if p.quit {
			word = "n"
		}
		if word == "" {
			var err error
			if word, err = p.askHunk(hunks[i], fmt.Sprintf("(%d/%d)", i+1, len(hunks))); err != nil {
				return err
			}
		}
		switch word {
		case "s":
			hunks = slices.Replace(hunks, i, i+1, hunks[i].Split()...)
			i--
			continue
		case "a":
			rest, word = "y", "y"
		case "d":
			rest = "n"
		case "q":
			p.quit = true
		}
		if word == "y" {
			pick.Hunks = append(pick.Hunks, hunks[i])
		} else {
			whole = false
		}
	}
	switch {
	case whole:
		p.approved = append(p.approved, c.Path)
		return nil
	case len(pick.Hunks) > 0 || pick.Mode && c.Mode != c.OldMode:
		p.parts = append(p.parts, pick)
	}
	p.left++
	return nil
}

func (p *picker) askHunk(h mayfly.Hunk, number string) (string, error) {
	err := p.a.paged(p.a.Err, func(w io.Writer, paint paint) error { return writeHunk(w, paint, h) })
	if err != nil {
		return "", err
	}
	letters := "ynqad?"
	if len(h.Split()) > 1 {
		letters = "ynqads?"
	}
	return p.letter(number+" apply this hunk?", letters, hunkHelp)
}

// join has the set be what was picked. A part that is graver than what was shown is asked
// about once more.
func (p *picker) join(ctx context.Context, shown []mayfly.Change) error {
	if len(p.parts) == 0 {
		return nil
	}
	if err := p.set.Pick(ctx, p.parts); err != nil {
		return err
	}
	for _, part := range p.parts {
		is := func(c mayfly.Change) bool { return c.Path == part.Path }
		now, before := p.set.Changes[slices.IndexFunc(p.set.Changes, is)], shown[slices.IndexFunc(shown, is)]
		if grave(now) > grave(before) {
			err := p.a.paged(p.a.Err, func(w io.Writer, paint paint) error {
				fmt.Fprintln(w, "\nWhat you picked is not like the whole change:")
				return writePatch(w, paint, p.set, now)
			})
			if err != nil {
				return err
			}
			p.reasons(now)
			word, err := p.letter("apply this part of "+termsafe.Quote(now.Path)+"?", "yn?", wholeHelp)
			if err != nil {
				return err
			}
			if word != "y" {
				continue
			}
		}
		p.approved = append(p.approved, part.Path)
	}
	return nil
}

// askSettings asks about settings of git's one by one.
func (p *picker) askSettings(ctx context.Context) error {
	list, err := p.set.GitSettings()
	if err != nil {
		return err
	}
	var keys []string
	for _, s := range list {
		if p.quit || s.Never != "" {
			continue
		}
		p.a.note("%s", words.GitSetting(s))
		word, err := p.letter("apply "+termsafe.Quote(s.Key)+" to "+mayfly.GitConfig+"?", "ynq?", wholeHelp)
		if err != nil {
			return err
		}
		if word == "y" {
			keys = append(keys, s.Key)
		}
		p.quit = word == "q"
	}
	if len(keys) < len(list) {
		p.left++
	}
	if len(keys) == 0 {
		return nil
	}
	p.approved = append(p.approved, mayfly.GitConfig)
	return p.set.PickGitSettings(ctx, keys)
}

// grave returns how grave a change is.
func grave(c mayfly.Change) int {
	n := 2 * slices.Index(mayfly.Classes(), c.Class)
	if c.Alone() {
		n++
	}
	return n
}
