package diskspace

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestFree(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "not/yet"), "/", "not-here"} {
		if free, err := Free(path); err != nil || free <= 0 {
			t.Errorf("Free(%q) = %d, %v; want some bytes", path, free, err)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Free(file + "/x"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("Free() below a file = %v; want %v", err, syscall.ENOTDIR)
	}
	if _, err := Free(""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Free() of no path = %v; want %v", err, fs.ErrNotExist)
	}
}
