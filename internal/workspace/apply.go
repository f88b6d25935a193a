package workspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Application is all that Apply needs.
type Application struct {
	Dir      string    // the workspace on the host
	Manifest *Manifest // what was packed of it, or sent since
	Base     Base      // the contents of that
	Packed   Base      // the packed contents; nil if nothing was sent since
	Edits    []*Edit   // from Diff, or some of them
	Staging  *Staging  // the contents of these edits
	Journal  string    // where the journal is to be; outside the workspace
	// Undo has a record kept by which [Undo] takes the Apply back; nil for none.
	Undo *UndoOptions
}

// UndoOptions says where records are, and whose the new one is.
type UndoOptions struct {
	Store string // a directory of records only
	Name  string // of the machine
}

// Result is what Apply did.
type Result struct {
	Applied   int // edits that are now on the host; implied ones not counted
	Conflicts []Conflict
	Notes     []Note // what of applied edits is not as in the guest, or is lost; the first ones
	MoreNotes int    // that are not among Notes
}

// Conflict is an edit that was not applied, because the host's file is not
// what it was when the workspace was packed, or may not be touched.
type Conflict struct {
	Path string
	Why  string
}

func (c Conflict) String() string { return termsafe.Quote(c.Path) + ": " + c.Why }

// conflictError is the reason of a conflict.
type conflictError string

func (c conflictError) Error() string { return string(c) }

const (
	conflictChanged  = conflictError("changed on the host since it was copied")
	conflictDeleted  = conflictError("deleted on the host since it was copied")
	conflictAdded    = conflictError("something else of that name was made on the host meanwhile")
	conflictNotEmpty = conflictError("the directory still holds files that are not being deleted")
	conflictParent   = conflictError("the directory that it belongs in is not there")
	conflictUnmoved  = conflictError("the directory that it belongs in could not be renamed")
	conflictDevice   = conflictError("the host's file system cannot rename it; move it by hand and apply again")
	conflictSymlink  = conflictError("a symbolic link has taken the place of a directory above it")
)

// Apply carries out edits in a workspace.
//
// Each path changes in one step, from what was there to what the guest made,
// however Apply may be interrupted. A path that is not what was packed stays
// as it is and becomes a Conflict, unless it already is what the edit makes of
// it; so an Apply that was interrupted can be repeated. Nothing is followed
// through a symbolic link, no special file is made, and no setuid, setgid or
// sticky bit is set. The extended attributes of a replaced file that are its user's stay,
// and hard links of the guest are hard links. What is not so is in the notes of the Result.
//
// Run by root, Apply keeps the owner of what it replaces and gives new files
// the owner of their directory.
//
// The error is about what stops everything, such as a full disk; the Result is
// valid with it.
func Apply(ctx context.Context, app Application) (Result, error) {
	a := newApplier(app)
	err := a.run(ctx)
	slices.SortFunc(a.result.Conflicts, func(x, y Conflict) int { return comparePaths(x.Path, y.Path) })
	if err != nil {
		return a.result, fmt.Errorf("apply changes to %s: %w", termsafe.Quote(app.Dir), err)
	}
	return a.result, nil
}

// applier is one run of Apply.
type applier struct {
	Application

	root        int // the workspace, open with O_PATH
	journal     *journal
	asRoot      bool
	plainRename bool // act as on a file system without renameat2's flags
	batch       []pending
	batchSize   int64 // bytes of its files
	unfinished  []unfinished
	rec         *recorder       // of what can be taken back; nil without one
	moves       moves           // that are done
	unmoved     map[string]bool // new paths of renames that were not done
	settled     map[int]bool    // edits that were carried out early, by their number
	made        made
	result      Result
}

func newApplier(app Application) *applier {
	return &applier{
		Application: app, asRoot: os.Geteuid() == 0, unmoved: make(map[string]bool), settled: make(map[int]bool),
		made: linkTargets(app.Edits),
	}
}

func (a *applier) run(ctx context.Context) (err error) {
	dir, err := filepath.Abs(a.Dir)
	if err != nil {
		return err
	}
	edits, parents, err := prepare(a.Edits)
	if err != nil || len(edits) == 0 {
		return err
	}
	a.root, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(a.root)
	a.journal, err = startJournal(a.Journal, dir, parents)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	defer func() {
		// In this order: what a clean-up by the journal changes back after a kill is not
		// an Apply that came to its end.
		err = errors.Join(err, a.journal.end())
		err = errors.Join(err, a.finishRecord(err == nil))
	}()
	if edits, err = a.together(ctx, edits); err != nil {
		return err
	}
	if a.Undo != nil {
		if err := a.record(ctx, dir, edits); err != nil {
			return err
		}
	}
	defer a.finishDirs()
	defer a.dropBatch()

	// What is in a directory that is to be renamed has its place only afterwards.
	inMoved := belowMoves(edits)
	if err := a.settleDirModes(edits, func(e *Edit) bool { return !inMoved(e.Path) }); err != nil {
		return err
	}
	if err := a.move(ctx, edits); err != nil {
		return err
	}
	if err := a.settleDirModes(edits, func(e *Edit) bool { return inMoved(e.Path) }); err != nil {
		return err
	}
	// Deletions from the leaves up, then the rest from the root down.
	for i, e := range slices.Backward(edits) {
		if e.Op == Delete {
			if err := a.edit(ctx, e, i); err != nil {
				return err
			}
		}
	}
	// Other names of files come when these have theirs.
	for _, links := range []bool{false, true} {
		for i, e := range edits {
			if e.Op != Delete && e.Op != Rename && !e.changesDirMode() && !a.settled[i] && (e.Link != "") == links {
				if err := a.edit(ctx, e, i); err != nil {
					return err
				}
			}
		}
		if err := a.flush(); err != nil {
			return err
		}
	}
	a.finishDirs()
	return a.syncDirs(parents)
}

// prepare checks the edits once more, since what follows depends on it, and
// returns those to apply in order, and the directories that they change.
func prepare(all []*Edit) (edits []*Edit, parents []string, err error) {
	edits = make([]*Edit, 0, len(all))
	for _, e := range all {
		if err := checkPath(e.Path); err != nil {
			return nil, nil, err
		}
		if e.Skipped == "" {
			edits = append(edits, e)
		}
	}
	slices.SortFunc(edits, func(x, y *Edit) int { return comparePaths(x.Path, y.Path) })
	for i, e := range edits {
		if i > 0 && e.Path == edits[i-1].Path {
			return nil, nil, fmt.Errorf("two edits of %s", termsafe.Quote(e.Path))
		}
		parent, _ := splitPath(e.Path)
		if n := len(parents); n == 0 || parents[n-1] != parent {
			parents = append(parents, parent)
		}
		if e.Op == Rename {
			if err := checkPath(e.From); err != nil {
				return nil, nil, err
			}
			parent, _ := splitPath(e.From)
			parents = append(parents, parent)
		}
	}
	slices.Sort(parents)
	return edits, slices.Compact(parents), nil
}

// settle books the outcome of an edit. It returns the errors that end all.
func (a *applier) settle(e *Edit, err error) error {
	var why conflictError
	switch {
	case err == nil:
		if e.counts() {
			a.result.Applied++
		}
		return nil
	case errors.As(err, &why):
		a.conflict(e, err.Error())
		return nil
	case errors.Is(err, fs.ErrPermission):
		a.conflict(e, "no permission to change it")
		return nil
	case errors.Is(err, unix.EBUSY):
		a.conflict(e, "it is in use on the host, perhaps as a mount point")
		return nil
	case errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.EILSEQ), errors.Is(err, unix.EINVAL):
		a.conflict(e, "the host's file system does not take it: "+err.Error())
		return nil
	}
	return fmt.Errorf("%s: %w", termsafe.Quote(e.Path), err)
}

// counts reports whether e is a change for people: a renamed file is one.
func (e *Edit) counts() bool { return !e.Implied && (e.Other == "" || e.Op != Delete) }

func (a *applier) note(path, text string) {
	if len(a.result.Notes) == maxNotes {
		a.result.MoreNotes++
		return
	}
	a.result.Notes = append(a.result.Notes, Note{path, text})
}

func (a *applier) conflict(e *Edit, why string) {
	a.rec.not(e)
	a.result.Conflicts = append(a.result.Conflicts, Conflict{e.Path, why})
}

// parent opens the directory of a path.
func (a *applier) parent(path string) (dir int, name string, err error) {
	parent, name := splitPath(path)
	dir, err = openBeneath(a.root, parent, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.EACCES) && !a.asRoot {
		if err = a.unlockAbove(parent); err == nil {
			dir, err = openBeneath(a.root, parent, unix.O_PATH|unix.O_DIRECTORY)
		}
	}
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		err = conflictParent
	case errors.Is(err, unix.ELOOP):
		err = conflictSymlink
	case err == nil:
		if err = a.unlock(dir, parent); err != nil {
			unix.Close(dir)
		}
	}
	return dir, name, err
}

// edit carries out one edit, if the host's file allows it, or leaves it to the
// batch. n makes the name of its temporary file.
func (a *applier) edit(ctx context.Context, e *Edit, n int) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if len(a.unmoved) > 0 {
		for above := range upwards(e.Path) {
			if above != e.Path && a.unmoved[above] {
				return a.settle(e, conflictUnmoved)
			}
		}
	}
	dir, name, err := a.parent(e.Path)
	if e.Op == Delete && (err == conflictParent || err == conflictSymlink) {
		// Gone with its directory; the edit of that reports what is there now.
		a.rec.not(e)
		return a.settle(e, nil)
	}
	if err != nil {
		return a.settle(e, err)
	}
	deferred, err := a.editIn(ctx, dir, name, a.journal.temp(n), e)
	if deferred {
		if a.batchFull() {
			return a.flush()
		}
		return nil
	}
	unix.Close(dir)
	return a.settle(e, err)
}

// editIn is edit in an open directory. If it returns true, the batch has taken
// over the edit and the directory.
func (a *applier) editIn(ctx context.Context, dir int, name, temp string, e *Edit) (deferred bool, err error) {
	now, err := look(dir, name)
	if err != nil {
		return false, err
	}
	old, err := a.old(e)
	if err != nil {
		return false, err
	}
	switch done, err := a.toDo(ctx, dir, name, now, old, e); {
	case err != nil:
		return false, err
	case done:
		a.made.set(e.Path, now)
		a.mayFinish(e, now)
		return false, nil
	case e.Op == Delete:
		return false, a.remove(dir, temp, name, now)
	case e.Link != "" && a.link(ctx, dir, temp, e):
		return false, a.place(dir, temp, name, e, now)
	case e.ModeOnly && now.links == 1:
		a.made.set(e.Path, now)
		return false, a.chmod(dir, name, now, e)
	case e.NewKind == File:
		// A new mode for a file with several names makes a new file as well:
		// the other names may be outside of the workspace.
		f, err := a.createFile(ctx, dir, temp, name, e, now)
		if err != nil {
			return false, err
		}
		a.enqueue(pending{e, f, dir, name, temp, now})
		return true, nil
	}
	if err := a.create(dir, temp, e, now); err != nil {
		return false, err
	}
	if err := a.place(dir, temp, name, e, now); err != nil || e.NewKind != Dir {
		return false, err
	}
	now, err = look(dir, name)
	a.mayFinish(e, now)
	return false, err
}

// place gives a temporary file its name; now is what it replaces.
func (a *applier) place(dir int, temp, name string, e *Edit, now hostFile) error {
	if now.kind == None {
		return a.placeNew(dir, temp, name, e.NewKind)
	}
	return a.placeOver(dir, temp, name, e, now)
}

// mayFinish notes a new directory whose mode is not final yet, made by this
// Apply or by one that was interrupted.
func (a *applier) mayFinish(e *Edit, now hostFile) {
	if open := e.NewMode | 0o700; e.NewKind == Dir && now.kind == Dir && open != e.NewMode && now.mode&0o777 == open {
		a.unfinished = append(a.unfinished, unfinished{path: e.Path, mode: e.NewMode, id: now.id})
	}
}

// toDo is check for an edit that is about to be carried out. With a record, it must be in it.
func (a *applier) toDo(ctx context.Context, dir int, name string, now hostFile, old *Entry, e *Edit) (done bool, err error) {
	if a.rec == nil {
		return a.check(ctx, dir, name, now, old, e)
	}
	_, ok := a.rec.todo[e]
	if ok && now.kind != Dir && now.id == a.rec.kept[e] {
		return false, nil // as it was when it was kept, which was after a check
	}
	done, err = a.check(ctx, dir, name, now, old, e)
	switch {
	case done:
		a.rec.not(e) // somebody else did it meanwhile
	case err == nil && !ok:
		err = conflictChanged
	}
	return done, err
}

// check says whether e is done already. If not, and now is not what was
// packed (old, nil for nothing), the error is a conflict.
func (a *applier) check(ctx context.Context, dir int, name string, now hostFile, old *Entry, e *Edit) (done bool, err error) {
	if old == nil && now.kind == None {
		return false, nil
	}
	if old != nil && now.kind != None && now.kind != Dir && now.id == old.ID && a.Manifest.trusts(old) {
		return false, nil // by far the most frequent case, and needs no reading
	}
	if done, err := a.isNew(ctx, dir, name, now, e); done || err != nil {
		return done, err
	}
	switch {
	case now.kind == None:
		return false, conflictDeleted
	case old == nil:
		return false, conflictAdded
	case now.kind == Dir && old.Kind == Dir:
		return false, nil // its mode does not matter, only whether it is empty
	}
	same, err := a.begins(ctx, dir, name, now, old, e)
	if err == nil && !same {
		err = conflictChanged
	}
	return false, err
}

// chmod gives the file that is now on the host the mode of e.
func (a *applier) chmod(dir int, name string, now hostFile, e *Edit) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Ino != now.id.Ino || uint64(st.Dev) != now.id.Dev || kindOf(&st) != now.kind {
		return conflictChanged
	}
	return chmodFD(fd, e.NewMode&0o777)
}
