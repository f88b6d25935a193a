package filelock_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/filelock"
)

func TestAcquire(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	release, err := filelock.Acquire(t.Context(), path, func() { t.Error("waited for a free lock") })
	if err != nil {
		t.Fatal(err)
	}

	// flock belongs to the open file, so a second one excludes even us.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	waited := false
	if _, err := filelock.Acquire(ctx, path, func() { waited = true; cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("Acquire of a held lock = %v; want %v", err, context.Canceled)
	}
	if !waited {
		t.Error("Acquire of a held lock did not say that it waits")
	}

	got := make(chan error, 1)
	go func() {
		release, err := filelock.Acquire(t.Context(), path, nil)
		if err == nil {
			release()
		}
		got <- err
	}()
	release()
	if err := <-got; err != nil {
		t.Errorf("Acquire after release = %v; want nil", err)
	}

	if _, err := filelock.Acquire(t.Context(), filepath.Join(path, "no"), nil); err == nil {
		t.Error("Acquire of a path that cannot be = nil; want an error")
	}
}

func TestTry(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	if _, err := filelock.Try(dir, true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Try of nothing = %v; want %v", err, fs.ErrNotExist)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	try := func(exclusive bool, want error) *os.File {
		t.Helper()
		f, err := filelock.Try(dir, exclusive)
		if !errors.Is(err, want) {
			t.Fatalf("Try(exclusive: %v) = %v; want %v", exclusive, err, want)
		}
		return f
	}
	first := try(false, nil)
	second := try(false, nil)
	try(true, filelock.ErrLocked)
	first.Close()
	second.Close()
	first = try(true, nil)
	try(false, filelock.ErrLocked)
	first.Close()
	try(true, nil).Close()
}
