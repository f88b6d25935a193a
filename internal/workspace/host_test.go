package workspace

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// What is read of the host's directory is in it, and is a file.
func TestHost(t *testing.T) {
	outside := t.TempDir()
	dir := t.TempDir()
	write := func(p, text string) error { return os.WriteFile(p, []byte(text), 0o644) }
	err := errors.Join(
		write(filepath.Join(outside, "secret"), "secret"),
		os.MkdirAll(filepath.Join(dir, "a/b"), 0o755),
		write(filepath.Join(dir, "a/file"), "content"),
		os.Symlink(outside, filepath.Join(dir, "out")),
		os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "link")),
		unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	h, err := OpenHost(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for _, tt := range []struct {
		path, want string
		max        int
	}{{"a/file", "content", 100}, {"a/file", "cont", 4}} {
		if got, err := h.Read(tt.path, tt.max); err != nil || string(got) != tt.want {
			t.Errorf("Read(%q, %d) = %q, %v; want %q", tt.path, tt.max, got, err, tt.want)
		}
	}
	for _, path := range []string{"out/secret", "link", "pipe", "a", "none", "../" + filepath.Base(outside) + "/secret", filepath.Join(outside, "secret")} {
		if got, err := h.Read(path, 100); err == nil {
			t.Errorf("Read(%q) = %q; want an error", path, got)
		}
	}
	for path, want := range map[string][]string{"a": {"b", "file"}, ".": {"a", "link", "out", "pipe"}, "out": nil, "..": nil, "none": nil} {
		got := h.Names(path)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("Names(%q) = %q; want %q", path, got, want)
		}
	}
}
