// Package definition keeps what machines with a name of their own are: for each a
// configuration file, NAME.toml, and a directory for what outlives its stops.
//
// Names come in, files and directories are made, found and removed. It does not say
// what is in the configuration (package config), what becomes of it (package plan),
// or whether a machine runs (package state).
package definition

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/filelock"
	"github.com/mayfly-vm/mayfly/internal/naming"
)

// The files of what a machine keeps, in its directory.
const (
	KeepFile        = "keep.img"           // ext4: changes of the workspace, state of agents
	CopyFile        = "workspace.img"      // EROFS, the private copy
	ManifestFile    = "workspace.manifest" // what was packed
	PlacedFile      = "workspace.placed"   // what applies have put at which paths
	SyncedFile      = "workspace.synced"   // what was sent into the copy since
	SendingFile     = "workspace.sending"  // what a sync is about to change in the copy
	SentDir         = "workspace.sent"     // contents that were sent
	VolumesDir      = "volumes"            // NAME.img, ext4
	SizesFile       = "volumes.json"       // the size of each, in MiB
	TranscriptsFile = "transcripts.tar"    // of the agents, as the guest packed them at the last stop
	// PlaceholdersFile holds what stands for secrets in the machine, and no secret.
	PlaceholdersFile = "placeholders.json"
	HostKeyFile      = "ssh_host_ed25519_key" // of the machine's SSH server, OpenSSH's format
)

// Store is where definitions are.
type Store struct {
	ConfigDir string // what the user wrote: machines/NAME.toml
	StateDir  string // what is kept: kept/NAME
}

// Definition is one machine's. Either may be missing: a user can remove a file.
type Definition struct {
	Name string
	Path string // of the configuration file
	Dir  string // of what is kept
}

// ErrNotFound is wrapped by the error for a machine that is not defined.
var ErrNotFound = errors.New("no machine has this name")

func (s Store) files() string { return filepath.Join(s.ConfigDir, "machines") }
func (s Store) dirs() string  { return filepath.Join(s.StateDir, "kept") }

// At returns the definition of name, whether there is one or not.
func (s Store) At(name string) Definition {
	return Definition{name, filepath.Join(s.files(), name+".toml"), filepath.Join(s.dirs(), name)}
}

// Get returns the definition of name.
func (s Store) Get(name string) (Definition, error) {
	d := s.At(name)
	if naming.Valid(name) {
		if fi, err := os.Stat(d.Path); err == nil && fi.Mode().IsRegular() {
			return d, nil
		}
	}
	return d, fault.New(fault.MachineUndefined, fault.Args{"name": name}, "%w: %.80q", ErrNotFound, name)
}

// List returns all definitions, sorted by name.
func (s Store) List() ([]Definition, error) {
	entries, err := os.ReadDir(s.files())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list machines: %w", err)
	}
	var all []Definition
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".toml")
		if ok && naming.Valid(name) {
			all = append(all, s.At(name))
		}
	}
	slices.SortFunc(all, func(a, b Definition) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// LockFiles waits until nobody else of mayfly writes the files of machines, and keeps
// others from it until release is called.
func (s Store) LockFiles(ctx context.Context) (release func(), err error) {
	return filelock.Acquire(ctx, filepath.Join(s.files(), ".lock"), nil)
}

// Create defines the machine name. The file is what write returns; it is called with
// what other machines have taken, and while it runs no other machine is defined. An
// error leaves nothing behind.
func (s Store) Create(ctx context.Context, name string, write func(Taken) ([]byte, error)) (_ Definition, err error) {
	d := s.At(name)
	if err := naming.Check(name); err != nil {
		return d, err
	}
	for _, dir := range []string{s.files(), s.dirs()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return d, fmt.Errorf("define machine %s: %w", name, err)
		}
	}
	release, err := s.LockFiles(ctx)
	if err != nil {
		return d, fmt.Errorf("define machine %s: %w", name, err)
	}
	defer release()
	if _, err := os.Lstat(d.Path); err == nil {
		return d, fault.New(fault.MachineDefined, fault.Args{"name": name, "file": d.Path}, "machine %s is defined already, in %s", name, d.Path)
	}
	taken, err := s.taken()
	if err != nil {
		return d, err
	}
	data, err := write(taken)
	if err != nil {
		return d, err
	}
	switch err := os.Mkdir(d.Dir, 0o700); {
	case errors.Is(err, fs.ErrExist):
		return d, fault.New(fault.MachineDataLeft, fault.Args{"name": name, "dir": d.Dir}, "an earlier machine %s has left data in %s", name, d.Dir)
	case err != nil:
		return d, fmt.Errorf("define machine %s: %w", name, err)
	}
	if err := atomicfile.WriteNew(d.Path, data, 0o644); err != nil {
		return d, fmt.Errorf("define machine %s: %w", name, errors.Join(err, os.Remove(d.Dir)))
	}
	return d, nil
}

// Remove removes the definition and what was kept. The machine must not run.
func (s Store) Remove(name string) error {
	d := s.At(name)
	if err := naming.Check(name); err != nil {
		return err
	}
	_, fileErr := os.Lstat(d.Path)
	_, dirErr := os.Lstat(d.Dir)
	if errors.Is(fileErr, fs.ErrNotExist) && errors.Is(dirErr, fs.ErrNotExist) {
		_, err := s.Get(name)
		return err
	}
	// The file first: what is left without it is data that nobody uses, and
	// another Remove removes that.
	if err := os.Remove(d.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove machine %s: %w", name, err)
	}
	return d.removeDir()
}

// removeDir removes what is kept. Its name is free at once.
func (d Definition) removeDir() error {
	dead := filepath.Join(filepath.Dir(d.Dir), fmt.Sprintf(".dead-%s-%d", d.Name, time.Now().UnixNano()))
	err := os.Rename(d.Dir, dead)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.RemoveAll(dead)
	}
	if err != nil {
		return fmt.Errorf("remove the data of machine %s: %w", d.Name, err)
	}
	return nil
}

// Reset removes what the machine has written: volumes, the copy of the workspace with
// all changes, and the state of agents. Its identity stays.
func (d Definition) Reset() error {
	// In this order a crash leaves an older state or an empty one, and never
	// new data beside old changes.
	for _, name := range []string{KeepFile, PlacedFile, ManifestFile, CopyFile, SyncedFile, SendingFile, SentDir, SizesFile, VolumesDir} {
		if err := os.RemoveAll(filepath.Join(d.Dir, name)); err != nil {
			return fmt.Errorf("reset machine %s: %w", d.Name, err)
		}
	}
	return nil
}

// ResetCopy removes the copy of the workspace with all changes.
func (d Definition) ResetCopy() error {
	for _, name := range []string{PlacedFile, ManifestFile, CopyFile, SyncedFile, SendingFile, SentDir} {
		if err := os.RemoveAll(filepath.Join(d.Dir, name)); err != nil {
			return fmt.Errorf("reset the copy of machine %s: %w", d.Name, err)
		}
	}
	return nil
}

// Collect removes what a killed Remove has left.
func (s Store) Collect() error {
	left, err := filepath.Glob(filepath.Join(s.dirs(), ".dead-*"))
	if err != nil {
		return err
	}
	var temps []string
	for _, dir := range []string{s.files(), filepath.Join(s.dirs(), "*"), filepath.Join(s.StateDir, transcriptsDir)} {
		more, err := filepath.Glob(filepath.Join(dir, atomicfile.Leftovers))
		if err != nil {
			return err
		}
		temps = append(temps, more...)
	}
	var errs []error
	for _, path := range left {
		errs = append(errs, os.RemoveAll(path))
	}
	for _, path := range temps {
		// One that is being written is minutes younger.
		if fi, err := os.Lstat(path); err == nil && time.Since(fi.ModTime()) > 10*time.Minute {
			errs = append(errs, os.Remove(path))
		}
	}
	return errors.Join(errs...)
}
