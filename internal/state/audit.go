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

// Records of networks are in a directory beside that of the machines.
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
	return filepath.Join(filepath.Dir(filepath.Dir(m.Dir)), recordsDir, m.Name+auditSuffix)
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
		files   []string
		size    int64
		written time.Time
	}
	records := make(map[string]*record)
	var total int64
	for _, e := range entries {
		// NAME.jsonl, and what package audit adds to that name.
		name, _, ok := strings.Cut(e.Name(), auditSuffix)
		fi, err := e.Info()
		if !ok || err != nil || !fi.Mode().IsRegular() {
			continue
		}
		r := records[name]
		if r == nil {
			r = &record{machine: name}
			records[name] = r
		}
		r.files = append(r.files, filepath.Join(dir, e.Name()))
		r.size += fi.Size()
		total += fi.Size()
		if fi.ModTime().After(r.written) {
			r.written = fi.ModTime()
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
		for _, f := range r.files {
			errs = append(errs, os.Remove(f))
		}
		total -= r.size
		removed = append(removed, r.machine)
	}
	return removed, errors.Join(errs...)
}
