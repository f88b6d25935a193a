package workspace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// UndoRecord is an Apply that can be taken back.
type UndoRecord struct {
	Name    string    // of the machine
	Root    string    // the workspace on the host
	Time    time.Time // when the Apply began
	Changes int       // as a user counts them
	Ended   bool      // the Apply was not interrupted

	dir string
}

// UndoRecords returns the records of a store, the newest first. There is one of the last
// Apply in each workspace, and one of each that was interrupted since.
func UndoRecords(store string) ([]UndoRecord, error) {
	names, err := undoNames(store)
	if err != nil {
		return nil, err
	}
	var recs []UndoRecord
	for _, name := range names {
		dir := filepath.Join(store, name)
		r, changes, err := readUndoLog(dir)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errUndoLog) {
			continue
		}
		if err != nil {
			return nil, err
		}
		recs = append(recs, UndoRecord{r.head.Name, string(r.head.Root), r.head.Time, changes, r.ended, dir})
	}
	return recs, nil
}

// undoNames returns the names of records, the newest first.
func undoNames(store string) ([]string, error) {
	entries, err := os.ReadDir(store)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list what can be undone: %w", err)
	}
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	slices.Reverse(names)
	return names, nil
}

// dropUndos removes the records of the workspace root that one with the name last has taken
// the place of: of the Apply before it, and of all that are older. One that was interrupted
// is taken back together with its repetition.
func dropUndos(store, root, last string) error {
	recs, err := UndoRecords(store)
	if err != nil {
		return err
	}
	ended := false
	for _, rec := range recs {
		if rec.Root != root || filepath.Base(rec.dir) == last {
			continue
		}
		if ended = ended || rec.Ended; ended {
			if err := dropUndo(rec.dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// ForgetUndo removes the record of the last Apply in the workspace root, when one has begun
// that cannot be taken back.
func ForgetUndo(store, root string) error { return dropUndos(store, root, "") }

// CollectUndos removes records that are older than limit, and what a kill has left of others.
// It returns those of which it has removed the record.
func CollectUndos(store string, limit time.Time) ([]UndoRecord, error) {
	recs, err := UndoRecords(store)
	if err != nil {
		return nil, err
	}
	var gone []UndoRecord
	var errs []error
	for _, rec := range recs {
		if rec.Time.After(limit) {
			continue
		}
		if err := dropUndo(rec.dir); err != nil {
			errs = append(errs, err)
			continue
		}
		gone = append(gone, rec)
	}
	return gone, errors.Join(append(errs, SweepUndos(store))...)
}

// SweepUndos removes what processes that were killed have left in a store: records of an
// Apply that never began, and those that were being removed. They hold names of files of
// the user's.
func SweepUndos(store string) error {
	entries, err := os.ReadDir(store)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, e := range entries {
		dir := filepath.Join(store, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), undoDead):
			errs = append(errs, os.RemoveAll(dir))
		case strings.HasPrefix(e.Name(), undoNew):
			errs = append(errs, dropUndo(dir))
		}
	}
	return errors.Join(errs...)
}

// dropUndo removes a record that no process uses. One that has no log may be about to get
// one.
func dropUndo(dir string) error {
	log, err := lockJournal(filepath.Join(dir, undoLog), os.O_RDONLY)
	switch {
	case errors.Is(err, ErrBusy):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		if fi, err := os.Lstat(dir); err != nil || time.Since(fi.ModTime()) < time.Minute {
			return nil
		}
	case err != nil:
		return err
	default:
		defer log.Close()
	}
	return removeUndo(dir)
}

// removeUndo removes a record, with what a killed Undo has left in the workspace.
func removeUndo(dir string) error {
	if err := CleanJournal(filepath.Join(dir, "journal")); err != nil {
		return err
	}
	dead := filepath.Join(filepath.Dir(dir), undoDead+strings.TrimLeft(filepath.Base(dir), "."))
	err := unix.Rename(dir, dead)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(dead)
}
