package workspace

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// maxNames bounds the names that Names returns of one directory.
const maxNames = 10_000

// Host is the workspace's directory on the host, to be read from: never through a symbolic
// link, and never outside of it.
type Host struct{ root int }

// OpenHost opens the directory dir.
func OpenHost(dir string) (*Host, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", termsafe.Quote(dir), err)
	}
	return &Host{fd}, nil
}

// Close gives the directory up.
func (h *Host) Close() error { return unix.Close(h.root) }

// Read returns the first max bytes of the file at a path.
func (h *Host) Read(path string, max int) ([]byte, error) {
	f, err := h.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, int64(max)))
}

// Open opens the file at a path.
func (h *Host) Open(path string) (*os.File, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	fd, err := openBeneath(h.root, path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%s is no file", termsafe.Quote(path))
	}
	return f, nil
}

// Names returns the names in the directory at a path, "." for the workspace itself; none
// if there is no such directory.
func (h *Host) Names(path string) []string {
	fd, err := openBeneath(h.root, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	names, _ := f.Readdirnames(maxNames) // those that were read before an error are there
	return names
}
