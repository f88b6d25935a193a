package cli

import (
	"fmt"
	"io"
	"iter"
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
	ignored, generated := leftOut{files: set.IgnoredFiles, bytes: set.IgnoredBytes}, leftOut{}
	for i := range changes {
		switch c := &changes[i]; {
		case c.LeftOut && c.Ignored:
			ignored.add(c)
		case c.LeftOut:
			generated.add(c)
		}
	}
	all := changes
	if n := ignored.listed + generated.listed; n > 0 {
		all = make([]mayfly.Change, 0, len(changes)-n)
		for i := range changes {
			if !changes[i].LeftOut {
				all = append(all, changes[i])
			}
		}
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
	for _, left := range []struct {
		leftOut
		how string
	}{{ignored, "ignored"}, {generated, "generated"}} {
		if left.files > 0 {
			a.note("%s; not applied (--ignored applies them)", words.LeftOut(left.files, left.bytes, left.how))
		}
	}
	return g
}

// leftOut counts changes that are left out.
type leftOut struct {
	files, listed int
	bytes         int64
}

func (l *leftOut) add(c *mayfly.Change) {
	l.files++
	l.listed++
	if c.Kind == "file" {
		l.bytes += c.Size
	}
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
		n := 0
		for line := range byReason(of, most) {
			if n++; n <= most {
				fmt.Fprintln(w, "  "+line)
			}
		}
		if n > most {
			fmt.Fprintf(w, "  … and %d more lines\n", n-most)
		}
	}
}

// byReason returns changes of a class in lines, of which there may be very many.
func byReason(changes []*mayfly.Change, most int) iter.Seq[string] {
	reason := func(c *mayfly.Change) string {
		if len(c.Rules) == 0 {
			return ""
		}
		return c.Rules[0].Rule
	}
	reasons := make(map[string][]*mayfly.Change)
	if len(changes) > most {
		for _, c := range changes {
			reasons[reason(c)] = append(reasons[reason(c)], c)
		}
	}
	return func(yield func(string) bool) {
		for _, c := range changes {
			same := reasons[reason(c)]
			switch {
			case len(same) <= 2:
				if !yield(words.Reviewed(*c)) {
					return
				}
			case c.Path == same[0].Path:
				if !yield(words.Alike(same)) {
					return
				}
			}
		}
	}
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
