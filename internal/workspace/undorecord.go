package workspace

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/sparse"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// UndoBound is the most bytes of files that the record of one apply keeps.
const UndoBound = 1 << 30

// UndoSize returns how many bytes of files an apply of edits would have to keep, so that it
// can be taken back.
func UndoSize(edits []*Edit) (n int64) {
	for _, e := range edits {
		if e.Skipped == "" && e.OldKind == File && (e.Op == Delete || e.Op == Modify && (!e.ModeOnly || e.Parts > 0)) {
			n += e.OldSize
		}
	}
	return n
}

// recorder writes the record of a running Apply.
type recorder struct {
	store  string
	name   string // of its directory in the store
	fd     int    // that directory
	log    *os.File
	w      *bufio.Writer
	err    error              // of what was written
	copies bool               // there are files whose content is not on the disk yet
	todo   map[*Edit]int32    // edits that can be taken back, and their numbers
	kept   map[*Edit]Identity // of what was there, once it was kept
	dirs   map[string]undoDir
	others map[fileID]string // see otherName
}

// fileID is a file, whatever its name.
type fileID struct{ dev, ino uint64 }

// Names in the store that are no records: of an Apply that has not begun, and of what is
// being removed.
const (
	undoNew  = ".new-"
	undoDead = ".dead-"
)

func newRecorder(o UndoOptions, root, journal string) (_ *recorder, err error) {
	if err := os.MkdirAll(o.Store, 0o700); err != nil {
		return nil, err
	}
	if err := SweepUndos(o.Store); err != nil {
		return nil, err
	}
	now := time.Now()
	r := &recorder{
		store: o.Store, name: undoNew + now.UTC().Format("20060102T150405.000000000") + "-" + strings.ToLower(rand.Text()[:8]),
		fd: -1, todo: make(map[*Edit]int32), kept: make(map[*Edit]Identity), dirs: make(map[string]undoDir),
	}
	dir := filepath.Join(r.store, r.name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.discard()
		}
	}()
	if r.log, err = lockJournal(filepath.Join(dir, undoLog), os.O_WRONLY|os.O_CREATE|os.O_EXCL); err != nil {
		return nil, err
	}
	if r.fd, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, err
	}
	r.w = bufio.NewWriterSize(r.log, 64<<10)
	r.write(undoLine{Head: &undoHead{undoVersion, o.Name, []byte(root), []byte(journal), now}})
	return r, nil
}

// discard removes the record.
func (r *recorder) discard() {
	os.RemoveAll(filepath.Join(r.store, r.name))
	r.close()
}

func (r *recorder) close() {
	if r.log != nil {
		r.log.Close()
	}
	if r.fd >= 0 {
		unix.Close(r.fd)
	}
	r.log, r.fd = nil, -1
}

func (r *recorder) write(line undoLine) {
	if r.err != nil {
		return
	}
	text, err := json.Marshal(line)
	if err == nil {
		_, err = r.w.Write(append(text, '\n'))
	}
	r.err = err
}

// sync has what was written on the disk.
func (r *recorder) sync() error {
	if r.err == nil {
		r.err = r.w.Flush()
	}
	if r.err == nil {
		r.err = r.log.Sync()
	}
	return r.err
}

// begin makes the record one of the store's: from now on the workspace may be changed.
func (r *recorder) begin() error {
	r.write(undoLine{Begin: true})
	if r.copies {
		if err := unix.Syncfs(r.fd); err != nil {
			return err
		}
	}
	if err := r.sync(); err != nil {
		return err
	}
	if err := unix.Fsync(r.fd); err != nil {
		return err
	}
	final := strings.TrimPrefix(r.name, undoNew)
	if err := os.Rename(filepath.Join(r.store, r.name), filepath.Join(r.store, final)); err != nil {
		return err
	}
	r.name = final
	return atomicfile.Sync(r.store)
}

// record keeps what the edits will replace or delete, before any of them is carried out.
func (a *applier) record(ctx context.Context, dir string, edits []*Edit) (err error) {
	journal, err := filepath.Abs(a.Journal)
	if err != nil {
		return err
	}
	r, err := newRecorder(*a.Undo, dir, journal)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			r.discard()
		}
	}()
	place := a.places(edits)
	for i, e := range edits {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		path, there := place(e)
		if err := a.recordEdit(ctx, r, i, e, path, there); err != nil {
			return fmt.Errorf("keep %s: %w", termsafe.Quote(e.Path), err)
		}
	}
	a.rec = r
	if len(r.todo) == 0 {
		r.discard()
		return nil
	}
	if err := r.begin(); err != nil {
		return err
	}
	return dropUndos(r.store, dir, r.name)
}

// places returns where on the host, before the renames of edits, is what each of them is
// about, and false if there will be nothing, since it is moved away. An interrupted Apply
// may have made some of the renames.
func (a *applier) places(edits []*Edit) func(e *Edit) (path string, there bool) {
	moved := make(map[string]bool)
	var all, done moves
	for _, e := range edits {
		if e.Op != Rename {
			continue
		}
		all.add(e.From, e.Path)
		moved[e.Path] = false
		parent, name := splitPath(e.Path)
		fd, err := openBeneath(a.root, parent, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			continue
		}
		now, err := look(fd, name)
		unix.Close(fd)
		old := a.Manifest.Find(e.From)
		if moved[e.Path] = err == nil && old != nil && now.id.Dev == old.ID.Dev && now.id.Ino == old.ID.Ino; moved[e.Path] {
			done.add(e.From, e.Path)
		}
	}
	return func(e *Edit) (string, bool) {
		path, from := e.Path, ""
		for q := range upwards(e.Path) {
			if is, ok := moved[q]; ok {
				if is {
					return e.Path, true
				}
				from = all.from[q]
				path = done.where(from + path[len(q):])
				break
			}
		}
		if e.OldKind != None {
			return done.where(e.Packed()), true
		}
		for q := range upwards(path) {
			if to, ok := all.to[q]; ok && len(q) > len(from) && !moved[to] {
				return path, false
			}
		}
		return path, true
	}
}

// recordEdit keeps what one edit replaces. What it does not put into the record is what
// cannot be applied, or is as the guest has it already.
func (a *applier) recordEdit(ctx context.Context, r *recorder, n int, e *Edit, path string, there bool) error {
	parent, name := splitPath(path)
	dir, err := openBeneath(a.root, parent, unix.O_PATH|unix.O_DIRECTORY)
	var now hostFile
	if err == nil {
		defer unix.Close(dir)
		r.dir(dir, parent)
		if there {
			if now, err = look(dir, name); err != nil {
				return nil
			}
		}
	} else if e.Op != Add || errors.Is(err, fs.ErrPermission) {
		// A directory that its owner may not look into is one that an Apply has finished:
		// what is in it is there.
		return nil
	}
	line := undoEdit{N: n, Op: e.Op.String(), Path: []byte(e.Path), Implied: !e.counts()}
	line.Old = undoState{Kind: now.kind, Mode: now.mode, Size: now.size, MTime: now.id.MTime, Dev: now.id.Dev, Ino: now.id.Ino}
	line.New = undoState{Kind: e.NewKind, Mode: e.NewMode & 0o777, Size: e.NewSize, Target: []byte(e.NewTarget)}
	if e.needsContent() {
		line.New.Sum = e.Sum[:]
	}
	id := now.id
	switch {
	case e.Op == Rename:
		line.InPlace = true
		if now.kind != Dir || path == e.Path && now.mode&0o777 == e.NewMode {
			return nil
		}
		to, _ := splitPath(e.Path)
		if fd, err := openBeneath(a.root, to, unix.O_PATH|unix.O_DIRECTORY); err == nil {
			r.dir(fd, to)
			unix.Close(fd)
		}
	case e.changesDirMode():
		line.InPlace = true
		if mode := now.mode & 0o777; now.kind != Dir || mode == e.NewMode || mode != e.OldMode && mode != e.NewMode|0o700 {
			return nil
		}
	default:
		old, err := a.old(e)
		if err != nil {
			return nil
		}
		if done, err := a.check(ctx, dir, name, now, old, e); done || err != nil {
			return ctx.Err()
		}
		line.InPlace = e.ModeOnly && e.Link == "" && now.links == 1
		if now.kind != None && !line.InPlace {
			if id, err = r.keep(ctx, dir, name, n, now, &line.Old); err != nil {
				if _, ok := errors.AsType[conflictError](err); ok {
					return nil
				}
				return err
			}
			if now.kind == File && now.links > 1 {
				line.Old.Other = []byte(a.otherName(r, now))
			}
		}
		if e.NewKind == File && !e.needsContent() && !line.InPlace {
			if line.New.Sum, err = a.sumOf(ctx, e); err != nil {
				return err
			}
		}
	}
	r.todo[e] = int32(n)
	if id != (Identity{}) {
		r.kept[e] = id
	}
	r.write(undoLine{Edit: &line})
	return r.err
}

// otherName returns a name in the workspace of a file that has several, which was packed and
// is not among the edits; "" if there is none.
func (a *applier) otherName(r *recorder, now hostFile) string {
	if r.others == nil {
		r.others = make(map[fileID]string)
		edited := make(map[string]bool, len(a.Edits))
		for _, e := range a.Edits {
			edited[e.Packed()] = true
		}
		for i := range a.Manifest.Entries {
			if e := &a.Manifest.Entries[i]; e.Kind == File && !edited[e.Path] {
				r.others[fileID{e.ID.Dev, e.ID.Ino}] = e.Path
			}
		}
	}
	return r.others[fileID{now.id.Dev, now.id.Ino}]
}

// sumOf returns that of the new content of an edit, which was packed.
func (a *applier) sumOf(ctx context.Context, e *Edit) ([]byte, error) {
	c, err := a.content(e)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	sum, err := sparse.SumOf(ctx, c.ReaderAt, e.NewSize)
	return sum[:], err
}

// dir notes a directory in which something will change.
func (r *recorder) dir(fd int, path string) {
	if _, ok := r.dirs[path]; ok {
		return
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return
	}
	d := undoDir{[]byte(path), st.Mode & 0o7777, unix.TimespecToNsec(st.Mtim), uint64(st.Dev), st.Ino}
	r.dirs[path] = d
	r.write(undoLine{Dir: &d})
}

// undoLink is what follows the number of a file in the name of another name of it.
const undoLink = ".link"

// keep keeps what now is at name, under the number n: a file with this one name as it is,
// which costs nothing. One with other names may be written to by these. It is copied, and
// both are kept. So is what lies on another file system. The identity is what now has then.
func (r *recorder) keep(ctx context.Context, dir int, name string, n int, now hostFile, old *undoState) (Identity, error) {
	number := strconv.Itoa(n)
	if now.kind == Symlink {
		target, err := readlinkat(dir, name)
		if err != nil {
			return now.id, conflictChanged
		}
		old.Target = []byte(target)
	}
	linked := false
	if now.kind != Dir {
		to := number
		if now.links > 1 && now.kind == File {
			to += undoLink
		}
		if err := unix.Linkat(dir, name, r.fd, to, 0); err == nil {
			kept, err := look(r.fd, to)
			if err != nil {
				return now.id, err
			}
			if !kept.same(now) {
				return now.id, errors.Join(conflictChanged, unix.Unlinkat(r.fd, to, 0))
			}
			linked, now.id = true, kept.id
		}
	}
	if linked && (now.links == 1 || now.kind == Symlink) {
		return now.id, nil
	}
	r.copies = true
	return now.id, copyExactly(ctx, dir, name, r.fd, number, now)
}

// moving notes a rename that is about to be made.
func (r *recorder) moving(from, to string, now hostFile) error {
	if r == nil {
		return nil
	}
	r.write(undoLine{Move: &undoMove{[]byte(from), []byte(to), now.id.Dev, now.id.Ino}})
	return r.sync()
}

// not notes that an edit was not carried out.
func (r *recorder) not(e *Edit) {
	if r == nil {
		return
	}
	n, ok := r.todo[e]
	if !ok {
		return
	}
	number := int(n)
	r.write(undoLine{Not: &number})
	if e.Op == Rename && r.err == nil { // an Undo must know that Apply went on without it
		r.err = r.w.Flush()
	}
}

// finish closes the record; of an Apply that came to its end it notes how it has left the
// directories, where their times can tell what came later.
func (a *applier) finishRecord(ended bool) error {
	r := a.rec
	if r == nil || r.log == nil {
		return nil
	}
	defer r.close()
	if !ended {
		return r.sync()
	}
	for path, d := range r.dirs {
		fd, err := openBeneath(a.root, a.moves.where(path), unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		unix.Close(fd)
		if err == nil && st.Ino == d.Ino && uint64(st.Dev) == d.Dev {
			d.Mode, d.MTime = st.Mode&0o7777, unix.TimespecToNsec(st.Mtim)
			r.write(undoLine{After: &d})
		}
	}
	r.write(undoLine{End: true})
	return r.sync()
}
