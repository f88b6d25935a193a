package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/filelock"
)

// LockApply lets the changes of m be applied by one process at a time, and keeps its
// directory until release. Before it waits for its turn it calls waiting with the number of
// the process that has it, 0 if that is not known. The error wraps ErrNotFound if the
// machine was removed meanwhile.
func (m Machine) LockApply(ctx context.Context, waiting func(pid int)) (release func(), err error) {
	if _, err := os.Stat(m.Dir); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, m.Name)
	}
	path := m.File(applyLockFile)
	unlock, err := filelock.Acquire(ctx, path, func() { waiting(m.Applying()) })
	if err != nil {
		return nil, err
	}
	// Who had the lock may have removed the machine, and its directory with the file.
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		unlock()
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %s", ErrNotFound, m.Name)
		}
		return nil, err
	}
	return func() {
		// By an open: a supervisor that is confined may truncate nothing by its name.
		if f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0); err == nil {
			f.Close()
		}
		unlock()
	}, nil
}

// Applying returns the number of the process that applies the changes of m, 0 if there is
// none, or it is not known yet.
func (m Machine) Applying() int {
	f, err := os.Open(m.File(applyLockFile))
	if err != nil {
		return 0
	}
	defer f.Close()
	var text [20]byte
	n, _ := f.Read(text[:])
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if err != nil {
		return 0
	}
	return pid
}
