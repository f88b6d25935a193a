package agent

import (
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// A program may open as many files as it expects, and the agent keeps its own limit.
func TestFileLimit(t *testing.T) {
	var own unix.Rlimit
	if err := limitFiles(nil, &own); err != nil {
		t.Fatal(err)
	}
	if own.Cur <= softFiles {
		t.Skipf("this process may open only %d files", own.Cur)
	}
	var during unix.Rlimit
	pid, err := withFileLimit(func() (int, error) { return 7, limitFiles(nil, &during) })
	if pid != 7 || err != nil || during.Cur != softFiles || during.Max != own.Max {
		t.Errorf("a program starts with %+v (%d, %v); want %d of %d", during, pid, err, softFiles, own.Max)
	}
	var after unix.Rlimit
	if err := limitFiles(nil, &after); err != nil || after != own {
		t.Errorf("afterwards the agent has %+v, %v; want %+v", after, err, own)
	}
}

func TestSetUpTools(t *testing.T) {
	tr := newTree(t, map[string]string{"etc/subuid": "other:100000:65536\n", "etc/pip.conf": "the image's own\n"})
	u := wire.User{Name: "ada", UID: 1000, Home: "/home/ada"}
	const path = "/home/ada/it's:/bin"
	if err := tr.setUpTools(u, path); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"/etc/subuid":   "other:100000:65536\nada:100000:65536\n",
		"/etc/subgid":   "ada:100000:65536\n",
		"/etc/pip.conf": "the image's own\n",
	} {
		if got, err := tr.readFile(name); err != nil || string(got) != want {
			t.Errorf("%s = %q, %v; want %q", name, got, err, want)
		}
	}
	profile, err := tr.readFile("/etc/profile.d/mayfly.sh")
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"1000": path, "0": "root's"} {
		cmd := exec.Command("/bin/sh", "-c", "id() { echo "+id+"; }\nPATH=\"root's\"\n"+string(profile)+"echo \"$PATH\"")
		if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("a login shell of user %s has PATH %q, %v; want %q", id, out, err, want)
		}
	}
}
