package host

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

func TestDirsCheckOwn(t *testing.T) {
	root := t.TempDir()
	d := Dirs{filepath.Join(root, "config"), filepath.Join(root, "data"), filepath.Join(root, "state"), filepath.Join(root, "none")}
	for _, dir := range []string{d.Config, d.Data, d.State} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.CheckOwn(); err != nil {
		t.Errorf("CheckOwn() = %v; want nil", err)
	}
	// Below a file there is no directory.
	file := filepath.Join(root, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d.Cache = filepath.Join(file, "cache")
	if err := d.CheckOwn(); err != nil {
		t.Errorf("CheckOwn() below a file = %v; want nil", err)
	}
	for _, dir := range []string{d.Config, d.Data, d.State} {
		if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
		if err := d.CheckOwn(); fault.CodeOf(err) != fault.DirectoryShared {
			t.Errorf("CheckOwn() with %s for everybody = %v; want %s", dir, err, fault.DirectoryShared)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}

	const me, other, group = 1000, 1001, 100
	for _, tt := range []struct {
		user, uid, gid, mode uint32
		own                  bool
	}{
		{me, me, me, 0o700, true},
		{me, me, group, 0o755, true},
		{me, me, me, 0o775, true}, // umask 0002, with a group of one's own
		{me, me, group, 0o775, false},
		{me, me, me, 0o777, false},
		{me, me, me, 0o1777, false},
		{me, 0, 0, 0o755, true}, // the system's
		{me, 0, group, 0o775, false},
		{me, other, me, 0o700, false},
		{0, 0, 0, 0o700, true},
		{0, me, me, 0o755, true}, // sudo with the user's HOME
		{0, me, group, 0o775, false},
		{0, me, me, 0o777, false},
	} {
		why := notOwn(unix.Stat_t{Uid: tt.uid, Gid: tt.gid, Mode: unix.S_IFDIR | tt.mode}, int(tt.user))
		if (why == "") != tt.own {
			t.Errorf("for user %d, what is of %d and %d with mode %o: %q; want its own: %v", tt.user, tt.uid, tt.gid, tt.mode, why, tt.own)
		}
	}
}
