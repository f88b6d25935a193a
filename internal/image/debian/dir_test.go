package debian

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/test/env"
)

// A build's own root passes through its directory, and nobody else but the owner.
func TestLetPass(t *testing.T) {
	env.NeedRoot(t)
	parent, err := os.MkdirTemp("/var/tmp", "mayfly-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	const owner, root = 1234, 200000
	dir := filepath.Join(parent, "build")
	tree := filepath.Join(dir, "tree")
	for _, path := range []string{parent, dir, tree} {
		if path != parent {
			err = os.Mkdir(path, 0o700)
		}
		if path != dir { // as mmdebstrap's tree, and /var/tmp
			err = errors.Join(err, os.Chmod(path, 0o755))
		}
		if err := errors.Join(err, os.Chown(path, owner, owner)); err != nil {
			t.Fatal(err)
		}
	}
	config, fifo := filepath.Join(dir, "apt.conf"), filepath.Join(dir, "base.tar")
	if err := errors.Join(os.WriteFile(config, []byte("password"), 0o644), os.WriteFile(filepath.Join(tree, "apt.conf"), []byte("password"), 0o644), unix.Mkfifo(fifo, 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := letPass(dir, root); errors.Is(err, unix.ENOTSUP) {
		t.Skip("no access control lists here")
	} else if err != nil {
		t.Fatal(err)
	}
	as := func(uid, gid uint32, script string) error {
		cmd := exec.Command("/bin/sh", "-c", script)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	for _, try := range []string{"cat " + config, "cat " + filepath.Join(tree, "apt.conf")} {
		for _, uid := range []uint32{owner, root} {
			if err := as(uid, uid, try); err != nil {
				t.Errorf("%s as user %d: %v; want it allowed", try, uid, err)
			}
		}
	}
	for _, try := range []string{"cat " + config, "cat " + filepath.Join(tree, "apt.conf"), ": < " + fifo, "ls " + dir, "cd " + dir, "test -e " + config} {
		// Neighbours of both numbers, also in the owner's group.
		for _, id := range [][2]uint32{{1235, 1235}, {root + 1, root + 1}, {root - 1, owner}, {65534, owner}, {65534, root}} {
			if err := as(id[0], id[1], try); err == nil {
				t.Errorf("%s as user %d of group %d succeeded; want it refused", try, id[0], id[1])
			}
		}
	}
	if err := as(root, root, "ls "+dir); err == nil {
		t.Error("the build's root may list the directory; want that it passes only")
	}
}
