// Package template keeps booted machines that were saved, so that others begin
// where they stood.
//
// A template is the memory of a guest that has booted and prepared its image,
// and the state of its devices. Nothing of a user, of a machine or of a
// workspace is in it: its Identity says all that it was made from, and a machine
// with the same identity is restored from it in place of booting. What flows in
// is a VMM's command line; what comes out are a memory file, which the machine
// maps copy-on-write or gets a copy of, and the state for the VMM to read.
//
// A template is a cache. It is made once, under a lock, and appears when it is
// complete or not at all. Whatever is wrong with one, or with the directory,
// means that the machine boots: no error of this package needs to be the user's.
// The package starts no machine and knows no VMM.
package template

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/diskspace"
	"github.com/mayfly-vm/mayfly/internal/filelock"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/machine"
)

// The files of a template, in a directory named by its key.
const (
	recordFile   = "template.json" // Record; its modification time is that of the last use
	memoryFile   = "memory"        // the guest's memory, sparse
	stateFile    = "state"         // the VMM's state
	verifiedFile = "verified.json" // stamp: the memory was compared with its digest
)

// The other names in a store's directory.
const (
	lockFile     = "lock"    // held by who makes a template
	newPrefix    = ".new-"   // a template that is being made
	asidePrefix  = ".aside-" // one that did not work
	deadPrefix   = ".dead-"  // one that is being removed
	failedSuffix = ".failed" // KEY.failed: Failure
)

// recordVersion is the version of Record's format.
const recordVersion = 1

// ErrNone means that there is no template for an identity.
var ErrNone = errors.New("there is no template")

// A DamagedError says that a template is not as it was made.
type DamagedError struct {
	Key string
	Err error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("template %.12s is damaged: %v", e.Key, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// Store is a directory of templates, of one user. Any number of processes may
// use one at the same time.
type Store struct{ Dir string }

// Record is what is kept of a template beside its files.
type Record struct {
	Version  int       `json:"version"`
	Key      string    `json:"key"`
	Created  time.Time `json:"created"`
	Identity Identity  `json:"identity"`
	Memory   Sum       `json:"memory"` // its pages that are not zero, see digest
	State    Sum       `json:"state"`
	Notes    []string  `json:"notes,omitempty"` // what did not work when it was made
	// Pause is for how long the guest stood still while it was saved.
	Pause time.Duration `json:"pause"` // ns
}

// Sum is the size of a file and the SHA-256 of what is in it.
type Sum struct {
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// Template is a template that was found whole. It is not removed as long as it
// is open.
type Template struct {
	Record
	dir   string
	state []byte
	lock  *os.File
}

// Close lets the template be removed. Machines that began from it live on.
func (t *Template) Close() error { return t.lock.Close() }

// State is the VMM's saved state.
func (t *Template) State() io.Reader { return bytes.NewReader(t.state) }

// Private is the template's memory, to be mapped copy-on-write.
func (t *Template) Private() machine.PrivateMemory {
	return machine.PrivateMemory{Path: filepath.Join(t.dir, memoryFile)}
}

// Copy makes path a copy of the template's memory, without its holes. path must
// not exist.
func (t *Template) Copy(path string) (machine.SharedMemory, error) {
	if err := image.CopySparse(path, filepath.Join(t.dir, memoryFile)); err != nil {
		return machine.SharedMemory{}, fmt.Errorf("copy the memory of template %.12s: %w", t.Key, err)
	}
	return machine.SharedMemory{Path: path}, nil
}

// Find returns the template with this identity. The error wraps ErrNone when
// there is none, and is a DamagedError for one that must not be used.
func (s Store) Find(id Identity) (*Template, error) {
	key := id.Key()
	if err := s.checkOwner(); err != nil {
		return nil, fmt.Errorf("find template %.12s: %w", key, err)
	}
	dir := filepath.Join(s.Dir, key)
	lock, err := filelock.Try(dir, false)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, filelock.ErrLocked) {
		return nil, fmt.Errorf("find template %.12s: %w", key, ErrNone)
	}
	if err != nil {
		return nil, fmt.Errorf("find template %.12s: %w", key, err)
	}
	t := &Template{dir: dir, lock: lock}
	if err := t.load(id); err != nil {
		lock.Close()
		return nil, &DamagedError{key, err}
	}
	// The bound of age is one of disuse. A directory that cannot be written
	// is as good.
	now := time.Now()
	os.Chtimes(filepath.Join(dir, recordFile), now, now)
	return t, nil
}

// checkOwner refuses a directory that another user could put something into: a
// VMM believes the state that it is given. A directory that is not there is fine.
func (s Store) checkOwner() error {
	var st unix.Stat_t
	err := unix.Stat(s.Dir, &st)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return &fs.PathError{Op: "stat", Path: s.Dir, Err: err}
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to another user", s.Dir)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("%s can be written by other users", s.Dir)
	}
	return nil
}

// load reads and verifies everything that a machine will believe.
func (t *Template) load(id Identity) error {
	var err error
	if t.Record, err = readRecord(t.dir); err != nil {
		return err
	}
	if err := t.Identity.equal(id); err != nil {
		return err
	}
	if t.state, err = readFile(filepath.Join(t.dir, stateFile), maxState); err != nil {
		return err
	}
	if sum := sumOf(t.state); sum != t.Record.State {
		return fmt.Errorf("its state has %d bytes and the digest %.12s; want %d and %.12s",
			sum.Size, sum.SHA256, t.Record.State.Size, t.Record.State.SHA256)
	}
	return verifyMemory(t.dir, t.Memory)
}

// maxState and maxRecord bound what is read of a template, in bytes.
const (
	maxState  = 64 << 20
	maxRecord = 1 << 20
)

func readFile(name string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", filepath.Base(name), limit)
	}
	return data, err
}

func readRecord(dir string) (Record, error) {
	var r Record
	data, err := readFile(filepath.Join(dir, recordFile), maxRecord)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", recordFile, err)
	}
	if r.Version != recordVersion || r.Key != r.Identity.Key() {
		return r, fmt.Errorf("%s is none of this version", recordFile)
	}
	return r, nil
}

func sumOf(data []byte) Sum {
	sum := sha256.Sum256(data)
	return Sum{int64(len(data)), hex.EncodeToString(sum[:])}
}

// Saved is what the saving of a machine gave.
type Saved struct {
	State []byte   // of the VMM
	Notes []string // what did not work and is no reason to do without
	Pause time.Duration
}

// Make makes the template with this identity, unless somebody else does at the
// same time: then it waits, calling waiting once, and returns theirs. save boots
// and saves a machine whose memory, of memoryMiB, is the file that it is given.
func (s Store) Make(ctx context.Context, id Identity, memoryMiB int, waiting func(), save func(context.Context, machine.SharedMemory) (Saved, error)) (*Template, error) {
	key := id.Key()
	t, err := s.make(ctx, id, memoryMiB, waiting, save)
	if err != nil {
		return nil, fmt.Errorf("make template %.12s: %w", key, err)
	}
	return t, nil
}

func (s Store) make(ctx context.Context, id Identity, memoryMiB int, waiting func(), save func(context.Context, machine.SharedMemory) (Saved, error)) (t *Template, err error) {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, err
	}
	unlock, err := filelock.Acquire(ctx, filepath.Join(s.Dir, lockFile), waiting)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if t, err = s.Find(id); err == nil {
		return t, nil
	}
	if _, damaged := errors.AsType[*DamagedError](err); damaged {
		if err := s.SetAside(id); err != nil {
			return nil, err
		}
	} else if !errors.Is(err, ErrNone) {
		return nil, err
	}
	if err := checkSpace(s.Dir); err != nil {
		return nil, err
	}
	dir, lock, err := s.temp()
	if err != nil {
		return nil, err
	}
	defer func() {
		if t == nil {
			os.RemoveAll(dir)
			lock.Close()
		}
	}()
	memory := machine.SharedMemory{Path: filepath.Join(dir, memoryFile)}
	if err := makeMemory(memory.Path, int64(memoryMiB)<<20); err != nil {
		return nil, err
	}
	saved, err := save(ctx, memory)
	if err != nil {
		return nil, err
	}
	record := Record{
		Version: recordVersion, Key: id.Key(), Created: time.Now().UTC().Truncate(time.Second),
		Identity: id, State: sumOf(saved.State), Notes: saved.Notes, Pause: saved.Pause,
	}
	if record.Memory, err = sealMemory(dir); err != nil {
		return nil, err
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, stateFile), saved.State, 0o400),
		writeJSON(filepath.Join(dir, recordFile), record),
	); err != nil {
		return nil, err
	}
	// Nothing is synced: after a crash of the host the digests tell.
	named := filepath.Join(s.Dir, record.Key)
	if err := os.Rename(dir, named); err != nil {
		return nil, err
	}
	os.Remove(s.failedPath(record.Key))
	// From now on others may use it, too.
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_SH); err != nil {
		return nil, err
	}
	return &Template{record, named, saved.State, lock}, nil
}

// minFree is the space in bytes that making a template needs, with some left
// for the machine that it is made for. The memory that a booted guest has used is a few hundred
// MiB at most.
const minFree = 2 << 30

// checkSpace returns an error when dir's file system is nearly full.
func checkSpace(dir string) error {
	free, err := diskspace.Free(dir)
	if err != nil {
		return err
	}
	if free < minFree {
		return fmt.Errorf("only %d MiB are free in %s; it takes %d", free>>20, dir, int64(minFree)>>20)
	}
	return nil
}

// temp makes a locked directory for a template in the making.
func (s Store) temp() (string, *os.File, error) {
	for range 10 {
		dir, err := os.MkdirTemp(s.Dir, newPrefix)
		if err != nil {
			return "", nil, err
		}
		lock, err := filelock.Try(dir, true)
		if err == nil {
			return dir, lock, nil
		}
		// A collector saw it before it was locked.
		if !errors.Is(err, filelock.ErrLocked) && !errors.Is(err, fs.ErrNotExist) {
			return "", nil, err
		}
	}
	return "", nil, errors.New("the new directory is removed again and again")
}

// SetAside takes the template with this identity out of use. What is left of it
// stays for who wants to know, until the next collection.
func (s Store) SetAside(id Identity) error {
	key := id.Key()
	aside := filepath.Join(s.Dir, asidePrefix+key)
	err := os.RemoveAll(aside)
	if err == nil {
		err = os.Rename(filepath.Join(s.Dir, key), aside)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set template %.12s aside: %w", key, err)
	}
	return nil
}

// Failure says why templates with some identity are not used for a while.
type Failure struct {
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
}

// retryAfter is the time for which an identity that failed is left alone: who
// starts machines in a row is not to pay for each.
const retryAfter = 10 * time.Minute

// Fail remembers that making or restoring a template with this identity failed.
func (s Store) Fail(id Identity, reason error) error {
	return writeJSON(s.failedPath(id.Key()), Failure{time.Now().UTC(), reason.Error()})
}

// Failed returns the failure because of which the identity is not to be used
// now, or nil.
func (s Store) Failed(id Identity) *Failure { return s.failedByKey(id.Key()) }

func (s Store) failedByKey(key string) *Failure {
	data, err := readFile(s.failedPath(key), maxRecord)
	if err != nil {
		return nil
	}
	var f Failure
	if json.Unmarshal(data, &f) != nil {
		return nil
	}
	// A time to come is of a clock that was wrong.
	if since := time.Since(f.Time); since < 0 || since > retryAfter {
		return nil
	}
	return &f
}

func (s Store) failedPath(key string) string {
	return filepath.Join(s.Dir, key+failedSuffix)
}

func writeJSON(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	// Not synced: after a crash of the host the digests tell.
	return atomicfile.WriteUnsynced(name, append(data, '\n'), 0o600)
}
