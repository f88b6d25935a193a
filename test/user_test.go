package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/host"
	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// A user without any privilege comes the whole way from a new account: a good
// QEMU, images of their own, machines.
func TestNormalUser(t *testing.T) {
	vm.Lock(t)
	h := vm.NewUser(t)
	h.Run(0, "doctor", "--fix")
	var doctor struct {
		Facts  host.Facts
		Checks []host.Check
	}
	if err := json.Unmarshal([]byte(h.Run(0, "doctor", "--json").Stdout), &doctor); err != nil {
		t.Fatal(err)
	}
	for _, c := range doctor.Checks {
		// A new account is in no group but its own.
		if k := doctor.Facts.KVM; c.Name == "kvm" && k.Present && !k.Openable && !strings.HasPrefix(c.Fix, "sudo usermod -aG "+k.Group+" ") && (k.Group != "" || !strings.HasPrefix(c.Fix, "sudo chmod 666 /dev/kvm")) {
			t.Errorf("doctor's fix for a /dev/kvm that cannot be opened is %q", c.Fix)
		}
	}

	h.Run(7, "run", "--", "sh", "-c", "exit 7")
	explained(t, h, fromTemplate)
	script := "id -un; id -u; id -g; echo $HOME; pwd; sudo -n id -u; cat file; touch written; cat; kill -TERM $$"
	writeFile(t, filepath.Join(h.Dir, "file"), "of the host\n")
	c := h.Mayfly("run", "--apply", "--", "sh", "-c", script)
	c.Stdin = strings.NewReader("from stdin\n")
	u := doctor.Facts.User
	want := strings.Join([]string{u.Name, strconv.Itoa(u.UID), strconv.Itoa(u.GID), h.Home, h.Dir, "0", "of the host", "from stdin", ""}, "\n")
	if r := c.Want(143); r.Stdout != want {
		t.Errorf("in the machine: %q; want %q", r.Stdout, want)
	}
	fi, err := os.Stat(filepath.Join(h.Dir, "written"))
	if err != nil {
		t.Fatal(err)
	}
	if owner := ownerOf(fi); owner != u.UID {
		t.Errorf("what came back belongs to %d; want %d", owner, u.UID)
	}
	// Nothing of a machine is readable for other users.
	h.Run(0, "run", "--keep", "--", "true")
	name := h.Machine()
	for _, dir := range []string{h.File(name, "."), filepath.Join(h.State, "machines")} {
		if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v, %v; want it closed to others", dir, fi.Mode(), err)
		}
	}
	h.Run(0, "rm", name)
}

func ownerOf(fi os.FileInfo) int { return int(fi.Sys().(*syscall.Stat_t).Uid) }
