package agent

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// What is made in the user's home to mount something there is the user's, also when that is
// gone.
func TestMountPointsAreTheUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root gives files away")
	}
	root := t.TempDir()
	u := wire.User{UID: 1234, GID: 1234, Home: "/home/dev"}
	owner := func(name string, want int) {
		t.Helper()
		fi, err := os.Lstat(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := int(fi.Sys().(*syscall.Stat_t).Uid); got != want {
			t.Errorf("%s is %d's; want %d's", name, got, want)
		}
	}
	for range 2 {
		if err := makeMountPoint(root, "/home/dev/.cache/a", u); err != nil {
			t.Fatal(err)
		}
	}
	owner("home", 0)
	owner("home/dev", 0) // the tree's, not ours to give
	owner("home/dev/.cache", 1234)
	owner("home/dev/.cache/a", 1234)
	if err := makeMountPoint(root, "/home/developer/x", u); err != nil {
		t.Fatal(err)
	}
	owner("home/developer/x", 0)

	kept, outside := filepath.Join(root, "kept"), filepath.Join(root, "outside")
	if err := os.MkdirAll(filepath.Join(kept, "claude/skills"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(kept, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(kept, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := mendOwners(kept, u, mendDepth); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"kept": 1234, "kept/claude": 1234, "kept/claude/skills": 1234, "outside": 0, "kept/file": 0, "kept/link": 0} {
		owner(name, want)
	}
	// A link on the way leads nowhere out of the root.
	if err := os.Symlink("/tmp", filepath.Join(root, "home/dev/out")); err != nil {
		t.Fatal(err)
	}
	if err := makeMountPoint(root, "/home/dev/out/mayfly-test", u); err == nil {
		t.Error("the way to a mount point led out of the root")
	}
}
