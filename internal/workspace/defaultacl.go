package workspace

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// permissions finds out which of the permissions that a new file asks for it gets, as when
// its user makes it there: those that the umask leaves or, in a directory with a default
// ACL, those that the ACL gives (acl(5)).
type permissions struct {
	root  int
	umask uint32
	moved map[string]string // by the new path of a directory, its packed one
	known map[string]uint32
}

func newPermissions(root int, edits []Edit, umask uint32) *permissions {
	p := &permissions{root: root, umask: umask, moved: make(map[string]string), known: make(map[string]uint32)}
	for i := range edits {
		if e := &edits[i]; e.Op == Rename {
			p.moved[e.Path] = e.From
		}
	}
	return p
}

// in returns those of a directory. One that is new is as the one that it is made in.
func (p *permissions) in(dir string) uint32 {
	if bits, ok := p.known[dir]; ok {
		return bits
	}
	bits := 0o777 &^ p.umask
	host := swapPrefix(p.moved, dir)
	fd, err := openBeneath(p.root, host, unix.O_PATH|unix.O_DIRECTORY)
	switch {
	case err == nil:
		acl, err := attribute(func(b []byte) (int, error) { return unix.Getxattr(procFD(fd), "system.posix_acl_default", b) })
		if given, ok := defaultPermissions(acl); err == nil && ok {
			bits = given
		}
		unix.Close(fd)
	case dir != ".":
		parent, _ := splitPath(dir)
		bits = p.in(parent)
	}
	p.known[dir] = bits
	return bits
}

// defaultPermissions returns the most permissions that a default ACL gives to what is made,
// and false if acl is none. It is as Linux has it in the attribute: a version, and entries
// of tag, permissions and number.
func defaultPermissions(acl []byte) (uint32, bool) {
	const version, user, group, mask, other = 2, 0x01, 0x04, 0x10, 0x20
	if len(acl) < 4 || binary.LittleEndian.Uint32(acl) != version {
		return 0, false
	}
	perms := make(map[uint16]uint32)
	for e := acl[4:]; len(e) >= 8; e = e[8:] {
		perms[binary.LittleEndian.Uint16(e)] = uint32(binary.LittleEndian.Uint16(e[2:])) & 7
	}
	u, hasUser := perms[user]
	g, hasGroup := perms[group]
	o, hasOther := perms[other]
	if !hasUser || !hasGroup || !hasOther {
		return 0, false
	}
	if m, ok := perms[mask]; ok {
		g = m
	}
	return u<<6 | g<<3 | o, true
}
