package image

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/mayfly-vm/mayfly/internal/apt"
	"github.com/mayfly-vm/mayfly/internal/filelock"
	"github.com/mayfly-vm/mayfly/internal/image/agents"
)

// formatVersion is part of every recipe. It goes up when the same recipe starts
// to give other files; what an older version built is then not found any more
// and goes at the next prune.
const formatVersion = 1

// baseVersion is the same for bases alone, and so for what is built upon them: kernels and
// coding agents need not be fetched again.
const baseVersion = 2

// The directories of a store.
const (
	dirLayers   = "layers/sha256" // DIFF_ID.erofs and DIFF_ID.json
	dirKernels  = "kernels"       // ID/{kernel.json,vmlinux,modules/*.ko,modules.tar}
	dirBoot     = "boot"          // KEY/initramfs.cpio
	dirScratch  = "scratch"       // KEY.ext4
	dirRecipes  = "recipes"       // KEY.json: what a recipe gave
	dirImages   = "images"        // KEY.json: manifests
	dirLocks    = "locks"
	dirTemp     = "tmp" // RANDOM/, each locked by the process that fills it
	kernelFile  = "kernel.json"
	initramfs   = "initramfs.cpio"
	modulesDir  = "modules"
	treeFile    = "modules.tar"
	layerSuffix = ".erofs"
)

// Options of a store.
type Options struct {
	// Dir is the store, such as ~/.local/share/mayfly/store.
	Dir string

	// BuildDir is where root file systems are unpacked while they are built,
	// such as /var/tmp. A normal user's builds run under other user ids, which
	// must be able to reach it: a directory inside of a private home is no use.
	BuildDir string

	// CacheDir keeps downloads and package lists, such as ~/.cache/mayfly.
	// Empty means a directory in the store.
	CacheDir string

	// AptDir is where the host names its mirror of Debian; empty means
	// apt.HostDir. Without one there, mmdebstrap's own choice is used.
	AptDir string

	// Agent is the program that becomes a machine's process 1.
	Agent *io.SectionReader

	// AgentsLock is a lock file of the user's, whose entries take the place of
	// the built-in ones. It need not exist.
	AgentsLock string
}

// Store is a directory of images and of what they share. Any number of
// processes may use one at the same time.
type Store struct {
	opts Options
	lock agents.Lock

	agentID func() (string, error) // of Options.Agent, found out once
}

// Open opens a store. Its directories are made by what first writes to it.
func Open(o Options) (*Store, error) {
	lock, err := agents.Load(o.AgentsLock)
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	if o.CacheDir == "" {
		o.CacheDir = filepath.Join(o.Dir, "cache")
	}
	o.AptDir = cmp.Or(o.AptDir, apt.HostDir)
	return &Store{
		opts: o, lock: lock,
		agentID: sync.OnceValues(func() (string, error) { return programID(o.Agent) }),
	}, nil
}

// makeDirs makes the directories of the store.
func (s *Store) makeDirs() error {
	for _, dir := range []string{dirLayers, dirKernels, dirBoot, dirScratch, dirRecipes, dirImages, dirLocks, dirTemp} {
		if err := os.MkdirAll(s.path(dir), 0o755); err != nil {
			return fmt.Errorf("make the image store: %w", err)
		}
	}
	return nil
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.opts.Dir}, elem...)...)
}

func (s *Store) layerPath(diffID string) string   { return s.path(dirLayers, diffID+layerSuffix) }
func (s *Store) sidecarPath(diffID string) string { return s.path(dirLayers, diffID+".json") }

// temp makes a directory for one build. It is locked until release, which
// removes it: a directory that can be locked belongs to nobody any more.
func (s *Store) temp() (dir string, release func(), err error) {
	dir, lock, err := s.lockedTemp()
	if err != nil {
		return "", nil, err
	}
	return dir, func() {
		os.RemoveAll(dir)
		lock.Close()
	}, nil
}

func (s *Store) lockedTemp() (dir string, lock *os.File, err error) {
	if err := s.makeDirs(); err != nil {
		return "", nil, err
	}
	for range 10 {
		dir, err = os.MkdirTemp(s.path(dirTemp), "")
		if err != nil {
			return "", nil, err
		}
		lock, err = filelock.Try(dir, true)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, filelock.ErrLocked) {
			continue // a prune saw it before it was locked
		}
		if err != nil {
			return "", nil, err
		}
		return dir, lock, nil
	}
	return "", nil, errors.New("make temporary directory: it is removed again and again")
}
