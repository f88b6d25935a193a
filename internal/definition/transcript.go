package definition

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
)

// transcriptsDir holds the transcripts of machines that are gone, or were reset.
const transcriptsDir = "transcripts"

// How long the transcripts of a machine that is gone or was reset stay, as the record of
// its network does, and how much and how many all of them may be, the oldest going first.
const (
	TranscriptAge   = 30 * 24 * time.Hour
	TranscriptBytes = 1 << 30 // eight of the largest
	TranscriptCount = 2000
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
	path = transcriptsFile(dir, name, now)
	if err == nil {
		err = os.Rename(from, path)
	}
	if err != nil {
		return "", fmt.Errorf("keep the transcripts of %s: %w", name, err)
	}
	return path, nil
}

// AddTranscripts puts what write writes, the transcripts of the agents of a machine that
// keeps nothing, where they outlive it, and returns that place; "" if there are none. Those
// that are too old, or too many, make room.
func (s Store) AddTranscripts(name string, now time.Time, write func(io.Writer) (n int64, err error)) (path string, err error) {
	dir := filepath.Join(s.StateDir, transcriptsDir)
	err = os.MkdirAll(dir, 0o700)
	var f *atomicfile.File
	if err == nil {
		path = transcriptsFile(dir, name, now)
		f, err = atomicfile.Create(path, 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("keep the transcripts of %s: %w", name, err)
	}
	defer f.Close()
	n, err := write(f)
	if err == nil && n > 0 {
		err = f.CommitUnsynced()
	}
	if err != nil {
		return "", fmt.Errorf("keep the transcripts of %s: %w", name, err)
	}
	if n == 0 {
		return "", nil
	}
	_, err = s.CollectTranscripts(now)
	return path, err
}

// transcriptsFile returns the name of an archive.
func transcriptsFile(dir, name string, now time.Time) string {
	return filepath.Join(dir, name+"-"+now.UTC().Format("20060102T150405.000000000")+".tar")
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
	for i, fi := range archives {
		if now.Sub(fi.ModTime()) <= TranscriptAge && total <= TranscriptBytes && len(archives)-i <= TranscriptCount {
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
