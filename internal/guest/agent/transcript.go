package agent

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// maxTranscripts bounds how many files are looked at.
const maxTranscripts = 100_000

// What a file needs in a tar stream beside its content, at most, and the end of one.
const (
	tarFile = 8 << 10
	tarEnd  = 16 << 10
)

// transcripts sends what coding agents and their user said, with the rights of that user.
func (a *agent) transcripts(stream net.Conn, req *wire.Transcripts) {
	out := wire.NewFrameWriter(stream)
	m, err := a.configured()
	if err == nil {
		err = asUser(m.credential, func() error {
			files := findTranscripts(req.Places, m.env)
			return sendTranscripts(stdout{out}, files, req.Bytes, time.Now().Add(time.Duration(req.Nanos)))
		})
	}
	if err != nil {
		out.Write(wire.FrameError, []byte(err.Error()))
		return
	}
	out.Write(wire.FrameEnd, nil)
}

// transcript is one file.
type transcript struct {
	name, path string
	size       int64
	time       time.Time
	wal        *transcript // of a database, what was not merged into it yet
}

// findTranscripts returns the files that are in the places, the newest first, env being
// the variables of the machine. What cannot be read is not there.
func findTranscripts(places []wire.TranscriptPlace, env []string) []transcript {
	var all []transcript
	seen := 0
	for _, p := range places {
		dirs := p.Dirs
		if own := getenv(env, p.Variable); filepath.IsAbs(own) {
			dirs = []string{filepath.Join(own, p.Below)}
		}
		for _, file := range p.Files {
			// What is in the way may be links, as of those who keep their settings
			// elsewhere; those further down lead anywhere.
			root, ok := firstOf(dirs, file)
			if !ok {
				continue
			}
			filepath.WalkDir(root, func(at string, d fs.DirEntry, err error) error {
				if seen++; seen > maxTranscripts {
					return filepath.SkipAll
				}
				rel, relErr := filepath.Rel(root, at)
				if err == nil && relErr == nil && d.IsDir() && slices.Contains(p.Without, path.Join(file, rel)) {
					return filepath.SkipDir
				}
				if err != nil || !d.Type().IsRegular() {
					return nil
				}
				fi, err := d.Info()
				if err == nil && relErr == nil && fi.Mode().IsRegular() {
					all = append(all, transcript{name: path.Join(p.Name, file, rel), path: at, size: fi.Size(), time: fi.ModTime()})
				}
				return nil
			})
		}
	}
	slices.SortStableFunc(all, func(x, y transcript) int { return y.time.Compare(x.time) })
	return joinDatabases(all)
}

// walSuffix is what SQLite adds to the name of a database for its write-ahead log, and
// shmSuffix for the index of that, which has the locks.
const (
	walSuffix = "-wal"
	shmSuffix = "-shm"
)

// joinDatabases makes one of each database and its log: either is of no use alone.
func joinDatabases(all []transcript) []transcript {
	logs := make(map[string]*transcript)
	for _, t := range all {
		if strings.HasSuffix(t.path, walSuffix) {
			logs[t.path] = &t
		}
	}
	if len(logs) == 0 {
		return all
	}
	joined := make(map[string]bool)
	for i, t := range all {
		if wal := logs[t.path+walSuffix]; wal != nil {
			all[i].wal = wal
			joined[wal.path] = true
		}
	}
	return slices.DeleteFunc(all, func(t transcript) bool { return joined[t.path] })
}

// How long the locks of a database are waited for, and how often they are tried.
const (
	lockTries = 20
	lockPause = 5 * time.Millisecond
)

// holdDatabase keeps who writes to a database from merging its log into it, and from
// beginning the log anew, until release is called: then the database, and after it its log,
// are a state that it had, however often somebody commits meanwhile. Where that cannot be
// had, as with a database that nobody has open, there is nothing to be held.
func holdDatabase(name string) (release func()) {
	f, err := os.OpenFile(name+shmSuffix, os.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return func() {}
	}
	// sqlite.org/walformat.html, 2.3: WAL_CKPT_LOCK, and WAL_READ_LOCK(1).
	for _, lock := range []unix.Flock_t{{Type: unix.F_WRLCK, Start: 121, Len: 1}, {Type: unix.F_RDLCK, Start: 124, Len: 1}} {
		for range lockTries {
			if unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock) == nil {
				break
			}
			time.Sleep(lockPause)
		}
	}
	return func() { f.Close() }
}

// firstOf returns where file is in the first of dirs that has it.
func firstOf(dirs []string, file string) (path string, ok bool) {
	for _, dir := range dirs {
		if path, err := filepath.EvalSymlinks(filepath.Join(dir, file)); err == nil {
			return path, true
		}
	}
	return "", false
}

// sendTranscripts writes those of files that fit into limit bytes.
func sendTranscripts(w io.Writer, files []transcript, limit int64, deadline time.Time) error {
	s := &sending{w: w, left: limit - tarEnd}
	for _, t := range files {
		if time.Now().After(deadline) {
			break
		}
		if err := s.send(t); err != nil {
			return err
		}
	}
	if s.tw == nil {
		return nil
	}
	return s.tw.Close()
}

// sending is one archive.
type sending struct {
	w    io.Writer
	tw   *tar.Writer // nil until there is something to write
	left int64       // bytes that still fit
}

// send writes a file, and of a database its log, if they fit.
func (s *sending) send(t transcript) error {
	set := []transcript{t}
	if t.wal != nil {
		defer holdDatabase(t.path)()
		// They may have grown since they were found.
		set = append(set, *t.wal)
		for i := range set {
			if fi, err := os.Lstat(set[i].path); err == nil {
				set[i].size = fi.Size()
			}
		}
	}
	var all int64
	for _, t := range set {
		all += t.size + tarFile
	}
	if all > s.left {
		return nil
	}
	for _, t := range set {
		if err := s.one(t); err != nil {
			return err
		}
	}
	return nil
}

// one writes one file, if it is still one.
func (s *sending) one(t transcript) error {
	f, err := os.OpenFile(t.path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil
	}
	if s.tw == nil {
		s.tw = tar.NewWriter(s.w)
	}
	s.left -= t.size + tarFile
	return addTranscript(s.tw, f, t)
}

// addTranscript writes f, whose agent may write to it meanwhile: what it has lost is
// zeros, and what it has gained is left out.
func addTranscript(tw *tar.Writer, f *os.File, t transcript) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: t.name, Size: t.size, Mode: 0o600, ModTime: t.time}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(tw, io.LimitReader(f, t.size))
	if n < t.size && !errors.Is(err, tar.ErrWriteTooLong) {
		_, err = io.CopyN(tw, zeros{}, t.size-n)
	}
	return err
}

// zeros is without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
