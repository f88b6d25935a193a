package workspace

import (
	"encoding/binary"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// acl returns an ACL of a user, a named user, the group, a mask and all others.
func acl(user, named, group, mask, other uint16) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{0x01, user, ^uint32(0)}, {0x02, named, 12345}, {0x04, group, ^uint32(0)}, {0x10, mask, ^uint32(0)}, {0x20, other, ^uint32(0)}} {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// What is replaced keeps the ACL that it has, or has none still, whatever the default of its
// directory gives to what is new; and what is taken back is as before.
func TestApplyKeepsACL(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		s := undoSession(t, tree{
			"d": {Dir, 0o755, ""}, "d/plain": {File, 0o664, "old"}, "d/own": {File, 0o664, "old"}, "d/closed": {File, 0o664, "old"},
			"d/gone": {Dir, 0o755, ""}, "d/gone/f": {File, 0o664, "old"}, "d/file": {File, 0o664, "old"},
		})
		if elsewhere {
			s.app.Undo.Store = otherDisk(t) + "/undo"
		}
		own := acl(6, 4, 4, 6, 4)
		for _, name := range []string{"own", "closed"} {
			if err := unix.Setxattr(s.dir+"/d/"+name, "system.posix_acl_access", own, 0); err != nil {
				t.Skipf("no ACLs here: %v", err)
			}
		}
		if err := unix.Setxattr(s.dir+"/d", "system.posix_acl_default", acl(7, 6, 5, 6, 0), 0); err != nil {
			t.Fatal(err)
		}
		s.repack(t)
		want := exactTree(t, s.dir)
		to := tree{"d/plain": {File, 0o664, "new"}, "d/own": {File, 0o664, "new"}, "d/closed": {File, 0o600, "new"}}
		gone := Change{Kind: Whiteout}
		s.take(t, to, []Change{to["d/plain"].change("d/plain"), to["d/own"].change("d/own"), to["d/closed"].change("d/closed"), at("d/gone", gone), at("d/file", gone)})
		if err := Compare(t.Context(), s.dir, s.edits, 0o022); err != nil {
			t.Fatal(err)
		}
		if res := s.apply(t); len(res.Conflicts)+len(res.Notes) > 0 {
			t.Errorf("conflicts %v, notes %v", res.Conflicts, res.Notes)
		}
		for name, acl := range map[string]string{"plain": "", "own": string(own), "closed": string(acl(6, 4, 4, 0, 0))} {
			got, err := attribute(func(b []byte) (int, error) { return unix.Getxattr(s.dir+"/d/"+name, "system.posix_acl_access", b) })
			if string(got) != acl || (err != nil) != (acl == "") {
				t.Errorf("elsewhere=%v: the ACL of %s is %x, %v; want %x", elsewhere, name, got, err, acl)
			}
		}
		if res := s.undo(t); len(res.Conflicts) > 0 {
			t.Errorf("conflicts of the undo: %v", res.Conflicts)
		}
		sameTree(t, "taken back", exactTree(t, s.dir), want)
	}
}

// What is added gets the permissions and the ACL that it would get if its user made it there,
// and in a setgid directory its group.
func TestApplyInherits(t *testing.T) {
	s := newSession(t, tree{"acl": {Dir, 0o755, ""}, "group": {Dir, 0o755, ""}, "plain": {Dir, 0o755, ""}})
	if err := unix.Setxattr(s.dir+"/acl", "system.posix_acl_default", acl(7, 6, 5, 6, 0), 0); err != nil {
		t.Skipf("no ACLs here: %v", err)
	}
	gid := os.Getgid()
	if os.Geteuid() == 0 {
		gid = 12345
	}
	if err := os.Chown(s.dir+"/group", -1, gid); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chmod(s.dir+"/group", 0o2755); err != nil {
		t.Fatal(err)
	}
	s.repack(t)
	f, d := node{File, 0o666, "x"}, node{Dir, 0o777, ""}
	to := tree{
		"acl": {Dir, 0o755, ""}, "acl/f": f, "acl/d": d, "acl/d/f": f, "acl/link": {Symlink, 0o777, "f"},
		"group": {Dir, 0o755, ""}, "group/f": f, "group/d": d, "group/d/f": f, "plain": {Dir, 0o755, ""}, "plain/f": f,
	}
	var cs []Change
	for _, p := range []string{"acl/f", "acl/d", "acl/d/f", "acl/link", "group/f", "group/d", "group/d/f", "plain/f"} {
		cs = append(cs, to[p].change(p))
	}
	s.take(t, to, cs)
	if err := Compare(t.Context(), s.dir, s.edits, 0o077); err != nil {
		t.Fatal(err)
	}
	if res := s.apply(t); len(res.Conflicts) > 0 {
		t.Fatalf("conflicts: %v", res.Conflicts)
	}
	for path, want := range map[string]uint32{
		"acl/f": 0o660, "acl/d": 0o760, "acl/d/f": 0o660, "group/f": 0o600, "group/d": 0o2700, "group/d/f": 0o600, "plain/f": 0o600,
	} {
		var st unix.Stat_t
		if err := unix.Lstat(s.dir+"/"+path, &st); err != nil {
			t.Fatal(err)
		}
		if st.Mode&0o7777 != want {
			t.Errorf("%s has mode %o; want %o", path, st.Mode&0o7777, want)
		}
		if path[:5] == "group" && int(st.Gid) != gid {
			t.Errorf("%s is of group %d; want %d", path, st.Gid, gid)
		}
	}
	// The named user has what the default gives it.
	for _, name := range []string{"acl/f", "acl/d/f"} {
		got, err := attribute(func(b []byte) (int, error) { return unix.Getxattr(s.dir+"/"+name, "system.posix_acl_access", b) })
		if want := acl(6, 6, 5, 6, 0); err != nil || string(got) != string(want) {
			t.Errorf("the ACL of %s is %x, %v; want %x", name, got, err, want)
		}
	}
	if got, err := attribute(func(b []byte) (int, error) { return unix.Getxattr(s.dir+"/acl/d", "system.posix_acl_default", b) }); err != nil || string(got) != string(acl(7, 6, 5, 6, 0)) {
		t.Errorf("the default ACL of acl/d is %x, %v; want that of acl", got, err)
	}
}

func TestDefaultPermissions(t *testing.T) {
	for _, tt := range []struct {
		acl  []byte
		want uint32
		ok   bool
	}{
		{acl(7, 7, 5, 4, 1), 0o741, true}, {nil, 0, false}, {[]byte{2, 0, 0, 0}, 0, false},
		{acl(7, 7, 5, 4, 1)[:30], 0, false}, {append([]byte{1}, acl(7, 7, 5, 4, 1)[1:]...), 0, false},
	} {
		if got, ok := defaultPermissions(tt.acl); got != tt.want || ok != tt.ok {
			t.Errorf("defaultPermissions(%x) = %o, %t; want %o, %t", tt.acl, got, ok, tt.want, tt.ok)
		}
	}
}
