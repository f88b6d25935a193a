package workspace

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// opened is a file or directory of the user's that gets permissions of its owner for a while,
// since without them the user cannot work there. The journal has it before, so that a kill
// leaves none open.
type opened struct {
	was, now uint32 // permissions
	dev, ino uint64
	path     string
}

// opens notes that what is open as fd, and at a path, is about to get permissions.
func (j *journal) opens(st *unix.Stat_t, more uint32, path string) error {
	return j.note(opened{st.Mode & 0o777, st.Mode&0o777 | more, uint64(st.Dev), st.Ino, path})
}

func (j *journal) note(o opened) error {
	n, err := j.f.WriteAt([]byte(o.text()), j.size) // a kill leaves it there, without a wait for the disk
	j.size += int64(n)
	return err
}

// open gives what is open as fd, and at a path, permissions if it is the user's and lacks them.
// It returns what takes them away again.
func (j *journal) open(fd int, path string, more uint32) (shut func(), err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&more == more || int(st.Uid) != os.Geteuid() {
		return func() {}, nil
	}
	if err := j.opens(&st, more, path); err != nil {
		return nil, err
	}
	if err := chmodFD(fd, st.Mode&0o7777|more); err != nil {
		return nil, err
	}
	return func() { chmodFD(fd, st.Mode&0o7777) }, nil
}

func (o opened) text() string {
	return fmt.Sprintf("%o %o %d %d %s\x00", o.was, o.now, o.dev, o.ino, o.path)
}

// parseOpened returns what a journal notes after its head, as far as it is whole.
func parseOpened(s string) (all []opened) {
	for {
		line, rest, ok := strings.Cut(s, "\x00")
		var o opened
		if !ok {
			return all
		}
		if _, err := fmt.Sscanf(line, "%o %o %d %d", &o.was, &o.now, &o.dev, &o.ino); err != nil {
			return all
		}
		fields := strings.SplitN(line, " ", 5)
		if len(fields) != 5 || o.now&^0o777 != 0 || o.now&^0o700 != o.was&^0o700 || o.was&^o.now != 0 {
			return all
		}
		if o.path = fields[4]; o.path != "." && checkPath(o.path) != nil {
			return all
		}
		all, s = append(all, o), rest
	}
}

// shut takes the permissions away that a killed process has left.
func (o opened) shut(root int) {
	fd, err := openBeneath(root, o.path, unix.O_PATH)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil && uint64(st.Dev) == o.dev && st.Ino == o.ino && int(st.Uid) == os.Geteuid() && st.Mode&0o777 == o.now {
		chmodFD(fd, st.Mode&0o7000|o.was)
	}
}

// openToRead opens the file name in dir, which is now, at a path of the workspace. A machine may
// have made it unreadable for its owner.
func (a *applier) openToRead(dir int, name, path string, now hostFile) (*os.File, error) {
	flags := unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, name, flags, 0)
	if err == nil {
		return os.NewFile(uintptr(fd), name), nil
	}
	if err != unix.EACCES || a.asRoot {
		return nil, err
	}
	place, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(place)
	var st unix.Stat_t
	if err := unix.Fstat(place, &st); err != nil {
		return nil, err
	}
	if there := asHostFile(&st); there.kind != File || !there.same(now) {
		return nil, conflictChanged
	}
	shut, err := a.journal.open(place, path, 0o400)
	if err != nil {
		return nil, err
	}
	defer shut()
	return os.OpenFile(procFD(place), unix.O_RDONLY|unix.O_NONBLOCK, 0)
}
