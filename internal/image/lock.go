package image

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/mayfly-vm/mayfly/internal/filelock"
)

// storeLock is the name of the lock that builders hold shared, and whoever
// removes things exclusively: what a build has made and not yet put into a
// manifest looks like garbage.
const storeLock = "store"

// acquire takes the named lock. It calls waiting once if it has to wait. What writes to
// the store takes a lock or a temporary directory first: they make its directories.
func (s *Store) acquire(ctx context.Context, name string, exclusive bool, waiting func()) (release func(), err error) {
	if err := s.makeDirs(); err != nil {
		return nil, err
	}
	path := s.path(dirLocks, name)
	for first := true; ; first = false {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		f.Close()
		f, err = filelock.Try(path, exclusive)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, filelock.ErrLocked) && !errors.Is(err, os.ErrNotExist) {
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
