package image

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/diskspace"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image/tool"
)

// NoSpaceError says that a file system has not enough free space for a build.
type NoSpaceError struct {
	Dir       string
	Need      int64 // bytes, an estimate
	Available int64 // bytes
}

func (e *NoSpaceError) Error() string {
	return fmt.Sprintf("not enough space in %s: the build needs about %d MiB, %d MiB are available",
		e.Dir, e.Need>>20, e.Available>>20)
}

func noSpace(dir string, need, available int64) error {
	args := fault.Args{"dir": dir, "bytes": strconv.FormatInt(need, 10), "free": strconv.FormatInt(available, 10)}
	return fault.Wrap(&NoSpaceError{dir, need, available}, fault.NoSpaceForImage, args)
}

// space is how much a build takes while it runs: what stays in the store, and
// what is needed for a while beside it.
type space struct{ store, build int64 }

func (a space) add(b space) space { return space{a.store + b.store, a.build + b.build} }

// checkSpace returns a NoSpaceError if need is not there.
func (s *Store) checkSpace(need space) error {
	store, storeDev, err := available(s.opts.Dir)
	if err != nil {
		return err
	}
	build, buildDev, err := available(s.opts.BuildDir)
	if err != nil {
		return err
	}
	if storeDev == buildDev {
		need.store += need.build
		need.build = 0
	}
	if store < need.store {
		return noSpace(s.opts.Dir, need.store, store)
	}
	if build < need.build {
		return noSpace(s.opts.BuildDir, need.build, build)
	}
	return nil
}

// explainSpace turns the error of a build that ran out of space into the same
// error that checkSpace gives, and leaves every other error alone.
func (s *Store) explainSpace(err error, need space) error {
	if err == nil {
		return nil
	}
	full := errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
	if t, ok := errors.AsType[*tool.Error](err); ok {
		full = full || strings.Contains(t.Tail, unix.ENOSPC.Error()) || strings.Contains(t.Tail, "No space left") ||
			strings.Contains(t.Tail, "enough free space")
	}
	if _, ok := errors.AsType[*NoSpaceError](err); ok || !full {
		return err
	}
	// The build is gone from the disk by now; what was there when it failed is
	// not known. The fuller of the two file systems is the likely one.
	dir, want := s.opts.Dir, need.store
	store, _, err1 := available(s.opts.Dir)
	build, _, err2 := available(s.opts.BuildDir)
	if err1 == nil && err2 == nil && build < store {
		dir, want, store = s.opts.BuildDir, need.build, build
	}
	return fmt.Errorf("%w: %w", noSpace(dir, want, store), err)
}

func available(dir string) (free int64, device uint64, err error) {
	free, err = diskspace.Free(dir)
	if err != nil {
		return 0, 0, err
	}
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return free, stat.Dev, nil
}

// DiskUsage returns what a file or tree takes on the disk, in bytes. What cannot
// be read counts for nothing.
func DiskUsage(path string) (bytes int64) {
	filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if fi, err := d.Info(); err == nil {
			if st, ok := fi.Sys().(*syscall.Stat_t); ok {
				bytes += st.Blocks * 512
			}
		}
		return nil
	})
	return bytes
}
