package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// newTree makes a tree of files: a layer for each map, the top one first, by name.
// A name that ends in a slash is a directory, a content that begins with "→" a
// symbolic link, "whiteout" hides.
func newTree(t *testing.T, layers ...map[string]string) tree {
	t.Helper()
	dir := t.TempDir()
	tr := treeOf(filepath.Join(dir, "upper"), nil, newSeen())
	if err := os.Mkdir(tr.upper, 0o755); err != nil {
		t.Fatal(err)
	}
	for i, files := range layers {
		layer := filepath.Join(dir, string(rune('a'+i)))
		for name, content := range files {
			file := filepath.Join(layer, name)
			if strings.HasSuffix(name, "/") {
				if err := os.MkdirAll(file, 0o755); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			var err error
			if target, ok := strings.CutPrefix(content, "→"); ok {
				err = os.Symlink(target, file)
			} else if content == "whiteout" {
				err = unix.Mknod(file, unix.S_IFCHR, 0) // no privilege is needed for this one
			} else {
				err = os.WriteFile(file, []byte(content), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		tr.lowers = append(tr.lowers, layer)
	}
	return tr
}

// checkFile fails t unless the tree shows content at name.
func checkFile(t *testing.T, tr tree, name, want string) {
	t.Helper()
	got, err := tr.readFile(name)
	if err != nil || string(got) != want {
		t.Errorf("%s = %q, %v; want %q", name, got, err, want)
	}
}

// A link hides nothing that is there, and its parents are made.
func TestLink(t *testing.T) {
	tr := newTree(t, map[string]string{"home/u/": "", "here/": "", "file": "a file", "away": "→/here", "loop": "→loop", "gone": "whiteout"}, map[string]string{"gone": "below"})
	u := wire.User{UID: os.Getuid(), GID: os.Getgid(), Home: "/home/u"}
	for name, made := range map[string]bool{
		"/home/u/a/b/project": true, "/away/project": true, "/gone": true, "/new": true,
		"/here": false, "/file": false, "/away": false, "/loop": false, "/file/x": false, "/loop/x/y": false, "/../..": false,
	} {
		_, before, _ := tr.stat(name)
		err := tr.link(wire.Link{Path: name, Target: "/data/project"}, u)
		if (err == nil) != made {
			t.Errorf("link at %s: %v", name, err)
		}
		file, fi, statErr := tr.stat(name)
		if !made {
			if before != nil && (statErr != nil || !os.SameFile(before, fi)) {
				t.Errorf("at %s is %v, %v", name, fi, statErr)
			}
			continue
		}
		if target, err := os.Readlink(file); err != nil || target != "/data/project" {
			t.Errorf("the link at %s leads to %q, %v", name, target, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(tr.upper, "here/project")); err != nil {
		t.Errorf("links on the way are not followed in the tree: %v", err)
	}
}

// What a tree shows is what an overlay of it would.
func TestTree(t *testing.T) {
	tr := newTree(t,
		map[string]string{"etc/both": "above", "etc/gone": "whiteout", "dir": "a file", "etc/skel/.new": "new", "etc/skel/.profile": "whiteout"},
		map[string]string{
			"etc/both": "below", "etc/gone": "below", "etc/below": "below", "dir/x": "hidden by a file",
			"bin": "→usr/bin", "usr/bin/zsh": "→/bin/real", "usr/bin/real": "program", "usr/bin/data/": "",
			"loop1": "→loop2", "loop2": "→loop1", "abs": "→/etc", "up": "→../../../etc",
			"etc/skel/.profile": "old", "etc/skel/.bashrc": "bash", "etc/skel/sub/": "", "etc/skel/.link": "→.bashrc",
		})
	if err := os.Chmod(filepath.Join(tr.lowers[1], "usr/bin/real"), 0o755); err != nil {
		t.Fatal(err)
	}
	checkFile(t, tr, "/etc/both", "above")
	checkFile(t, tr, "/etc/below", "below")
	checkFile(t, tr, "/abs/below", "below")
	checkFile(t, tr, "/up/below", "below") // a link cannot leave the tree
	checkFile(t, tr, "/bin/real", "program")
	for _, name := range []string{"/etc/gone", "/etc/nothing", "/no/where"} {
		if _, _, err := tr.stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat(%s) = %v; want %v", name, err, fs.ErrNotExist)
		}
	}
	if _, _, err := tr.stat("/dir/x"); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("stat(/dir/x) = %v; want %v", err, unix.ENOTDIR)
	}
	if _, _, err := tr.stat("/loop1/x"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("stat(/loop1/x) = %v; want %v", err, unix.ELOOP)
	}
	if names, err := tr.readDir("/etc/skel"); err != nil || !slices.Equal(names, []string{".bashrc", ".new"}) {
		t.Errorf("readDir(/etc/skel) = %q, %v; want the regular files", names, err)
	}
	for name, want := range map[string]string{"zsh": "/usr/bin/zsh", "real": "/usr/bin/real", "data": "", "nothing": "", "/opt/x": "/opt/x"} {
		if got, ok := tr.findProgram(name); got != want || ok != (want != "") {
			t.Errorf("findProgram(%s) = %q, %v; want %q", name, got, ok, want)
		}
	}
}

func TestTreeWrites(t *testing.T) {
	tr := newTree(t, map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/localtime": "→/usr/share/zoneinfo/UTC", "closed/": "", "var/run": "→/run", "run/": "",
	})
	for name, mode := range map[string]fs.FileMode{"etc/passwd": 0o640, "closed": 0o700, "etc": 0o751} {
		if err := os.Chmod(filepath.Join(tr.lowers[0], name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := tr.edit("/etc/passwd", 0o600, func(b []byte) []byte { return append(b, "u\n"...) }); err != nil {
		t.Fatal(err)
	}
	checkFile(t, tr, "/etc/passwd", "root:x:0:0::/root:/bin/sh\nu\n")
	if err := tr.edit("/etc/new", 0o600, func(b []byte) []byte { return append(b, "made"...) }); err != nil {
		t.Fatal(err)
	}
	if err := tr.writeFile("/etc/localtime", []byte("zone"), 0o644); err != nil {
		t.Fatal(err)
	}
	checkFile(t, tr, "/etc/localtime", "zone")
	if err := tr.writeFile("/var/run/x/y", []byte("linked"), 0o644); err != nil {
		t.Fatal(err)
	}
	u := wire.User{Name: "u", UID: os.Getuid(), GID: os.Getgid(), Home: "/home/u"}
	if got, err := tr.makePath("/closed/work", u); err != nil || got != "/closed/work" {
		t.Errorf("makePath() = %q, %v", got, err)
	}
	for name, want := range map[string]fs.FileMode{
		"etc": 0o751, "etc/passwd": 0o640, "etc/new": 0o600, "etc/localtime": 0o644, "run/x/y": 0o644,
		"closed": 0o711, "closed/work": 0o755, // who could pass on the host is not always who is here
	} {
		fi, err := os.Lstat(filepath.Join(tr.upper, name))
		if err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want mode %o", name, fi, err, want)
		}
	}
	if _, err := os.Lstat(filepath.Join(tr.lowers[0], "etc/new")); err == nil {
		t.Error("a layer was written to")
	}
}

func TestTreeHome(t *testing.T) {
	tr := newTree(t, map[string]string{
		"etc/skel/.bashrc": "skel", "etc/skel/.profile": "skel", "home/u/.profile": "the image's", "home/": "",
		"data": "→/srv/data", "srv/data/": "",
	})
	u := wire.User{Name: "u", UID: os.Getuid(), GID: os.Getgid(), Home: "/home/u"}
	if err := tr.makeHome(u); err != nil {
		t.Fatal(err)
	}
	checkFile(t, tr, "/home/u/.bashrc", "skel")
	checkFile(t, tr, "/home/u/.profile", "the image's")
	checkFile(t, tr, "/home/u/.zshrc", "")
	u.Home = "/data/deep/home"
	if err := tr.makeHome(u); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(tr.upper, "srv/data/deep/home/.zshrc")); err != nil {
		t.Error(err)
	}
	u.Home = "/etc/skel/.bashrc/home"
	if err := tr.makeHome(u); err == nil {
		t.Error("makeHome() in a file = nil; want an error")
	}
}
