package template

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/filelock"
	"github.com/mayfly-vm/mayfly/internal/image"
)

// The bounds of a store: what was not used for so long goes, and the least
// recently used when all take more space.
const (
	MaxAge   = 30 * 24 * time.Hour
	MaxBytes = 4 << 30
)

// Info is a template as lists show it.
type Info struct {
	Record
	Dir   string    `json:"dir"`
	Bytes int64     `json:"bytes"` // of disk space
	Used  time.Time `json:"used"`  // last
}

// List returns the templates whose records can be read, the last used first.
func (s Store) List() ([]Info, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list templates: %w", err)
	}
	var all []Info
	for _, e := range entries {
		if !isKey(e.Name()) {
			continue
		}
		dir := filepath.Join(s.Dir, e.Name())
		record, err := readRecord(dir)
		if err != nil || record.Key != e.Name() {
			continue // Collect removes it
		}
		info := Info{Record: record, Dir: dir, Bytes: image.DiskUsage(dir)}
		if fi, err := os.Stat(filepath.Join(dir, recordFile)); err == nil {
			info.Used = fi.ModTime()
		}
		all = append(all, info)
	}
	slices.SortFunc(all, func(a, b Info) int {
		return cmp.Or(b.Used.Compare(a.Used), cmp.Compare(a.Key, b.Key))
	})
	return all, nil
}

func isKey(name string) bool {
	return len(name) == 64 && strings.Trim(name, "0123456789abcdef") == ""
}

// Collection is what Collect has removed, or would remove.
type Collection struct {
	Items []string `json:"items"` // paths
	Bytes int64    `json:"bytes"` // of disk space
}

// Policy says what Collect keeps.
type Policy struct {
	MaxAge   time.Duration
	MaxBytes int64
	// Wanted reports whether a template can still be of use; nil keeps all
	// that are within the bounds.
	Wanted func(Record) bool
	// Forget removes the memory of failures, too, so that all is tried again.
	Forget bool
	// Dry only says what would be removed.
	Dry bool
}

// Collect removes the templates that the policy does not keep, those that did
// not work, and what was left of making and removing some. What is in use stays.
func (s Store) Collect(p Policy) (Collection, error) {
	var c Collection
	all, err := s.List()
	if err != nil {
		return c, err
	}
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("collect templates: %w", err)
	}
	keep := map[string]bool{lockFile: true}
	var bytes int64
	for _, info := range all {
		bytes += info.Bytes
		wanted := p.Wanted == nil || p.Wanted(info.Record)
		if wanted && time.Since(info.Used) <= p.MaxAge && bytes <= p.MaxBytes {
			keep[info.Key] = true
		}
	}
	var errs []error
	for _, e := range entries {
		name := e.Name()
		if keep[name] || !p.Forget && s.failedLately(name) {
			continue
		}
		if err := s.remove(name, p.Dry, &c); err != nil {
			errs = append(errs, fmt.Errorf("collect templates: %w", err))
		}
	}
	return c, errors.Join(errs...)
}

// failedLately reports whether name is the record of a failure that counts.
func (s Store) failedLately(name string) bool {
	key, ok := strings.CutSuffix(name, failedSuffix)
	return ok && isKey(key) && s.failedByKey(key) != nil
}

// remove removes one entry of the directory unless somebody has it locked.
func (s Store) remove(name string, dry bool, c *Collection) error {
	path := filepath.Join(s.Dir, name)
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.IsDir() {
		lock, err := filelock.Try(path, true)
		if errors.Is(err, filelock.ErrLocked) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer lock.Close()
	}
	c.Items = append(c.Items, path)
	c.Bytes += image.DiskUsage(path)
	if dry {
		return nil
	}
	if isKey(name) {
		// Its name is free at once, and nobody sees a half of it.
		dead := filepath.Join(s.Dir, deadPrefix+name)
		if err := errors.Join(os.RemoveAll(dead), os.Rename(path, dead)); err != nil {
			return err
		}
		path = dead
	}
	return os.RemoveAll(path)
}
