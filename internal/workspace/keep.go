package workspace

import (
	"context"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// made are the files that others are to be hard links to, by their path.
type made map[string]*target

type target struct {
	edited bool     // it is to be applied itself; else it is as it was packed
	id     Identity // once it is as the guest has it
}

// linkTargets returns what edits are links to.
func linkTargets(edits []*Edit) made {
	m := make(made)
	for _, e := range edits {
		if e.Link != "" && e.Skipped == "" {
			m[e.Link] = &target{}
		}
	}
	for _, e := range edits {
		if t := m[e.Path]; t != nil {
			t.edited = true
		}
	}
	return m
}

// set notes that path is as the guest has it.
func (m made) set(path string, now hostFile) {
	if t := m[path]; t != nil && now.kind == File {
		t.id = now.id
	}
}

func (m made) setOpen(path string, fd int) {
	var st unix.Stat_t
	if t := m[path]; t != nil && unix.Fstat(fd, &st) == nil {
		t.id = identity(&st)
	}
}

// link gives the file that e is another name of the name temp too. It reports whether it
// has: who else writes here may be in the way, or the file system, and then e becomes a
// file of its own.
func (a *applier) link(ctx context.Context, dir int, temp string, e *Edit) bool {
	err := a.linkTo(ctx, dir, temp, e)
	if err != nil {
		a.note(e.Path, "a file of its own and no hard link to "+termsafe.Quote(e.Link)+", because "+err.Error())
	}
	return err == nil
}

func (a *applier) linkTo(ctx context.Context, dir int, temp string, e *Edit) error {
	parent, name := splitPath(e.Link)
	from, err := openBeneath(a.root, parent, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return conflictParent
	}
	defer unix.Close(from)
	now, err := look(from, name)
	if err != nil {
		return err
	}
	t := a.made[e.Link]
	id := t.id
	if id == (Identity{}) {
		old := a.Manifest.Find(a.moves.origin(e.Link))
		if old == nil || t.edited {
			return conflictError("that was not applied")
		}
		same, err := a.isOld(ctx, from, name, now, old)
		if err != nil {
			return err
		}
		if !same {
			return conflictChanged
		}
		id = now.id
	}
	if now.kind != File || now.id.Dev != id.Dev || now.id.Ino != id.Ino {
		return conflictChanged
	}
	if now.mode != e.NewMode {
		return conflictError("the two have different modes")
	}
	if err := unix.Linkat(from, name, dir, temp, 0); err != nil {
		return err
	}
	linked, err := look(dir, temp)
	if err == nil && (linked.id.Dev != id.Dev || linked.id.Ino != id.Ino) {
		err = conflictChanged
	}
	if err != nil {
		removeAt(dir, temp)
	}
	return err
}

// keepAttributes gives the new file fd the extended attributes of the file name that it
// replaces, as far as they are its user's: those of the kernel's that say what a program
// may do go with the content, as when a file is written to. It returns the names of those
// that could not be kept.
func keepAttributes(dir int, name string, now hostFile, to interface{ Fd() uintptr }) (lost []string) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // it is gone: a conflict, when its place is taken
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || kindOf(&st) != File || st.Ino != now.id.Ino || uint64(st.Dev) != now.id.Dev {
		return nil
	}
	list, err := attribute(func(p []byte) (int, error) { return unix.Listxattr(procFD(fd), p) })
	if err != nil {
		return nil // a file system without any
	}
	withoutInherited(int(to.Fd()), string(list))
	for attr := range strings.SplitSeq(string(list), "\x00") {
		if !strings.HasPrefix(attr, "user.") && attr != aclAccess {
			continue
		}
		value, err := attribute(func(p []byte) (int, error) { return unix.Getxattr(procFD(fd), attr, p) })
		if err == nil {
			err = unix.Fsetxattr(int(to.Fd()), attr, value, 0)
		}
		if err != nil {
			lost = append(lost, termsafe.Quote(attr))
		}
	}
	return lost
}

// The attributes that are ACLs. What is made in a directory with a default gets both.
const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// withoutInherited removes ACLs that are not in a list of attributes from what is open as to,
// and was made in place of what has that list: else it would be others' to use, too.
func withoutInherited(to int, list string) {
	for _, attr := range []string{aclAccess, aclDefault} {
		if !slices.Contains(strings.Split(list, "\x00"), attr) {
			unix.Removexattr(procFD(to), attr) // mostly there is none
		}
	}
}

// maxAttribute is the most bytes that Linux takes for the names of extended attributes, or
// for the value of one.
const maxAttribute = 64 << 10

// attribute reads a value whose size only reading tells.
func attribute(read func(p []byte) (int, error)) ([]byte, error) {
	n, err := read(nil)
	if err != nil || n == 0 {
		return nil, err
	}
	p := make([]byte, maxAttribute)
	n, err = read(p)
	return p[:max(n, 0)], err
}
