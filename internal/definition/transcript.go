package definition

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// transcriptsDir holds the transcripts of machines that were removed or reset.
const transcriptsDir = "transcripts"

// How long the transcripts of a machine that was removed or reset stay, as the record of
// its network does, and how much all of them may take, the oldest going first.
const (
	TranscriptAge   = 30 * 24 * time.Hour
	TranscriptBytes = 1 << 30 // eight of the largest
)

// SaveTranscripts puts the transcripts of the machine's agents where they outlive it, and
// returns that place; "" if there are none.
func (s Store) SaveTranscripts(name string, now time.Time) (path string, err error) {
	from := s.At(name).File(TranscriptsFile)
	// Their time begins now, and not with the machine's last stop.
	err = os.Chtimes(from, now, now)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	dir := filepath.Join(s.StateDir, transcriptsDir)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	path = filepath.Join(dir, name+"-"+now.UTC().Format("20060102T150405.000000000")+".tar")
	if err == nil {
		err = os.Rename(from, path)
	}
	if err != nil {
		return "", fmt.Errorf("keep the transcripts of %s: %w", name, err)
	}
	return path, nil
}

// CollectTranscripts removes the transcripts that are too old, or too many, and returns
// the names of their files.
func (s Store) CollectTranscripts(now time.Time) (removed []string, err error) {
	dir := filepath.Join(s.StateDir, transcriptsDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("collect transcripts: %w", err)
	}
	var archives []fs.FileInfo
	var total int64
	for _, e := range entries {
		if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() && filepath.Ext(fi.Name()) == ".tar" {
			archives = append(archives, fi)
			total += fi.Size()
		}
	}
	slices.SortFunc(archives, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	var errs []error
	for _, fi := range archives {
		if now.Sub(fi.ModTime()) <= TranscriptAge && total <= TranscriptBytes {
			break
		}
		if err := os.Remove(filepath.Join(dir, fi.Name())); err != nil {
			errs = append(errs, err)
			continue
		}
		total -= fi.Size()
		removed = append(removed, fi.Name())
	}
	return removed, errors.Join(errs...)
}
