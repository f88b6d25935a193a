package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// errLocked means that another process, or another part of this one, holds a
// lock.
var errLocked = errors.New("locked")

// tryLock locks a file or directory that exists. The lock goes with the
// returned file, so a process that dies holds none.
func tryLock(path string, exclusive bool) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	for {
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		if err == unix.EWOULDBLOCK {
			return nil, errLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// Who held the lock before may have removed what it stands for.
	if err := sameFile(f, path); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func sameFile(f *os.File, path string) error {
	open, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !os.SameFile(open, named) {
		return errLocked
	}
	return nil
}

// storeLock is the name of the lock that builders hold shared, and whoever
// removes things exclusively: what a build has made and not yet put into a
// manifest looks like garbage.
const storeLock = "store"

// acquire takes the named lock. It calls waiting once if it has to wait.
func (s *Store) acquire(ctx context.Context, name string, exclusive bool, waiting func()) (release func(), err error) {
	path := s.path(dirLocks, name)
	for first := true; ; first = false {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		f.Close()
		f, err = tryLock(path, exclusive)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, errLocked) && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if first && waiting != nil {
			waiting()
		}
		// flock can wait by itself, but not be cancelled without a signal.
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
