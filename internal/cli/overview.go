package cli

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

const (
	// mostOrdinary changes are shown one by one before a question; more are a tree.
	mostOrdinary = 10
	// mostBranches is the number of lines of that tree.
	mostBranches = 10
	// mostOfClass is how many lines each other class has before a question.
	mostOfClass = 8
)

// overview prints changes, the gravest last, and returns those that would be applied. If
// more than a number of them are ordinary, these are a tree, and of each other class there
// are a few: all of that is on one screen. What is left out since git ignores it, or since tools
// make it, is one line.
func (a *app) overview(w io.Writer, set *mayfly.ChangeSet, changes []mayfly.Change, most int) *groups {
	g := &groups{}
	leftOut := func(c mayfly.Change) bool { return c.LeftOut }
	var ignored, generated []mayfly.Change
	all := changes
	if slices.ContainsFunc(changes, leftOut) {
		all = slices.DeleteFunc(slices.Clone(changes), leftOut)
		ignored = slices.DeleteFunc(slices.Clone(changes), func(c mayfly.Change) bool { return !c.LeftOut || !c.Ignored })
		generated = slices.DeleteFunc(slices.Clone(changes), func(c mayfly.Change) bool { return !c.LeftOut || c.Ignored })
	}
	g.take(all)
	if len(g.ordinary) <= most {
		for _, c := range g.ordinary {
			fmt.Fprintln(w, c)
		}
	} else {
		printTree(w, g.ordinary)
	}
	printClasses(w, max(most, mostOfClass), g.builds, g.alone, g.withheld)
	if len(all) > 0 {
		a.note("%s", words.Changes(all))
	}
	if text := words.Classes(all); text != "" {
		a.note("%s", text)
	}
	if len(all) > 0 && !set.Undoable() {
		a.note("mayfly undo will not be able to take these changes back: they replace more than 1 GiB")
	}
	if len(ignored) > 0 {
		a.note("%s; not applied (--ignored applies them)", words.LeftOut(ignored, "ignored"))
	}
	if len(generated) > 0 {
		a.note("%s; not applied (--ignored applies them)", words.LeftOut(generated, "generated"))
	}
	return g
}

// printClasses prints changes that are not ordinary by their classes. If there are more of
// one than a number, those that have their reason in common are one line.
func printClasses(w io.Writer, most int, groups ...[]mayfly.Change) {
	for _, class := range mayfly.Classes() {
		var of []*mayfly.Change // of which there may be very many
		for _, changes := range groups {
			for i := range changes {
				if changes[i].Class == class {
					of = append(of, &changes[i])
				}
			}
		}
		if class == mayfly.Ordinary || len(of) == 0 {
			continue
		}
		fmt.Fprintf(w, "%s:\n", words.Class(class))
		lines := byReason(of, most)
		for i, line := range lines {
			if i == most {
				fmt.Fprintf(w, "  … and %d more lines\n", len(lines)-most)
				break
			}
			fmt.Fprintln(w, "  "+line)
		}
	}
}

// byReason returns changes of a class in lines.
func byReason(changes []*mayfly.Change, most int) (lines []string) {
	reasons := make(map[string][]*mayfly.Change)
	reason := func(c *mayfly.Change) string {
		if len(c.Rules) == 0 {
			return ""
		}
		return c.Rules[0].Rule
	}
	for _, c := range changes {
		reasons[reason(c)] = append(reasons[reason(c)], c)
	}
	for _, c := range changes {
		same := reasons[reason(c)]
		switch {
		case len(changes) <= most || len(same) <= 2:
			lines = append(lines, words.Reviewed(*c))
		case c.Path == same[0].Path:
			lines = append(lines, words.Alike(same))
		}
	}
	return lines
}

// branch is a directory with what changed in it.
type branch struct {
	dir     string
	changes []mayfly.Change
}

// printTree prints how many changes there are in which directories, in few lines.
func printTree(w io.Writer, changes []mayfly.Change) {
	branches := []branch{{".", changes}}
	for {
		// Open the largest directory that can be, for as long as there is room.
		best := -1
		var opened []branch
		for i, b := range branches {
			if len(b.changes) < 2 || best >= 0 && len(b.changes) <= len(branches[best].changes) {
				continue
			}
			if inner := b.open(); inner != nil && len(branches)-1+len(inner) <= mostBranches {
				best, opened = i, inner
			}
		}
		if best < 0 {
			break
		}
		branches = slices.Replace(branches, best, best+1, opened...)
	}
	for _, b := range branches {
		if len(b.changes) == 1 {
			fmt.Fprintln(w, b.changes[0])
			continue
		}
		name := "in this directory"
		if b.dir != "." {
			name = termsafe.Quote(b.dir) + "/"
		}
		fmt.Fprintf(w, "   %s: %s\n", name, words.Changes(b.changes))
	}
}

// open returns the branches in b, or nil if there is none. What is right in b comes first.
func (b branch) open() []branch {
	here := branch{dir: b.dir}
	var inner []branch
	at := make(map[string]int)
	for _, c := range b.changes {
		name, _, deeper := strings.Cut(strings.TrimPrefix(c.Path, b.dir+"/"), "/")
		if !deeper {
			here.changes = append(here.changes, c)
			continue
		}
		dir := path.Join(b.dir, name)
		i, ok := at[dir]
		if !ok {
			i, at[dir] = len(inner), len(inner)
			inner = append(inner, branch{dir: dir})
		}
		inner[i].changes = append(inner[i].changes, c)
	}
	switch {
	case len(inner) == 0:
		return nil
	case len(here.changes) > 0:
		inner = slices.Insert(inner, 0, here)
	}
	return inner
}
