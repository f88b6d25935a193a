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
				if err != nil || !d.Type().IsRegular() {
					return nil
				}
				fi, err := d.Info()
				rel, relErr := filepath.Rel(root, at)
				if err == nil && relErr == nil && fi.Mode().IsRegular() {
					all = append(all, transcript{path.Join(p.Name, file, rel), at, fi.Size(), fi.ModTime()})
				}
				return nil
			})
		}
	}
	slices.SortStableFunc(all, func(x, y transcript) int { return y.time.Compare(x.time) })
	return all
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
	var tw *tar.Writer
	left := limit - tarEnd
	for _, t := range files {
		if t.size > left-tarFile || time.Now().After(deadline) {
			continue
		}
		f, err := os.OpenFile(t.path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
			f.Close()
			continue
		}
		if tw == nil {
			tw = tar.NewWriter(w)
		}
		err = addTranscript(tw, f, t)
		f.Close()
		if err != nil {
			return err
		}
		left -= t.size + tarFile
	}
	if tw == nil {
		return nil
	}
	return tw.Close()
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
