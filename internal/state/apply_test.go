package state

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A disk that is full is not a machine that was removed.
func TestLockApplyFullDisk(t *testing.T) {
	m := Machine{Name: "m", Dir: t.TempDir()}
	if err := os.Symlink("/dev/full", m.File(applyLockFile)); err != nil {
		t.Fatal(err)
	}
	_, err := m.LockApply(t.Context(), func(int) {})
	if !errors.Is(err, unix.ENOSPC) || errors.Is(err, ErrNotFound) {
		t.Errorf("LockApply() on a full disk = %v; want %v", err, unix.ENOSPC)
	}
}
