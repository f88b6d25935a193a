package userfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	file, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo")
	text := strings.Repeat("0123456789abcdef", 64)
	if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), unix.Mkfifo(fifo, 0o600), os.Symlink(fifo, filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(file, len(text)); string(got) != text || err != nil {
		t.Errorf("Read of a file of the limit = %d bytes, %v; want %d", len(got), err, len(text))
	}
	if _, err := Read(file, len(text)-1); err == nil || !strings.Contains(err.Error(), "is larger than") {
		t.Errorf("Read of a file over the limit = %v", err)
	}
	// A file whose size is not known before.
	if got, err := Read("/proc/self/cmdline", 1<<20); len(got) == 0 || err != nil {
		t.Errorf("Read of a file without a size = %q, %v", got, err)
	}
	if _, err := Read(filepath.Join(dir, "none"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read of no file = %v", err)
	}
	for _, name := range []string{dir, fifo, filepath.Join(dir, "link"), "/dev/zero", "/dev/null", "/dev/tty", "/dev/kmsg"} {
		if _, err := os.Lstat(name); err != nil {
			continue
		}
		if _, err := Read(name, 1<<10); !errors.Is(err, ErrNotRegular) {
			t.Errorf("Read(%s) = %v; want ErrNotRegular", name, err)
		}
	}
	if _, err := OpenRoot(fifo); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("OpenRoot(fifo) = %v", err)
	}
	if root, err := OpenRoot(dir); err != nil {
		t.Errorf("OpenRoot(dir) = %v", err)
	} else {
		root.Close()
	}
}

// Some regular files of the kernel's wait for what it has to say.
func TestReadWaitsForNothing(t *testing.T) {
	for _, name := range []string{"/proc/kmsg", "/sys/kernel/tracing/trace_pipe"} {
		done := make(chan error, 1)
		go func() {
			// With much of a log, the limit is reached first.
			_, err := Read(name, 1<<30)
			done <- err
		}()
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("Read(%s) = nil; want an error", name)
			}
		case <-time.After(time.Minute):
			t.Fatalf("Read(%s) does not return", name)
		}
	}
}
