// Package state is the directory of each machine: what its files are called,
// who may touch it, and whether the machine lives.
//
// A machine is a directory with a lock in it. The supervisor holds the lock as
// long as it lives, so the lock is the proof of life: no process number is ever
// taken for one. Whoever gets the lock of a machine may clean it away.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// The files of a machine's directory.
const (
	lockFile      = "lock"       // locked by the supervisor while it lives
	applyLockFile = "apply.lock" // locked by who applies changes, or removes all

	PlanFile      = "plan.json"          // plan.Plan
	ImageFile     = "image.json"         // image.Image, as resolved at the start
	StatusFile    = "status.json"        // Status
	SocketFile    = "control.sock"       // the supervisor's
	TokenFile     = "control.token"      // what its clients show
	LogFile       = "supervisor.log"     // the supervisor's, for its developers
	VMMLogFile    = "vmm.log"            // what the VMM printed
	ConsoleFile   = "console.log"        // what the guest's kernel printed, bounded
	ScratchFile   = "scratch.img"        // ext4, all that the guest writes
	WorkspaceFile = "workspace.img"      // EROFS, the private copy
	DotfilesFile  = "dotfiles.img"       // EROFS, the user's own files for the home
	MemoryFile    = "memory"             // a copy of a template's memory, where the VMM needs one
	ManifestFile  = "workspace.manifest" // what was packed
	PlacedFile    = "workspace.placed"   // what applies have put at which paths
	SyncedFile    = "workspace.synced"   // what was sent into the copy since
	SendingFile   = "workspace.sending"  // what a sync is about to change in the copy
	SentDir       = "workspace.sent"     // contents that were sent
	JournalFile   = "apply.journal"      // temporary names of an apply under way
	StagingDir    = "staging"            // contents of an apply under way
	// TranscriptsFile holds what the agents of a named machine said, on its way to what that keeps.
	TranscriptsFile = "transcripts.tar"

	AuthorizedKeysFile = "authorized_keys"          // who may log in by SSH; not there for nobody
	HostKeyFile        = "ssh_host_ed25519_key.pub" // the public part of the machine's host key
)

// ShareLogFile returns the name of the file with what the server of a share
// printed.
func ShareLogFile(tag string) string { return tag + ".log" }

// newPrefix begins the names of directories that are being made or removed.
// No machine's name begins so.
const newPrefix = "."

// ErrNotFound is wrapped by the error for a machine that does not exist.
var ErrNotFound = errors.New("no such machine")

// ErrTaken is wrapped by the error for a name that another machine has.
var ErrTaken = errors.New("already taken")

// ErrAlive is wrapped by the error for a machine whose supervisor lives.
var ErrAlive = errors.New("the machine is running")

// Store is the directory of all machines.
type Store struct{ Dir string }

// Open returns the store below the user's state directory. The first machine makes it.
func Open(stateDir string) Store { return Store{filepath.Join(stateDir, "machines")} }

// Machine is one machine's directory.
type Machine struct {
	Name string
	Dir  string
}

// File returns the path of one of the machine's files.
func (m Machine) File(name string) string { return filepath.Join(m.Dir, name) }

// Lock is the lock of a machine, held.
type Lock struct{ f *os.File }

// File is the open file of the lock. A process that inherits it holds the lock
// too.
func (l *Lock) File() *os.File { return l.f }

// Release gives the lock up, unless another process holds it too.
func (l *Lock) Release() { l.f.Close() }

// InheritLock takes over the lock from the process that started this one.
func InheritLock(f *os.File) *Lock { return &Lock{f} }

// Create makes the directory of a new machine and returns it locked. Nobody
// ever sees the directory without its lock held and its plan in it.
func (s Store) Create(p plan.Plan) (Machine, *Lock, error) {
	m := s.At(p.Name)
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return m, nil, fmt.Errorf("make the directory of machines: %w", err)
	}
	tmp, err := os.MkdirTemp(s.Dir, newPrefix+p.Name+"-")
	if err != nil {
		return m, nil, fmt.Errorf("make machine %s: %w", p.Name, err)
	}
	lock, err := s.fill(tmp, p)
	if err == nil {
		// Fails when a directory with anything in it has the name.
		err = unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, m.Dir, unix.RENAME_NOREPLACE)
		if errors.Is(err, fs.ErrExist) {
			err = fault.New(fault.NameTaken, fault.Args{"name": p.Name}, "the name %s is %w", p.Name, ErrTaken)
		}
	}
	if err != nil {
		os.RemoveAll(tmp)
		if lock != nil {
			lock.Release()
		}
		return m, nil, err
	}
	return m, lock, nil
}

func (s Store) fill(dir string, p plan.Plan) (*Lock, error) {
	// Locked before it has its name: who clears leftovers away must not get
	// in between.
	name := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(name+".new", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make machine %s: %w", p.Name, err)
	}
	lock := &Lock{f}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return lock, fmt.Errorf("lock machine %s: %w", p.Name, err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return lock, fmt.Errorf("make machine %s: %w", p.Name, err)
	}
	// Before anybody else can make files here.
	if err := os.WriteFile(filepath.Join(dir, applyLockFile), nil, 0o600); err != nil {
		return lock, fmt.Errorf("make machine %s: %w", p.Name, err)
	}
	return lock, WriteJSON(filepath.Join(dir, PlanFile), p)
}

// At returns the place of a machine, whether there is one or not.
func (s Store) At(name string) Machine {
	return Machine{Name: name, Dir: filepath.Join(s.Dir, name)}
}

// Get returns the machine name.
func (s Store) Get(name string) (Machine, error) {
	m := s.At(name)
	if naming.Valid(name) {
		if fi, err := os.Lstat(m.Dir); err == nil && fi.IsDir() {
			return m, nil
		}
	}
	return m, fault.New(fault.MachineNotFound, fault.Args{"name": name}, "%w: %s", ErrNotFound, termsafe.Quote(name))
}

// List returns all machines, sorted by name.
func (s Store) List() ([]Machine, error) {
	entries, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list machines: %w", err)
	}
	var ms []Machine
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), newPrefix) {
			ms = append(ms, Machine{e.Name(), filepath.Join(s.Dir, e.Name())})
		}
	}
	return ms, nil
}

// Leftovers returns directories that somebody began to make or to remove. Each
// is to be locked as a machine is.
func (s Store) Leftovers() ([]Machine, error) {
	entries, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list machines: %w", err)
	}
	var ms []Machine
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), newPrefix) {
			ms = append(ms, Machine{e.Name(), filepath.Join(s.Dir, e.Name())})
		}
	}
	return ms, nil
}

// Alive reports whether somebody holds the machine's lock.
func (m Machine) Alive() bool {
	f, err := os.Open(m.File(lockFile))
	if err != nil {
		return false
	}
	defer f.Close()
	// Shared, so that two who ask do not take each other for a supervisor.
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// TryLock takes the machine's lock. The error wraps ErrAlive when somebody else
// holds it for longer than a question by Alive takes, and ErrNotFound when the
// machine is gone.
func (m Machine) TryLock() (*Lock, error) {
	f, err := os.OpenFile(m.File(lockFile), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		// Somebody was killed while making or removing the directory.
		// Only a new one can be taken for such by mistake.
		if fi, statErr := os.Stat(m.Dir); statErr == nil && time.Since(fi.ModTime()) < 10*time.Second {
			return nil, fmt.Errorf("lock machine %s: %w", m.Name, ErrAlive)
		}
		f, err = os.OpenFile(m.File(lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lock machine %s: %w", m.Name, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("lock machine %s: %w", m.Name, err)
	}
	for range 20 {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			if !m.isLock(f) {
				// The machine was removed while we waited, and
				// another may have its name.
				f.Close()
				return nil, fmt.Errorf("lock machine %s: %w", m.Name, ErrNotFound)
			}
			return &Lock{f}, nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	f.Close()
	return nil, fmt.Errorf("lock machine %s: %w", m.Name, ErrAlive)
}

// isLock reports whether f is the machine's lock still.
func (m Machine) isLock(f *os.File) bool {
	ours, err := f.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(m.File(lockFile))
	return err == nil && os.SameFile(ours, now)
}

// Remove deletes the machine's directory. The caller holds its lock. The name
// is free at once, and what a kill leaves is a leftover. A caller that may change no
// other directory, as a supervisor that has confined itself, removes it where it is: then
// the name is free at the end.
func (m Machine) Remove() error {
	dead := m.Dir
	if !strings.HasPrefix(m.Name, newPrefix) {
		dead = filepath.Join(filepath.Dir(m.Dir), fmt.Sprintf("%sdead-%s-%d", newPrefix, m.Name, time.Now().UnixNano()))
		if err := os.Rename(m.Dir, dead); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if errors.Is(err, fs.ErrPermission) {
				err = m.removeInPlace()
			}
			if err != nil {
				return fmt.Errorf("remove machine %s: %w", m.Name, err)
			}
			return nil
		}
	}
	if err := os.RemoveAll(dead); err != nil {
		return fmt.Errorf("remove machine %s: %w", m.Name, err)
	}
	return nil
}

// removeInPlace deletes the machine's directory under its name. What says whose it is
// goes last: a kill leaves a machine that is dead.
func (m Machine) removeInPlace() error {
	entries, err := os.ReadDir(m.Dir)
	if err != nil {
		return err
	}
	last := []string{StatusFile, PlanFile, lockFile}
	for _, e := range entries {
		if slices.Contains(last, e.Name()) {
			continue
		}
		if err := os.RemoveAll(m.File(e.Name())); err != nil {
			return err
		}
	}
	for _, name := range last {
		if err := os.Remove(m.File(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return os.Remove(m.Dir)
}

// Plan reads the machine's plan.
func (m Machine) Plan() (plan.Plan, error) {
	data, err := os.ReadFile(m.File(PlanFile))
	if err != nil {
		return plan.Plan{}, fmt.Errorf("read the plan of %s: %w", m.Name, err)
	}
	p, err := plan.Decode(data)
	if err != nil {
		return p, fmt.Errorf("read the plan of %s: %w", m.Name, err)
	}
	return p, nil
}

// SaveTranscripts moves what the agents of m said, as its supervisor has put it into m's
// directory, to what the machine keeps. The caller holds m's lock.
func (m Machine) SaveTranscripts() error {
	from := m.File(TranscriptsFile)
	if fi, err := os.Lstat(from); err != nil || !fi.Mode().IsRegular() {
		return nil
	}
	p, err := m.Plan()
	if err != nil {
		return nil // there is nothing to keep it in
	}
	d, ok := definition.Of(p)
	if !ok {
		return nil
	}
	// It may be that of the supervisor's user.
	err = errors.Join(os.Lchown(from, os.Geteuid(), os.Getegid()), os.Chmod(from, 0o600))
	if err == nil {
		err = os.Rename(from, d.File(definition.TranscriptsFile))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep the transcripts of %s: %w", m.Name, err)
	}
	return nil
}

// ReadJSON reads the file name into v.
func ReadJSON(name string, v any) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(name), err)
	}
	return nil
}

// WriteJSON writes v to the file name, all or nothing. It does not wait for the
// disk: the start of a machine does it often, and no machine outlives a crash of
// the host.
func WriteJSON(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(name), err)
	}
	return atomicfile.WriteUnsynced(name, append(data, '\n'), 0o600)
}

// FromDir returns the machine whose directory is dir.
func FromDir(dir string) (Machine, error) {
	name := filepath.Base(dir)
	if err := naming.Check(name); err != nil {
		return Machine{}, err
	}
	return Machine{Name: name, Dir: dir}, nil
}

// PlacedFile returns where it is noted what applies of the machine with this plan have put
// at which paths.
func (m Machine) PlacedFile(p plan.Plan) string {
	if d, ok := definition.Of(p); ok {
		return d.File(definition.PlacedFile)
	}
	return m.File(PlacedFile)
}

// WorkspaceFiles returns where the packed workspace of the machine with this plan and its
// manifest are.
func (m Machine) WorkspaceFiles(p plan.Plan) (packed, manifest string) {
	if d, ok := definition.Of(p); ok {
		return d.File(definition.CopyFile), d.File(definition.ManifestFile)
	}
	return m.File(WorkspaceFile), m.File(ManifestFile)
}

// SyncFiles are the files of what was sent into a copy of a workspace.
type SyncFiles struct {
	Synced  string // what was sent
	Sending string // what is being sent, while it is not known to be there
	Sent    string // a directory: the contents that were sent
}

// SyncFiles returns where they are for the machine with this plan.
func (m Machine) SyncFiles(p plan.Plan) SyncFiles {
	if d, ok := definition.Of(p); ok {
		return SyncFiles{d.File(definition.SyncedFile), d.File(definition.SendingFile), d.File(definition.SentDir)}
	}
	return SyncFiles{m.File(SyncedFile), m.File(SendingFile), m.File(SentDir)}
}
