package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/filelock"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/review"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/workspace"
	"github.com/mayfly-vm/mayfly/internal/workspace/live"
)

// The files of a record: what was watched in the live shares of one run of a machine.
const (
	liveFile   = "record.json" // liveRecord
	liveCopies = "before"      // by the number of the share, the files as they were
	liveNew    = "."           // begins the names of records that are being made
)

// liveAge is how long mayfly gc leaves a record of changes that were told, and one that
// nobody finished.
const liveAge = 30 * 24 * time.Hour

// mostLiveNotes bounds the changes that are told of one share.
const mostLiveNotes = 20

// liveRecord is what was watched. It is not below the machine, which goes.
type liveRecord struct {
	Name   string        `json:"name"`
	Shares []live.Record `json:"shares"`
	Told   bool          `json:"told,omitempty"`

	dir string
}

func (e *Engine) liveStore() string { return filepath.Join(e.dirs.State, "live") }

func (r *liveRecord) copies(share int) string {
	return filepath.Join(r.dir, liveCopies, strconv.Itoa(share))
}

// watchLive remembers what the host runs by itself in the directories that the machine of a
// plan is to have live. The caller holds the machine's lock, and nothing of it runs yet.
func (e *Engine) watchLive(ctx context.Context, p plan.Plan) (err error) {
	if !slices.ContainsFunc(p.Shares, func(s plan.Share) bool { return !s.ReadOnly }) {
		return nil
	}
	// Of a run before, that nobody saw the end of.
	earlier := e.liveRecords(p.Name)
	for i := range earlier {
		e.tellRecord(ctx, &earlier[i])
	}
	own, err := e.ownRules()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(e.liveStore(), 0o700); err != nil {
		return fmt.Errorf("watch the live shares: %w", err)
	}
	rec := liveRecord{Name: p.Name}
	if rec.dir, err = os.MkdirTemp(e.liveStore(), liveNew); err != nil {
		return fmt.Errorf("watch the live shares: %w", err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(rec.dir)
		}
	}()
	for _, s := range p.Shares {
		if s.ReadOnly {
			continue
		}
		one, err := takeLive(ctx, s.Source, rec.copies(len(rec.Shares)), own)
		if err != nil {
			return fmt.Errorf("watch %s: %w", termsafe.Quote(s.Source), err)
		}
		rec.Shares = append(rec.Shares, one)
	}
	// What the machine changes is there after a crash of the host, too.
	data, err := json.Marshal(&rec)
	if err == nil {
		err = atomicfile.Write(filepath.Join(rec.dir, liveFile), data, 0o600)
	}
	if err == nil {
		err = os.Rename(rec.dir, filepath.Join(e.liveStore(), fmt.Sprintf("%s.%d", p.Name, time.Now().UnixNano())))
	}
	if err == nil {
		err = atomicfile.Sync(e.liveStore())
	}
	if err != nil {
		return fmt.Errorf("watch the live shares: %w", err)
	}
	return nil
}

func takeLive(ctx context.Context, dir, copies string, own []review.Extra) (live.Record, error) {
	h, err := workspace.OpenHost(dir)
	if err != nil {
		return live.Record{}, err
	}
	defer h.Close()
	// Not what git says of its set-up: it would run in a directory that a machine has had.
	return live.Take(ctx, dir, copies, review.NewWatcher(review.Host{Read: h.Read, Names: h.Names}, own))
}

// LiveChange is a change of what the host runs by itself, in a directory that a machine has
// live.
type LiveChange struct {
	Dir string // the directory
	review.Change
	Verdict review.Verdict
	Kept    string // the file as it was, "" where there is no copy
}

// LiveChanges are such changes.
type LiveChanges struct {
	Changes []LiveChange
	// Kept are the directories with what was there before, by Dir, where something was.
	Kept map[string]string
	// Partly are the directories of which not all was looked at.
	Partly []string
}

// liveRecords returns the records of the machine name, or of all if that is "", the oldest
// first, that nobody has told of yet.
func (e *Engine) liveRecords(name string) (recs []liveRecord) {
	entries, err := os.ReadDir(e.liveStore())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.note(NoteLiveUnknown, args{"name": name, "reason": err.Error()})
	}
	for _, entry := range entries {
		of, _, ok := strings.Cut(entry.Name(), ".")
		if !ok || of == "" || name != "" && of != name {
			continue
		}
		rec := liveRecord{dir: filepath.Join(e.liveStore(), entry.Name())}
		err := state.ReadJSON(filepath.Join(rec.dir, liveFile), &rec)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			e.note(NoteLiveUnknown, args{"name": of, "reason": err.Error()})
		}
		if err == nil && !rec.Told && rec.Name == of {
			recs = append(recs, rec)
		}
	}
	return recs
}

// LiveChanges returns what of what the host runs by itself was changed in the directories
// that the machine has live, since it was started.
func (m Machine) LiveChanges(ctx context.Context) (out LiveChanges, err error) {
	out.Kept = make(map[string]string)
	recs := m.e.liveRecords(m.Name())
	for i := range recs {
		if err == nil {
			err = m.e.compareLive(ctx, &recs[i], &out)
		}
	}
	return out, err
}

// compareLive adds the changes since a record to out.
func (e *Engine) compareLive(ctx context.Context, rec *liveRecord, out *LiveChanges) error {
	own, err := e.ownRules()
	if err != nil {
		return err
	}
	for i, share := range rec.Shares {
		host := share.Host(rec.copies(i))
		found, err := live.Compare(ctx, share, rec.copies(i), review.NewWatcher(host, own))
		if err != nil {
			return fmt.Errorf("compare %s: %w", termsafe.Quote(share.Dir), err)
		}
		if found.Partly {
			out.Partly = append(out.Partly, share.Dir)
		}
		r, err := review.Classify(ctx, review.Input{Changes: found.Changes, Host: host, Extra: own})
		if err != nil {
			return err
		}
		for n, c := range found.Changes {
			v := r.Verdicts[n]
			if c.New.Kind == review.Symlink && v.Class < review.Runs {
				v.Add(review.LinkFinding(c.New.Target))
			}
			if v.Class >= review.Runs {
				kept := filepath.Join(rec.copies(i), filepath.FromSlash(c.Path))
				if exists(kept) {
					out.Kept[share.Dir] = rec.copies(i)
				} else {
					kept = ""
				}
				out.Changes = append(out.Changes, LiveChange{share.Dir, c, v, kept})
			}
		}
	}
	return nil
}

// tellLive says what machines that have ended changed of what the host runs by itself: the
// machine name, or all if that is "". It is told once, by whoever comes first.
func (e *Engine) tellLive(ctx context.Context, name string) {
	recs := e.liveRecords(name)
	machines := e.machines()
	for i := range recs {
		if !machines.At(recs[i].Name).Alive() {
			e.tellRecord(ctx, &recs[i])
		}
	}
}

// tellRecord tells of one record. What cannot be compared is told of, too: no machine waits
// for it, and no list.
func (e *Engine) tellRecord(ctx context.Context, rec *liveRecord) {
	lock, err := filelock.Try(rec.dir, true)
	if err != nil {
		return // somebody else tells
	}
	defer lock.Close()
	if err := state.ReadJSON(filepath.Join(rec.dir, liveFile), rec); err != nil || rec.Told {
		return
	}
	out := LiveChanges{Kept: make(map[string]string)}
	if err = e.compareLive(ctx, rec, &out); ctx.Err() != nil {
		return
	}
	e.noteLive(rec.Name, out)
	if err == nil && len(out.Changes) == 0 {
		err = os.RemoveAll(rec.dir)
	} else {
		rec.Told = true
		err = errors.Join(err, state.WriteJSON(filepath.Join(rec.dir, liveFile), rec))
	}
	if err != nil {
		e.note(NoteLiveUnknown, args{"name": rec.Name, "reason": err.Error()})
	}
}

// noteLive tells of changes, those of each directory together.
func (e *Engine) noteLive(name string, all LiveChanges) {
	for _, dir := range all.Partly {
		e.note(NoteLivePartly, args{"name": name, "dir": termsafe.Quote(dir)})
	}
	slices.SortStableFunc(all.Changes, func(a, b LiveChange) int { return cmp.Compare(a.Dir, b.Dir) })
	for len(all.Changes) > 0 {
		dir := all.Changes[0].Dir
		n := slices.IndexFunc(all.Changes, func(c LiveChange) bool { return c.Dir != dir })
		if n < 0 {
			n = len(all.Changes)
		}
		e.note(NoteLiveChanged, args{"name": name, "dir": termsafe.Quote(dir), "count": strconv.Itoa(n)})
		for i, c := range all.Changes[:n] {
			if i == mostLiveNotes {
				e.note(NoteLiveMore, args{"name": name, "dir": termsafe.Quote(dir), "count": strconv.Itoa(n - i)})
				break
			}
			f := c.Verdict.Findings[0] // what has such a class has one
			e.note(NoteLiveChange, args{
				"name": name, "dir": termsafe.Quote(dir), "path": termsafe.Quote(c.Path), "op": liveOp(c.Change),
				"class": c.Verdict.Class.String(), "rule": f.Rule, "reason": f.Reason,
			})
		}
		if kept := all.Kept[dir]; kept != "" {
			e.note(NoteLiveKept, args{"name": name, "dir": termsafe.Quote(dir), "kept": termsafe.Quote(kept)})
		}
		all.Changes = all.Changes[n:]
	}
}

// liveOp returns what a change is, in the letters of a list of changes.
func liveOp(c review.Change) string {
	switch {
	case c.Old.Kind == review.None:
		return "A"
	case c.New.Kind == review.None:
		return "D"
	}
	return "M"
}

// collectLive removes records that are too old.
func (e *Engine) collectLive(now time.Time) error {
	entries, err := os.ReadDir(e.liveStore())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find what was watched: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		dir := filepath.Join(e.liveStore(), entry.Name())
		var rec liveRecord
		told := state.ReadJSON(filepath.Join(dir, liveFile), &rec) != nil || rec.Told || strings.HasPrefix(entry.Name(), liveNew)
		if fi, err := entry.Info(); err == nil && told && now.Sub(fi.ModTime()) > liveAge {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}
