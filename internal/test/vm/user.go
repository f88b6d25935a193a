package vm

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/test/env"
)

// NewUser makes an account on this computer, for the time of t, and returns it
// as a user of mayfly with nothing but what a new account has: the images are
// its own.
func NewUser(t testing.TB) *Host {
	t.Helper()
	env.NeedRoot(t)
	for _, tool := range []string{"useradd", "userdel", "usermod"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("makes a user account: %v", err)
		}
	}
	// Not in t.TempDir, whose parent is closed to others.
	root, err := os.MkdirTemp("/var/tmp", "mayfly-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("mayfly%d", os.Getpid())
	home := filepath.Join(root, name)
	run(t, "useradd", "--create-home", "--home-dir", home, "--shell", "/bin/bash", name)
	t.Cleanup(func() { run(t, "userdel", name) })
	if ids, err := os.ReadFile("/etc/subuid"); err != nil || !strings.Contains("\n"+string(ids), "\n"+name+":") {
		run(t, "usermod", "--add-subuids", "900000-965535", "--add-subgids", "900000-965535", name)
	}
	account, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, uidErr := strconv.Atoi(account.Uid)
	gid, gidErr := strconv.Atoi(account.Gid)
	if uidErr != nil || gidErr != nil {
		t.Fatalf("the account has the ids %s and %s", account.Uid, account.Gid)
	}

	h := &Host{
		Dir:     filepath.Join(home, "project"),
		Home:    home,
		State:   filepath.Join(home, ".local/state/mayfly"),
		Program: filepath.Join(root, "mayfly"),
		// As of who has logged in: its own group is a supplementary one, too.
		Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{uint32(gid)}},
		t:          t,
	}
	if err := os.Mkdir(h.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(h.Dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	copyProgram(t, h.Program)
	for _, kv := range Env(t) {
		if !strings.HasPrefix(kv, "XDG_") {
			h.Env = append(h.Env, kv)
		}
	}
	h.Env = append(h.Env, "HOME="+home, "USER="+name, "LOGNAME="+name, "SHELL=/bin/bash")
	t.Cleanup(func() { h.check() })
	return h
}

// BorrowStore gives the user of NewUser the images of who runs the tests, which are
// hard links, and what is known of the computer.
func (h *Host) BorrowStore() {
	h.t.Helper()
	from := &Host{Env: Env(h.t)}
	data := filepath.Join(from.Variable("XDG_DATA_HOME"), "mayfly")
	target := filepath.Join(h.Home, ".local/share/mayfly")
	cache := filepath.Join(h.Home, ".cache/mayfly")
	for _, dir := range []string{filepath.Dir(target), cache} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			h.t.Fatal(err)
		}
	}
	if _, err := os.Stat(data); err != nil {
		return // it will be built
	}
	cp := exec.Command("cp", "-al", data, target)
	if out, err := cp.CombinedOutput(); err != nil {
		os.RemoveAll(target)
		h.t.Logf("not borrowed: %v\n%s", err, out) // another file system
	}
	// What is locked must be the user's own, and the directories, too.
	for _, name := range []string{"machines", "ssh", "qemu/lock", "store/locks", "store/tmp", "store/cache", "templates"} {
		if err := os.RemoveAll(filepath.Join(target, name)); err != nil {
			h.t.Fatal(err)
		}
	}
	for _, name := range []string{"qemu.json", "kvm-proof.json"} {
		if data, err := os.ReadFile(filepath.Join(from.Variable("XDG_CACHE_HOME"), "mayfly", name)); err == nil {
			if err := os.WriteFile(filepath.Join(cache, name), data, 0o644); err != nil {
				h.t.Fatal(err)
			}
		}
	}
	u := h.Credential
	for _, root := range []string{".local", ".cache"} {
		err := filepath.WalkDir(filepath.Join(h.Home, root), func(name string, d os.DirEntry, err error) error {
			if err != nil || !d.IsDir() && root == ".local" {
				return err
			}
			return os.Lchown(name, int(u.Uid), int(u.Gid))
		})
		if err != nil {
			h.t.Fatal(err)
		}
	}
}

func run(t testing.TB, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

// copyProgram copies mayfly, which is where only its owner can come.
func copyProgram(t testing.TB, name string) {
	t.Helper()
	path, err := exec.LookPath("mayfly")
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if _, err := io.Copy(dst, src); err != nil {
		t.Fatal(err)
	}
}
