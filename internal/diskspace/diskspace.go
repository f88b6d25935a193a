// Package diskspace measures file systems.
package diskspace

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Free returns the bytes free for this user on the file system that holds path,
// or will hold it once it is made.
func Free(path string) (int64, error) {
	u, err := Of(path)
	return u.Free, err
}

// Usage is how large a file system is, and how much of it this user can still use, in
// bytes.
type Usage struct{ Total, Free int64 }

// Of measures the file system that holds path, or will hold it once it is made.
func Of(path string) (Usage, error) {
	var st unix.Statfs_t
	for existing := path; ; existing = filepath.Dir(existing) {
		err := unix.Statfs(existing, &st)
		if err == nil {
			return Usage{int64(st.Blocks) * st.Bsize, int64(st.Bavail) * st.Bsize}, nil
		}
		if !errors.Is(err, unix.ENOENT) || path == "" || existing == filepath.Dir(existing) {
			return Usage{}, fmt.Errorf("free space of %s: %w", path, err)
		}
	}
}
