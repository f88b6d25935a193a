package workspace

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// openBeneath opens path, relative to the open directory root, without
// following any symbolic link and without leaving root, whatever happens to
// the tree meanwhile. O_CLOEXEC is implied.
func openBeneath(root int, path string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags) | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(root, path, &how)
		switch err {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			continue // a rename elsewhere raced with the lookup (openat2(2))
		case unix.EXDEV:
			// A directory on the way was moved out of root under the
			// lookup. Nothing in path itself leads out.
			return -1, unix.ENOENT
		case unix.ENOSYS:
			return -1, fmt.Errorf("openat2, which needs Linux 5.6: %w", err)
		}
		return fd, err
	}
}

// readlinkat returns the target of a symbolic link.
func readlinkat(dir int, name string) (string, error) {
	buf := make([]byte, maxTarget+1)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
