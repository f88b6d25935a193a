package share

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// guardTree makes files in a directory, of a user. Texts that begin with an arrow are
// symbolic links, and with two, names of another file.
func guardTree(t *testing.T, dir string, uid int, files map[string]string) {
	t.Helper()
	for _, links := range []bool{false, true} {
		for name, text := range files {
			full := filepath.Join(dir, name)
			other, hard := strings.CutPrefix(text, "=> ")
			target, soft := strings.CutPrefix(text, "-> ")
			if (hard || soft) != links {
				continue
			}
			err := os.MkdirAll(filepath.Dir(full), 0o755)
			switch {
			case err != nil:
			case hard:
				err = os.Link(filepath.Join(dir, other), full)
			case soft:
				err = os.Symlink(target, full)
			case strings.HasSuffix(name, "/"):
				err = os.MkdirAll(full, 0o755)
			default:
				err = os.WriteFile(full, []byte(text), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil || os.Geteuid() != 0 {
			return err
		}
		return os.Lchown(name, uid, uid)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// hostileToGuards is a server that tries to get at what is guarded. It prints what it can.
func hostileToGuards() {
	say := func(what string, err error) {
		var pathErr *fs.PathError
		var linkErr *os.LinkError
		switch {
		case errors.As(err, &pathErr):
			err = pathErr.Err
		case errors.As(err, &linkErr):
			err = linkErr.Err
		}
		fmt.Printf("%s: %v\n", what, err)
	}
	for _, name := range []string{".env", "by-link", "by-name", "deep/down/.env", "private/key", "hooks/check", ".git/hooks/pre-commit"} {
		data, err := os.ReadFile("/tree/" + name)
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		fmt.Printf("read %s: %q, %v\n", name, data, err)
	}
	try := func(what string, do func() error) { say(what, do()) }
	write := func(name string) func() error {
		return func() error { return os.WriteFile("/tree/"+name, []byte("evil"), 0o755) }
	}
	rename := func(from, to string) func() error {
		return func() error { return os.Rename("/tree/"+from, "/tree/"+to) }
	}
	for _, name := range []string{".env", "by-name", "private/new", ".git/hooks/pre-commit", ".git/hooks/new", "hooks/check", "other-hook"} {
		try("write "+name, write(name))
		try("remove "+name, func() error { return os.Remove("/tree/" + name) })
	}
	try("rename .git", rename(".git", "git2"))
	try("rename the hooks", rename(".git/hooks", ".git/hooks2"))
	try("rename a hook away", rename(".git/hooks/pre-commit", "taken"))
	try("replace the hooks", func() error {
		os.Mkdir("/tree/mine", 0o755)
		return os.Rename("/tree/mine", "/tree/.git/hooks")
	})
	try("exchange .git", func() error {
		return unix.Renameat2(unix.AT_FDCWD, "/tree/.git", unix.AT_FDCWD, "/tree/mine", unix.RENAME_EXCHANGE)
	})
	try("rename deep", rename("deep", "deep2"))
	try("rename over .env", rename("guarded", ".env"))
	try("exchange .env", func() error {
		return unix.Renameat2(unix.AT_FDCWD, "/tree/guarded", unix.AT_FDCWD, "/tree/.env", unix.RENAME_EXCHANGE)
	})
	try("link a hook", func() error { return os.Link("/tree/.git/hooks/pre-commit", "/tree/linked") })
	try("link by descriptor", func() error {
		fd, err := unix.Open("/tree/.git/hooks/pre-commit", unix.O_PATH, 0)
		if err != nil {
			return err
		}
		return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, "/tree/linked", unix.AT_SYMLINK_FOLLOW)
	})
	try("write by descriptor", func() error {
		fd, err := unix.Open("/tree/.git/hooks/pre-commit", unix.O_PATH, 0)
		if err != nil {
			return err
		}
		return os.WriteFile(fmt.Sprintf("/proc/self/fd/%d", fd), []byte("evil"), 0)
	})
	try("chmod a hook", func() error { return os.Chmod("/tree/.git/hooks/pre-commit", 0o777) })
	try("touch the hooks", func() error { return os.Chtimes("/tree/.git/hooks", time.Now(), time.Now()) })
	try("unmount", func() error { return unix.Unmount("/tree/.git/hooks", unix.MNT_DETACH) })
	try("remount", func() error { return unix.Mount("", "/tree/.git/hooks", "", unix.MS_REMOUNT|unix.MS_BIND, "") })
	try("remove all", func() error { return os.RemoveAll("/tree/private") })

	try("git's own files", func() error {
		return errors.Join(write(".git/config.lock")(), rename(".git/config.lock", ".git/config")())
	})
	try("other files", func() error {
		return errors.Join(write("src/new")(), rename("src/new", "new")(), write("deep/down/more")(), rename("deep/down/more", "deep/down/most")())
	})
}

// What is guarded is out of the reach of a server that a guest has taken over, whatever it
// tries, and all else is not.
func TestGuarded(t *testing.T) {
	needAMD64(t)
	dir, uid := tree(t)
	guardTree(t, dir, uid, map[string]string{
		"guarded": "", ".env": "SECRET=1", "by-link": "-> .env", "by-name": "=> .env", "deep/down/.env": "SECRET=2", "private/key": "SECRET=3",
		"hooks/check": "check", ".git/config": "config", ".git/hooks/pre-commit": "hook", "other-hook": "=> .git/hooks/pre-commit", "src/": "",
	})
	sh := plan.Share{Source: dir, Path: dir, Tag: "share0", Hide: []string{".env", "/private"}, Protect: []string{"hooks", "none/such"}, Hooks: true}
	guard, unmatched, err := FindGuard(t.Context(), sh)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"none/such"}, unmatched); d != "" {
		t.Errorf("unmatched patterns (-want +got):\n%s", d)
	}
	output := serveGuarded(t, sh, uid, guard, nil)
	lines := strings.Split(strings.TrimSpace(output), "\n")
	for _, want := range []string{
		`read .env: "", <nil>`, `read by-link: "", <nil>`, `read by-name: "", <nil>`, `read deep/down/.env: "", <nil>`,
		`read private/key: "", no such file or directory`, `read hooks/check: "check", <nil>`, `read .git/hooks/pre-commit: "hook", <nil>`,
		"rename .git: device or resource busy", "rename the hooks: device or resource busy", "exchange .git: device or resource busy",
		"rename deep: device or resource busy", "git's own files: <nil>", "other files: <nil>",
		"unmount: operation not permitted", "remount: operation not permitted",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("the server did not say %q", want)
		}
	}
	for _, line := range lines {
		if strings.HasSuffix(line, "<nil>") && !strings.HasPrefix(line, "read ") && line != "git's own files: <nil>" && line != "other files: <nil>" {
			t.Errorf("the server said %q", line)
		}
		if strings.Contains(line, "SECRET") {
			t.Errorf("the server read what is hidden: %q", line)
		}
	}
	if t.Failed() {
		t.Logf("the server said:\n%s", output)
	}
	for name, want := range map[string]string{
		".env": "SECRET=1", "by-name": "SECRET=1", "deep/down/.env": "SECRET=2", "private/key": "SECRET=3", "hooks/check": "check",
		".git/hooks/pre-commit": "hook", "other-hook": "hook", ".git/config": "evil", "new": "evil", "deep/down/most": "evil",
	} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); string(data) != want {
			t.Errorf("%s on the host is %q, %v; want %q", name, data, err, want)
		}
	}
}

// Who replaces on the host what is guarded takes its guard away, which is told of.
func TestGuardLost(t *testing.T) {
	needAMD64(t)
	dir, uid := tree(t)
	guardTree(t, dir, uid, map[string]string{"guarded": "", "a b/.env": "SECRET"})
	sh := plan.Share{Source: dir, Path: dir, Tag: "share0", Hide: []string{"a b/.env"}, Protect: []string{"guarded"}}
	guard, _, err := FindGuard(t.Context(), sh)
	if err != nil {
		t.Fatal(err)
	}
	serveGuarded(t, sh, uid, guard, func(p *Process) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := os.WriteFile(filepath.Join(dir, "next"), []byte("NEXT"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "a b/.env")); err != nil {
			t.Fatal(err)
		}
		var lost []string
		if err := p.WatchGuards(ctx, func(path string) { lost = append(lost, path); cancel() }); err != nil || !slices.Equal(lost, []string{"a b/.env"}) {
			t.Errorf("lost were %q, %v", lost, err)
		}
	})
}

// serveGuarded runs a hostile server until its VMM ends, after which is what it said.
func serveGuarded(t *testing.T, sh plan.Share, uid int, guard Guard, meanwhile func(*Process)) string {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p, err := Start(t.Context(), "/proc/self/exe", Spec{
		Server: plan.ShareServer{Path: program(t), Kind: plan.VirtiofsdRust, Version: "1.13.0"},
		Share:  sh, UID: uid, GID: uid, Guard: guard,
	}, t.TempDir(), log)
	if err != nil {
		if errors.Is(err, unix.EPERM) && os.Geteuid() != 0 {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	defer p.Kill()
	conn, err := net.FileConn(p.VMM)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		t.Errorf("the server said nothing: %v", err)
	}
	if meanwhile != nil {
		meanwhile(p)
	}
	conn.Close()
	p.CloseVMM()
	<-p.Done()
	data, err := os.ReadFile(log.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// What cannot be searched may hold what is to be hidden: a machine of the same user can give
// itself the right.
func TestFindGuardClosed(t *testing.T) {
	if os.Geteuid() == 0 {
		runtime.LockOSThread() // and never unlocked: the thread ends with the test
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 12345, ^uintptr(0)); errno != 0 {
			t.Skip(errno)
		}
	}
	dir, err := os.MkdirTemp("/var/tmp", "mayfly-share-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	guardTree(t, dir, os.Geteuid(), map[string]string{"closed/.env": "SECRET"})
	defer os.Chmod(filepath.Join(dir, "closed"), 0o700)
	for _, mode := range []fs.FileMode{0o311, 0} {
		if err := os.Chmod(filepath.Join(dir, "closed"), mode); err != nil {
			t.Fatal(err)
		}
		_, _, err := FindGuard(t.Context(), plan.Share{Source: dir, Hide: []string{".env"}})
		if fault.CodeOf(err) != fault.ShareUnguarded || !strings.Contains(err.Error(), "closed cannot be searched") {
			t.Errorf("mode %o: FindGuard() = %v; want that the directory cannot be searched", mode, err)
		}
	}
	if g, _, err := FindGuard(t.Context(), plan.Share{Source: dir, Hide: []string{"/.env"}}); err != nil || !g.Empty() {
		t.Errorf("FindGuard() of a path elsewhere = %+v, %v", g, err)
	}
}

// Patterns find what there is, by all of its names; what cannot be guarded is an error.
func TestFindGuard(t *testing.T) {
	files := map[string]string{
		".env": "1", "a/.env": "2", "a/b/c.pem": "3", "link": "-> a", "out": "-> /etc/passwd", "a/deep.pem": "-> b/c.pem", "hard": "=> a/b/c.pem",
		".git/hooks/x": "h", "hook": "=> .git/hooks/x", "odd\xff": "x",
	}
	for name, tt := range map[string]struct {
		share         plan.Share
		hide, protect string
		unmatched     string
		refused       string
	}{
		"nothing":             {plan.Share{}, "", "", "", ""},
		"hooks":               {plan.Share{Hooks: true}, "", ".git/hooks hook", "", ""},
		"exact":               {plan.Share{Hide: []string{"/a/.env", "/no"}}, "a/.env", "", "/no", ""},
		"any depth":           {plan.Share{Hide: []string{".env"}, Protect: []string{"a"}}, ".env a/.env", "a hard", "", ""},
		"wildcard and links":  {plan.Share{Hide: []string{"*.pem"}}, "a/b/c.pem hard", "", "", ""},
		"directories alone":   {plan.Share{Hide: []string{"a/", "hard/"}}, "a hard", "", "hard/", ""},
		"hide wins":           {plan.Share{Hide: []string{"/a/b"}, Protect: []string{"/a", "/a/b"}}, "a/b hard", "a", "", ""},
		"a name that is odd":  {plan.Share{Hide: []string{"odd*"}}, "odd\xff", "", "", ""},
		"link out":            {plan.Share{Hide: []string{"out"}}, "", "", "", ""},
		"link to a directory": {plan.Share{Hide: []string{"link"}}, "a hard", "", "", ""},
		"protect a link":      {plan.Share{Protect: []string{"out"}}, "", "", "", "out is a symbolic link, which cannot be protected"},
		"behind a link":       {plan.Share{Protect: []string{"link/.env"}}, "", "", "", "link/.env is behind a symbolic link"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "work")
			guardTree(t, dir, os.Geteuid(), files)
			tt.share.Source = dir
			g, unmatched, err := FindGuard(t.Context(), tt.share)
			if tt.refused != "" {
				if fault.CodeOf(err) != fault.ShareUnguarded || !strings.Contains(err.Error(), tt.refused) {
					t.Errorf("FindGuard() = %v; want that %s", err, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			text := func(paths [][]byte) string {
				var all []string
				for _, p := range paths {
					all = append(all, string(p))
				}
				slices.Sort(all)
				return strings.Join(all, " ")
			}
			if text(g.Hide) != tt.hide || text(g.Protect) != tt.protect || strings.Join(unmatched, " ") != tt.unmatched {
				t.Errorf("FindGuard() = hide %q, protect %q, unmatched %q; want %q, %q, %q", text(g.Hide), text(g.Protect), unmatched, tt.hide, tt.protect, tt.unmatched)
			}
		})
	}
	// More than a server can be told of. Hooks that have as many names are no error: nobody
	// asked for them.
	dir := t.TempDir()
	guardTree(t, dir, os.Geteuid(), map[string]string{".git/hooks/x": "h"})
	for i := range mostGuarded + 1 {
		if err := os.Link(filepath.Join(dir, ".git/hooks/x"), filepath.Join(dir, fmt.Sprint(i))); err != nil {
			t.Skip(err)
		}
	}
	if g, _, err := FindGuard(t.Context(), plan.Share{Source: dir, Hooks: true}); err != nil || len(g.Protect) != 1 {
		t.Errorf("FindGuard() = %d paths, %v; want the hooks", len(g.Protect), err)
	}
	dir = t.TempDir()
	for i := range mostGuarded + 1 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.key", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := FindGuard(t.Context(), plan.Share{Source: dir, Hide: []string{"*.key"}}); fault.CodeOf(err) != fault.ShareUnguarded {
		t.Errorf("FindGuard() = %v; want the code %s", err, fault.ShareUnguarded)
	}
}
