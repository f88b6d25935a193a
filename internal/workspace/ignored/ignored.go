// Package ignored finds out which changes are of files that the host's git ignores:
// build output, installed packages.
//
// The edits of a machine and the directory on the host flow in, and the edits are marked.
// The guest has no say in it: the rules are those of the host's own .gitignore files,
// .git/info/exclude and core.excludesFile, read by the host's git, and what its index has
// is never ignored, but for files of exact names that coding agents leave behind for
// themselves in .git, where git has no word. A .gitignore that the guest has made counts once it was applied. A
// repository in the workspace, such as a submodule, judges what is in it. One that ignores
// the workspace as a whole judges nothing: all would be.
//
// git runs without anything that the repository's configuration could have it run.
package ignored

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// timeout bounds what git may take for the paths of a guest.
const timeout = 2 * time.Minute

// ErrUnknown is the error if the host's git does not work in the repository, whatever the
// edits are: it is missing, say, or the repository is another user's.
var ErrUnknown = errors.New("git does not tell which files it ignores")

// Mark marks which of edits are about files that the git repositories of the workspace dir
// ignore, and which they track. Outside of a repository none is. After an error no edit is
// marked as ignored, and what the host has as tracked.
func Mark(ctx context.Context, dir string, edits []workspace.Edit) error {
	if len(edits) == 0 {
		return nil
	}
	for i := range edits {
		edits[i].Tracked = edits[i].OldKind != workspace.None
	}
	j := newJudge(dir)
	for i := range edits {
		e := &edits[i]
		j.add(e.Path, e.OldKind == workspace.None && e.NewKind == workspace.Dir)
		if e.From != "" {
			j.add(e.From, false)
		}
	}
	if err := j.ask(ctx); err != nil {
		return err
	}
	for i := range edits {
		edits[i].Tracked = j.isTracked(edits[i].Path)
	}
	workspace.SetIgnored(edits, j.isIgnored)
	return nil
}

// Dirs returns those of new directories of the workspace dir, of which the host has none,
// that git ignores together with all that may be in them. Without a git that tells there is
// none.
func Dirs(ctx context.Context, dir string, dirs []string) (map[string]bool, error) {
	j := newJudge(dir)
	j.by = true
	for _, p := range dirs {
		if j.place(p).absent {
			j.add(p, true)
		}
	}
	err := j.ask(ctx)
	if errors.Is(err, ErrUnknown) {
		return nil, nil // Mark says so
	}
	if err != nil {
		return nil, err
	}
	whole := make(map[string]bool)
	for _, p := range dirs {
		// One of which the index has something is not ignored.
		v, _ := j.verdict(p)
		if v.path == "" || !j.isIgnored(p) {
			continue
		}
		if asked := &j.repos[v.repo].asked; asked.isNewDir(v.path) && !asked.is(v.path, isLoose) {
			whole[p] = true
		}
	}
	return whole, nil
}

// judge finds out which paths of a workspace are ignored.
type judge struct {
	dir    string
	places map[string]place       // by directory, "." for the workspace
	repos  map[string]*repository // by their directories; nil for one that there is not
	by     bool                   // ask also by which patterns
	// odd is a file of rules of which git would never see the end, "" for none.
	odd string
}

// place is a directory of the workspace as it is on the host.
type place struct {
	repo string // directory of the repository that it belongs to, "" for none
	// whole is the path that stands for all in the directory: a symbolic link, beyond
	// which git does not look, or what holds a .git. "" for none.
	whole  string
	absent bool // it is no directory on the host
}

// verdict is where the answer for a path is.
type verdict struct {
	repo string
	path string // in repo; "" for never
}

// repository is what is to be asked in one repository.
type repository struct {
	dir   string
	above bool   // it begins above the workspace
	outer string // the repository that this one lies in
	asked paths
	*answer
}

func newJudge(dir string) *judge {
	j := &judge{dir: dir, places: make(map[string]place), repos: make(map[string]*repository)}
	var top place
	// As git does, look above for the repository that the workspace is a part of.
	for at := dir; ; at = filepath.Dir(at) {
		if hasGit(at) {
			top.repo = "."
			j.repos["."] = &repository{dir: ".", above: at != dir, asked: newPaths()}
		}
		if top.repo != "" || at == filepath.Dir(at) {
			break
		}
	}
	j.places["."] = top
	return j
}

// hasGit reports whether dir is the directory of a repository with its files.
func hasGit(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, ".git"))
	return err == nil
}

// place returns what the directory p of the workspace is on the host.
func (j *judge) place(p string) place {
	if at, ok := j.places[p]; ok {
		return at
	}
	at := j.place(path.Dir(p))
	switch {
	case at.whole != "":
	case path.Base(p) == ".git":
		at.whole = path.Dir(p)
	case !at.absent:
		full := filepath.Join(j.dir, p)
		fi, err := os.Lstat(full)
		switch {
		case err == nil && fi.Mode()&os.ModeSymlink != 0:
			at.whole = p
		case err != nil || !fi.IsDir():
			at.absent = true
		case hasGit(full):
			j.repos[p] = &repository{dir: p, outer: at.repo, asked: newPaths()}
			if at.repo != "" {
				j.repos[at.repo].asked.add(inside(p, at.repo), false)
			}
			at.repo = p
		}
		if rules := filepath.Join(full, ".gitignore"); at.whole == "" && !at.absent && at.repo != "" && endless(rules) {
			j.odd = rules
		}
	}
	j.places[p] = at
	return at
}

// endless reports whether the file may be one that git waits for when it reads it.
func endless(file string) bool {
	fi, err := os.Lstat(file)
	return err == nil && fi.Mode()&(fs.ModeNamedPipe|fs.ModeDevice) != 0
}

// add has p judged, which may be a directory that the guest has made.
func (j *judge) add(p string, newDir bool) {
	v, whole := j.verdict(p)
	if v.path == "" {
		return
	}
	if newDir = newDir && !whole; newDir {
		// One that the host does not have is a directory to git by its slash only.
		_, err := os.Lstat(filepath.Join(j.dir, p))
		newDir = err != nil
	}
	j.repos[v.repo].asked.add(v.path, newDir)
}

// verdict returns where the answer for p is, and whether it is that for something that
// holds it.
func (j *judge) verdict(p string) (v verdict, whole bool) {
	at := j.place(path.Dir(p))
	if path.Base(p) == ".git" {
		at.whole = path.Dir(p)
	}
	v = verdict{repo: at.repo, path: p}
	if at.whole != "" {
		// In the repository that at.whole is in, which may be one itself.
		v.path, whole = at.whole, true
		if at.whole == at.repo {
			v.repo = j.repos[at.repo].outer
		}
	}
	if v.repo == "" || v.path == "." {
		return verdict{}, whole
	}
	v.path = inside(v.path, v.repo)
	return v, whole
}

// inside returns the path p relative to the directory dir, which it is in.
func inside(p, dir string) string {
	if dir == "." {
		return p
	}
	return strings.TrimPrefix(p, dir+"/")
}

// ask asks git about all that was added, in the outer repositories first.
func (j *judge) ask(ctx context.Context) error {
	if j.odd != "" {
		return fmt.Errorf("%w: %q is not a regular file", ErrUnknown, j.odd)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("git has not told within %v which files it ignores", timeout))
	defer cancel()
	var dirs []string
	for dir := range j.repos {
		dirs = append(dirs, dir)
	}
	slices.SortFunc(dirs, func(a, b string) int { return len(a) - len(b) })
	for _, dir := range dirs {
		r := j.repos[dir]
		if r.asked.len() == 0 || r.outer != "" && j.ignores(r.outer, inside(dir, r.outer)) {
			continue
		}
		if r.above {
			r.asked.add(".", false)
		}
		var err error
		if r.answer, err = consult(ctx, filepath.Join(j.dir, dir), &r.asked, j.by); err != nil {
			return err
		}
		if r.asked.is(".", isMatched) {
			// It ignores the workspace as a whole, as one of a home directory does:
			// the work in there is none of its business.
			r.answer = &answer{asked: &paths{}}
		}
	}
	return nil
}

// isIgnored reports whether the path p, which was added, is ignored.
func (j *judge) isIgnored(p string) bool {
	v, _ := j.verdict(p)
	return v.path != "" && j.ignores(v.repo, v.path)
}

// isTracked reports whether a repository has the path p, which was added, in its index.
func (j *judge) isTracked(p string) bool {
	v, _ := j.verdict(p)
	if v.path == "" || v.repo == "" {
		return false
	}
	r := j.repos[v.repo]
	return r.answer != nil && r.answer.asked.is(v.path, isTracked)
}

// ignores reports whether p is ignored in the repository of the directory dir, or that
// whole repository in one that it lies in.
func (j *judge) ignores(dir, p string) bool {
	for ; dir != ""; dir = j.repos[dir].outer {
		r := j.repos[dir]
		if r.answer != nil {
			return r.answer.ignores(p)
		}
		// It was not asked, since the outer one ignores it as a whole.
		if r.outer == "" {
			return false
		}
		p = inside(dir, r.outer)
	}
	return false
}
