package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// diffLive lists what of the changes in live shares the host runs by itself. All others
// are in the user's directory, and nothing is known of them.
func (a *app) diffLive(ctx context.Context, m *mayfly.Machine, paths []string, o diffOptions) error {
	all, err := m.LiveChanges(ctx)
	if err != nil {
		return err
	}
	if len(paths) > 0 {
		if all.Changes, err = liveBelow(all.Changes, paths); err != nil {
			return err
		}
	}
	switch {
	case a.json:
		if all.Changes == nil {
			all.Changes = []mayfly.LiveChange{}
		}
		for i := range all.Changes {
			if c := &all.Changes[i]; o.patch {
				patch, err := c.Patch()
				if err != nil {
					return err
				}
				c.Hunks = patch.Hunks
			}
		}
		return a.printJSON(all.Changes)
	case o.nameOnly:
		for _, c := range all.Changes {
			fmt.Fprintln(a.Out, termsafe.Quote(filepath.Join(c.Dir, c.Path)))
		}
		return nil
	case o.patch && len(all.Changes) > 0:
		err = a.paged(a.Out, func(w io.Writer, p paint) error { return writeLive(w, p, all.Changes) })
	case o.stat && len(all.Changes) > 0:
		changes := make([]mayfly.Change, len(all.Changes))
		for i, c := range all.Changes {
			changes[i] = c.Change
			changes[i].Path = filepath.Join(c.Dir, c.Path)
		}
		err = writeStat(a.Out, changes, func(i int) (mayfly.Patch, error) { return all.Changes[i].Patch() })
	default:
		a.listLive(all)
	}
	if err != nil {
		return err
	}
	a.note("%s", beyond(len(all.Changes), inRepository(m.Plan().Workspace)))
	return nil
}

// beyond says where the changes are that a list of n changes in live shares does not have, in a
// workspace that may be in a repository of git's.
func beyond(n int, repository bool) string {
	switch {
	case n > 0 && repository:
		return "all other changes are in your directory already; look at these before you run git there"
	case n > 0:
		return "all other changes are in your directory already"
	case repository:
		return "no file changed that this computer runs by itself; all other changes are in your directory already: git diff there shows them"
	}
	return "no file changed that this computer runs by itself; all other changes are in your directory already"
}

// inRepository reports whether git would take a directory for one of a repository.
func inRepository(dir string) bool {
	for {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			return true
		}
		if dir == filepath.Dir(dir) {
			return false
		}
		dir = filepath.Dir(dir)
	}
}

// writeLive prints how files in live shares differ from what they were.
func writeLive(w io.Writer, p paint, changes []mayfly.LiveChange) error {
	for i, c := range changes {
		if i > 0 {
			fmt.Fprintln(w)
		}
		patch, err := c.Patch()
		if err == nil {
			err = writeLines(w, p, c.Change, patch)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// liveBelow returns the changes at paths of the host or below.
func liveBelow(all []mayfly.LiveChange, paths []string) (chosen []mayfly.LiveChange, err error) {
	for _, c := range all {
		at := filepath.Join(c.Dir, c.Path)
		in := func(p string) bool {
			full, absErr := filepath.Abs(p)
			err = errors.Join(err, absErr)
			return at == full || strings.HasPrefix(at, full+"/")
		}
		if slices.ContainsFunc(paths, in) {
			chosen = append(chosen, c)
		}
	}
	return chosen, err
}

// listLive prints changes in live shares, by directory and class.
func (a *app) listLive(all mayfly.LiveChanges) {
	for _, dir := range all.Partly {
		a.note("not all of %s was watched: it has too many files, or a directory that cannot be listed now", termsafe.Quote(dir))
	}
	byDir := make(map[string][]mayfly.Change)
	var dirs []string
	for _, c := range all.Changes {
		if byDir[c.Dir] == nil {
			dirs = append(dirs, c.Dir)
		}
		byDir[c.Dir] = append(byDir[c.Dir], c.Change)
	}
	for _, dir := range dirs {
		fmt.Fprintf(a.Out, "in %s, which is live:\n", termsafe.Quote(dir))
		printClasses(a.Out, mostOfClass, byDir[dir])
		a.note("%s", words.Classes(byDir[dir]))
	}
}
