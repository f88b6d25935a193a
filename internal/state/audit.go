package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Records of networks are in a directory beside that of the machines, in one for each
// machine: a supervisor can write in that alone.
const (
	recordsDir  = "audit"
	auditSuffix = ".jsonl"
)

// How long the record of a machine's network stays after its last line, and how much
// all of them may take, the oldest going first. Those of machines that are there stay.
const (
	AuditAge   = 30 * 24 * time.Hour
	AuditBytes = 256 << 20
)

// AuditFile is the path of the record of what the machine does with its network. It
// is not in the machine's directory, since it outlives the machine.
func (m Machine) AuditFile() string {
	return filepath.Join(filepath.Dir(filepath.Dir(m.Dir)), recordsDir, m.Name, m.Name+auditSuffix)
}

// MakeAuditDir makes the directory of the record. What an earlier mayfly wrote beside it
// is moved there.
func (m Machine) MakeAuditDir() error {
	dir := filepath.Dir(m.AuditFile())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of the audit log: %w", err)
	}
	before, err := filepath.Glob(dir + auditSuffix + "*") // a name has no pattern in it
	if err != nil {
		return err
	}
	for _, path := range before {
		if err := os.Rename(path, filepath.Join(dir, filepath.Base(path))); err != nil {
			return fmt.Errorf("move an audit log: %w", err)
		}
	}
	return nil
}

// CollectAudits removes the records of networks that are too old, or too many, and
// returns the names of their machines.
func (s Store) CollectAudits(now time.Time) (removed []string, err error) {
	dir := filepath.Join(filepath.Dir(s.Dir), recordsDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("collect audit logs: %w", err)
	}
	type record struct {
		machine string
		paths   []string
		size    int64
		written time.Time
	}
	records := make(map[string]*record)
	var total int64
	add := func(name string, file fs.DirEntry) *record {
		r := records[name]
		if r == nil {
			r = &record{machine: name}
			records[name] = r
		}
		if fi, err := file.Info(); err == nil && fi.Mode().IsRegular() {
			r.size += fi.Size()
			total += fi.Size()
			if fi.ModTime().After(r.written) {
				r.written = fi.ModTime()
			}
		}
		return r
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() {
			files, err := os.ReadDir(path)
			if err != nil {
				return nil, fmt.Errorf("collect audit logs: %w", err)
			}
			for _, f := range files {
				add(e.Name(), f)
			}
			if r := records[e.Name()]; r != nil {
				r.paths = append(r.paths, path)
			}
			continue
		}
		// NAME.jsonl, and what package audit adds to that name, of an earlier mayfly.
		if name, _, ok := strings.Cut(e.Name(), auditSuffix); ok && e.Type().IsRegular() {
			r := add(name, e)
			r.paths = append(r.paths, path)
		}
	}
	var old []*record
	for _, r := range records {
		if _, err := os.Lstat(s.At(r.machine).Dir); errors.Is(err, fs.ErrNotExist) {
			old = append(old, r)
		}
	}
	slices.SortFunc(old, func(a, b *record) int { return a.written.Compare(b.written) })
	var errs []error
	for _, r := range old {
		if now.Sub(r.written) <= AuditAge && total <= AuditBytes {
			break
		}
		for _, path := range r.paths {
			errs = append(errs, os.RemoveAll(path))
		}
		total -= r.size
		removed = append(removed, r.machine)
	}
	return removed, errors.Join(errs...)
}
