package cli

import (
	"context"
	"errors"
	"fmt"
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
	if o.patch || o.stat {
		return usageError{errors.New("--patch and --stat: the workspace is a live share; git diff shows what is in your directory")}
	}
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
		return a.printJSON(all.Changes)
	case o.nameOnly:
		for _, c := range all.Changes {
			fmt.Fprintln(a.Out, termsafe.Quote(filepath.Join(c.Dir, c.Path)))
		}
		return nil
	}
	a.listLive(all)
	if len(all.Changes) == 0 {
		a.note("no file changed that this computer runs by itself; all other changes are in your directory already")
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
