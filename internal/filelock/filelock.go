// Package filelock makes processes take turns.
//
// A lock is an flock(2) on a file: it ends with its holder, however the holder
// ends, and leaves nothing to clean up but an empty file.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocked means that somebody else holds a lock, or that what it stands for was
// removed meanwhile.
var ErrLocked = errors.New("locked")

// Try locks a file or directory that exists, shared or exclusive, without waiting.
// The lock goes with the returned file. The error wraps ErrLocked when somebody
// else has it, and fs.ErrNotExist when there is nothing at path.
func Try(path string, exclusive bool) (*os.File, error) {
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
	switch {
	case err == unix.EWOULDBLOCK:
		err = ErrLocked
	case err != nil:
		err = fmt.Errorf("lock %s: %w", path, err)
	default:
		// Who held the lock before may have removed what it stands for.
		err = checkSame(f, path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// checkSame returns ErrLocked unless f is what is at path.
func checkSame(f *os.File, path string) error {
	open, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !os.SameFile(open, named) {
		return ErrLocked
	}
	return nil
}

// Acquire locks the file at path, which it makes when it is missing, and waits
// for its turn until ctx ends. Before the first wait it calls waiting, if that
// is not nil. The file must never be removed: whoever waited for the removed
// one would hold a lock of his own.
func Acquire(ctx context.Context, path string, waiting func()) (release func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	for first := true; ; first = false {
		// Not the blocking call: it could not be given up.
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if first && waiting != nil {
			waiting()
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for lock %s: %w", path, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}
