package machine

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/confine"
)

// OwnUser returns the user that this process's VMM has, if root starts it isolated; 0 where
// this is not root, or that of a container that has no such users.
func OwnUser() int {
	if os.Geteuid() != 0 {
		return 0
	}
	for _, table := range []string{"/proc/self/uid_map", "/proc/self/gid_map"} {
		for _, id := range []int{confine.Group, confine.LastUser} {
			if !mapped(table, id) {
				return 0
			}
		}
	}
	return confine.User(os.Getpid())
}

// mapped reports whether id exists by the table at path, user_namespaces(7).
func mapped(path string, id int) bool {
	data, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		var inside, outside, count int
		if n, _ := fmt.Sscan(line, &inside, &outside, &count); n == 3 && inside <= id && id-inside < count {
			return true
		}
	}
	return false
}

// lend lets user open the files of c that it opens by their names, where they are for
// root alone. All are in directories that are closed to others: the VMM meets them in a
// root of its own.
func lend(c Command, user int) error {
	for _, path := range c.Readable {
		// Such as the memory that several machines begin from.
		err := lendFile(path, func(fd int, st unix.Stat_t) error {
			if st.Mode&0o004 != 0 || st.Gid == confine.Group && st.Mode&0o040 != 0 {
				return nil
			}
			return errors.Join(unix.Fchown(fd, -1, confine.Group), unix.Fchmod(fd, st.Mode&0o777|0o040))
		})
		if err != nil {
			return err
		}
	}
	for _, path := range c.Writable {
		// This machine's alone, such as its memory.
		err := lendFile(path, func(fd int, st unix.Stat_t) error {
			return errors.Join(unix.Fchown(fd, user, user), unix.Fchmod(fd, 0o600))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lendFile calls give with the file at path, if it is a regular one of root's.
func lendFile(path string, give func(fd int, st unix.Stat_t) error) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // the VMM says what is missing
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid != 0 {
		return err
	}
	if err := give(fd, st); err != nil {
		return fmt.Errorf("lend %s: %w", path, err)
	}
	return nil
}
