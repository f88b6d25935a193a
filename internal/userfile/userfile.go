// Package userfile reads files that a user names, or that lie where users put them: a
// name goes in, and all of the file comes out, or an error that says what is wrong. The
// file may be anything: a pipe and a device are not opened, a file that never ends is
// bounded, and nothing waits for one that has no data, as some in /proc have.
package userfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// ErrNotRegular is the error for what is not a regular file.
var ErrNotRegular = errors.New("not a regular file")

func notRegular(name string) error {
	return fmt.Errorf("%s is %w", termsafe.Quote(name), ErrNotRegular)
}

// Read returns the content of the regular file name, which has at most limit bytes.
func Read(name string, limit int) ([]byte, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, notRegular(name)
	}
	// It may have become a pipe meanwhile, whose opening would wait for a writer.
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, notRegular(name)
	}
	data := make([]byte, 0, min(max(int(st.Size), 512), limit)+1)
	for len(data) <= limit {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		// Not by package os, which waits for a file that has no data yet.
		n, err := unix.Read(fd, data[len(data):cap(data)])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return nil, notRegular(name)
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: name, Err: err}
		case n == 0:
			return data, nil
		}
		data = data[:len(data)+n]
	}
	return nil, fmt.Errorf("%s is larger than %d KiB", termsafe.Quote(name), limit>>10)
}

// OpenRoot opens the directory name. To open what is none may wait for ever.
func OpenRoot(name string) (*os.Root, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: unix.ENOTDIR}
	}
	return os.OpenRoot(name)
}
