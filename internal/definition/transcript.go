package definition

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/naming"
)

// transcriptsDir holds the transcripts of machines that are gone, or were reset.
const transcriptsDir = "transcripts"

// transcriptTime is the form of the time in the name of an archive.
const transcriptTime = "20060102T150405.000000000"

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
	return filepath.Join(dir, name+"-"+now.UTC().Format(transcriptTime)+".tar")
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

// Archive is one archive of transcripts, as a guest packed it.
type Archive struct {
	// Name is what it is called: as its machine, if that is there and replaces it at its
	// next stop, and else as its machine with the time at which that went.
	Name    string
	Machine string
	Path    string
	Time    time.Time // of the machine's last stop, or when it went
	Bytes   int64
}

// Kept reports whether the archive is of a machine that is there.
func (a Archive) Kept() bool { return a.Name == a.Machine }

// Transcripts returns all archives, the newest first.
func (s Store) Transcripts() ([]Archive, error) {
	var all []Archive
	add := func(name, machine, path string) {
		if fi, err := os.Lstat(path); err == nil && fi.Mode().IsRegular() {
			all = append(all, Archive{name, machine, path, fi.ModTime(), fi.Size()})
		}
	}
	for _, dir := range []string{s.dirs(), filepath.Join(s.StateDir, transcriptsDir)} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list transcripts: %w", err)
		}
		for _, e := range entries {
			if dir == s.dirs() {
				if naming.Valid(e.Name()) {
					add(e.Name(), e.Name(), s.At(e.Name()).File(TranscriptsFile))
				}
				continue
			}
			name, isTar := strings.CutSuffix(e.Name(), ".tar")
			if i := strings.LastIndexByte(name, '-'); isTar && i > 0 && naming.Valid(name[:i]) {
				if _, err := time.Parse(transcriptTime, name[i+1:]); err == nil {
					add(name, name[:i], filepath.Join(dir, e.Name()))
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Archive) int { return b.Time.Compare(a.Time) })
	return all, nil
}

// Open opens the archive.
func (a Archive) Open() (*os.File, error) {
	f, err := os.OpenFile(a.Path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read transcripts: %w", err)
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("read transcripts: %s is no file", a.Path), err, f.Close())
	}
	return f, nil
}
