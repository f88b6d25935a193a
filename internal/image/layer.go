package image

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/image/erofs"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// Sidecar is the record beside a layer.
type Sidecar struct {
	Version int       `json:"version"` // 1
	DiffID  string    `json:"diff_id"`
	Role    string    `json:"role"`
	Size    int64     `json:"erofs_size"` // the rest of the file is a hole
	SHA256  string    `json:"erofs_sha256"`
	Created time.Time `json:"created"`
	Recipe  recipe    `json:"provenance"`
}

func (s *Store) sidecar(diffID string) (Sidecar, error) {
	var sc Sidecar
	if err := readJSON(s.sidecarPath(diffID), &sc); err != nil {
		return Sidecar{}, err
	}
	if sc.Version != 1 || sc.DiffID != diffID || sc.Size <= 0 || sc.Size > plan.DiskSize {
		return Sidecar{}, errors.New("its record is damaged")
	}
	return sc, nil
}

// quickCheck finds a layer that was cut short or overwritten at its start. It
// costs a few microseconds, so that every start of a machine can afford it.
func (s *Store) quickCheck(sc Sidecar) error {
	f, err := os.Open(s.layerPath(sc.DiffID))
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() != plan.DiskSize {
		return fmt.Errorf("its file has %d bytes; want %d", fi.Size(), int64(plan.DiskSize))
	}
	_, err = erofs.Open(f, sc.Size)
	return err
}

// addLayer makes a layer of the tar stream that write writes. The stream goes
// through once: it is hashed and turned into EROFS as it comes.
func (s *Store) addLayer(ctx context.Context, r recipe, write func(io.Writer) error) (diffID string, err error) {
	dir, release, err := s.temp()
	if err != nil {
		return "", err
	}
	defer release()
	path := filepath.Join(dir, "layer")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	diffID, stats, err := convert(ctx, f, write)
	if err != nil {
		return "", err
	}
	// The same bytes may have come out of another recipe.
	if _, err := s.sidecar(diffID); err == nil {
		return diffID, nil
	}
	sum, err := hashFile(ctx, f, stats.Size)
	if err != nil {
		return "", err
	}
	if err := f.Truncate(plan.DiskSize); err != nil {
		return "", err
	}
	if err := f.Chmod(0o444); err != nil {
		return "", err
	}
	if err := atomicfile.Publish(path, s.layerPath(diffID)); err != nil {
		return "", err
	}
	// The record makes the layer exist, so it comes last.
	err = s.writeJSON(s.sidecarPath(diffID), Sidecar{
		Version: 1,
		DiffID:  diffID,
		Role:    r.Role,
		Size:    stats.Size,
		SHA256:  sum,
		Created: now(),
		Recipe:  r,
	})
	return diffID, err
}

// convert writes the EROFS image of a tar stream to f and returns the stream's
// hash.
func convert(ctx context.Context, f *os.File, write func(io.Writer) error) (diffID string, _ erofs.Stats, err error) {
	// A pipe of the kernel's, so that a program can write to it directly.
	r, w, err := os.Pipe()
	if err != nil {
		return "", erofs.Stats{}, err
	}
	defer r.Close()
	const pipeSize = 1 << 20
	unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, pipeSize) // faster if allowed
	stop := context.AfterFunc(ctx, func() { r.Close() })
	defer stop()

	written := make(chan error, 1)
	go func() {
		err := write(w)
		written <- errors.Join(err, w.Close())
	}()
	ew, err := erofs.NewWriter(f, erofs.Options{})
	var stats erofs.Stats
	hash := sha256.New()
	if err == nil {
		stream := io.TeeReader(bufio.NewReaderSize(r, pipeSize), hash)
		err = erofs.FromTar(ew, stream, erofs.TarOptions{OCI: true})
		if err == nil {
			// What follows the end mark belongs to the archive.
			_, err = io.Copy(io.Discard, stream)
		}
		if err == nil {
			stats, err = ew.Finish()
		}
	}
	r.Close() // ends a writer that nobody reads any more
	writeErr := <-written
	switch {
	case ctx.Err() != nil:
		return "", erofs.Stats{}, context.Cause(ctx)
	case err != nil && (writeErr == nil || errors.Is(writeErr, unix.EPIPE) || errors.Is(err, unix.ENOSPC)):
		return "", erofs.Stats{}, err
	case writeErr != nil:
		return "", erofs.Stats{}, writeErr
	}
	return hex.EncodeToString(hash.Sum(nil)), stats, nil
}

// hashFile returns the SHA-256 of the first size bytes of f.
func hashFile(ctx context.Context, f io.ReaderAt, size int64) (string, error) {
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for off := int64(0); off < size; {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		n, err := f.ReadAt(buf[:min(int64(len(buf)), size-off)], off)
		h.Write(buf[:n])
		off += int64(n)
		if err == io.EOF && off < size {
			return "", io.ErrUnexpectedEOF
		}
		if err != nil && err != io.EOF {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// openLayer opens a layer of the store for reading.
func (s *Store) openLayer(diffID string) (*erofs.Image, io.Closer, error) {
	sc, err := s.sidecar(diffID)
	if err != nil {
		return nil, nil, err
	}
	f, err := os.Open(s.layerPath(diffID))
	if err != nil {
		return nil, nil, err
	}
	im, err := erofs.Open(f, sc.Size)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return im, f, nil
}

// exists reports whether there is a file at path.
func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
