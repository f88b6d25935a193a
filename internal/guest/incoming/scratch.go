package incoming

import (
	"crypto/rand"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// scratch is a directory in the workspace in which new files are made. A guest that ends in
// the middle leaves only this, and the next conversation removes it.
type scratch struct {
	root int
	name string
	fd   int // -1 while it is not there
}

// tempName is new each time.
func tempName() string { return wire.SyncScratch + rand.Text()[:wire.SyncScratchRandom] }

// beside returns an open directory from which a file can be renamed into dir: the scratch
// directory or, in another mount or where that cannot be made, dir itself.
func (s *scratch) beside(dir int) int {
	if mountOf(dir) != mountOf(s.root) {
		return dir
	}
	if s.fd >= 0 {
		if s.there() {
			return s.fd
		}
		unix.Close(s.fd)
		s.fd = -1
	}
	name := tempName()
	if err := unix.Mkdirat(s.root, name, 0o700); err != nil {
		return dir
	}
	fd, err := openBeneath(s.root, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		unix.Unlinkat(s.root, name, unix.AT_REMOVEDIR)
		return dir
	}
	unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) // for as long as it is in use
	s.name, s.fd = name, fd
	return fd
}

// there reports whether it has still its name: git clean in the guest takes it for the rest of
// something, and no file can be made in what was removed.
func (s *scratch) there() bool {
	var held, named unix.Stat_t
	return unix.Fstat(s.fd, &held) == nil && unix.Fstatat(s.root, s.name, &named, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		held.Dev == named.Dev && held.Ino == named.Ino
}

// remove removes it. What cannot be removed is left to the next conversation.
func (s *scratch) remove() {
	if s.fd >= 0 {
		empty(s.root, s.name)
		unix.Close(s.fd)
		s.fd = -1
	}
}

// mountOf tells mounts apart; 0 is one that the kernel does not name.
func mountOf(fd int) uint64 {
	var st unix.Statx_t
	if unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st) != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return 0
	}
	return st.Mnt_id
}

// sweep removes what conversations that did not come to their end have left in a workspace.
func sweep(root int) {
	fd, err := openBeneath(root, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), ".")
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	for _, name := range names {
		if !wire.IsSyncScratch(name) {
			continue
		}
		dir, err := openBeneath(root, name, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			continue
		}
		if unix.Flock(dir, unix.LOCK_EX|unix.LOCK_NB) == nil { // else it is in use
			empty(root, name)
		}
		unix.Close(dir)
	}
}

// empty removes a scratch directory with what is in it.
func empty(root int, name string) {
	fd, err := openBeneath(root, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	for _, name := range names {
		removeAny(fd, name)
	}
	unix.Unlinkat(root, name, unix.AT_REMOVEDIR)
}

// removeAny removes a file, a link or an empty directory.
func removeAny(dir int, name string) {
	if unix.Unlinkat(dir, name, 0) == unix.EISDIR {
		unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	}
}
