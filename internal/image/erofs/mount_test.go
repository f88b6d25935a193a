package erofs

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/test/env"
)

// needMount skips t where images cannot be mounted.
func needMount(t *testing.T) {
	t.Helper()
	env.NeedVM(t)
	env.NeedRoot(t)
}

// mount mounts something until the test ends.
func mount(t *testing.T, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", append(args, dir)...).CombinedOutput(); err != nil {
		t.Fatalf("mount %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("umount: %v", err)
		}
	})
	return dir
}

// mountImage mounts an image; the kernel frees the loop device with it.
func mountImage(t *testing.T, f *os.File) string {
	t.Helper()
	return mount(t, "-t", "erofs", "-o", "loop,ro", f.Name())
}

// TestKernel compares what Linux sees with what went in.
func TestKernel(t *testing.T) {
	needMount(t)
	items := nasty()
	dir := mountImage(t, build(t, items))
	links := make(map[string]uint64)
	want := make(map[string]item)
	for _, it := range items {
		want[it.Path] = it
		first := it.Path
		if it.Link != "" {
			first = it.Link
		}
		links[first]++
		if it.Mode&unix.S_IFMT == unix.S_IFDIR {
			links[it.Path]++ // its "."
			if it.Path != "." {
				links[filepath.Dir(it.Path)]++
			}
		}
	}
	seen := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		seen++
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		it, ok := want[rel]
		if !ok {
			return fmt.Errorf("%q should not be there", rel)
		}
		first := rel
		if it.Link != "" {
			first = it.Link
			it = want[first]
		}
		compareHost(t, path, it, links[first])
		if d.Type() != os.FileMode(0) && d.Type() != mustLstat(t, path).Mode().Type() {
			t.Errorf("%.80q: the directory says type %v", rel, d.Type())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen != len(want) {
		t.Errorf("the kernel shows %d files; want %d", seen, len(want))
	}
	for _, missing := range []string{"big/", "-", "zzz", "big/10000", "big/00000x", "big/!", "big/~"} {
		if _, err := os.Lstat(filepath.Join(dir, missing+"?")); !os.IsNotExist(err) {
			t.Errorf("Lstat(%q) = %v; want not found", missing, err)
		}
	}
}

func mustLstat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi
}

// compareHost compares a file of the host with an item.
func compareHost(t *testing.T, path string, it item, nlink uint64) {
	t.Helper()
	fi := mustLstat(t, path)
	st := fi.Sys().(*syscall.Stat_t)
	got := fmt.Sprintf("mode %o owner %d:%d rdev %d nlink %d time %v", st.Mode, st.Uid, st.Gid, st.Rdev, st.Nlink, fi.ModTime().UTC())
	want := fmt.Sprintf("mode %o owner %d:%d rdev %d nlink %d time %v", it.Mode, it.UID, it.GID, it.Rdev, nlink, it.MTime.UTC())
	if got != want {
		t.Errorf("%.80q: %s; want %s", it.Path, got, want)
	}
	switch it.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		if target, err := os.Readlink(path); err != nil || target != it.Target {
			t.Errorf("%.80q: Readlink() = %.80q, %v; want %.80q", it.Path, target, err, it.Target)
		}
	case unix.S_IFREG:
		b, err := os.ReadFile(path)
		if err != nil || string(b) != it.content {
			t.Errorf("%.80q: content of %d bytes differs, %v; want %d bytes", it.Path, len(b), err, len(it.content))
		}
	}
	var names []string
	for name, value := range it.Xattrs {
		names = append(names, name)
		b := make([]byte, 1<<16)
		n, err := unix.Lgetxattr(path, name, b)
		if err != nil || !bytes.Equal(b[:n], value) {
			t.Errorf("%.80q: xattr %.80q = %.80q, %v; want %.80q", it.Path, name, b[:max(n, 0)], err, value)
		}
	}
	b := make([]byte, 1<<16)
	n, err := unix.Llistxattr(path, b)
	if err != nil {
		t.Errorf("%.80q: listxattr: %v", it.Path, err)
		return
	}
	var listed []string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(b[:n]), "\x00"), "\x00") {
		if name != "" {
			listed = append(listed, name)
		}
	}
	slices.Sort(names)
	slices.Sort(listed)
	if !slices.Equal(names, listed) {
		t.Errorf("%.80q: xattrs %.200q; want %.200q", it.Path, listed, names)
	}
}

// TestKernelSparse lets the kernel read a file that is larger than 4 GiB.
func TestKernelSparse(t *testing.T) {
	needMount(t)
	f := hugeImage(t)
	dir := mountImage(t, f)
	huge, err := os.Open(filepath.Join(dir, "huge"))
	if err != nil {
		t.Fatal(err)
	}
	defer huge.Close()
	fi, err := huge.Stat()
	if err != nil || fi.Size() != hugeSize {
		t.Errorf("Stat() = %v, %v; want %d bytes", fi.Size(), err, int64(hugeSize))
	}
	checkHuge(t, huge)
	fsckQuick(t, f)
}

// TestOverlay checks that overlayfs understands what FromTar makes of an OCI
// layer's whiteouts.
func TestOverlay(t *testing.T) {
	needMount(t)
	lower := build(t, []item{
		directory("gone"), reg("gone/file", "1"),
		directory("kept"), reg("kept/gone", "1"), reg("kept/stays", "1"),
		directory("opaque"), reg("opaque/hidden", "1"),
		directory("replaced"), reg("replaced/hidden", "1"),
		reg("file", "old"), reg("type", "file"),
	})
	upper, w := create(t, Options{})
	layer := makeTar(t,
		tarReg("replaced/new", "2"), // before its whiteout
		tarDir("kept/"), tarReg("kept/.wh.gone", ""),
		tarReg(".wh.gone", ""),
		tarDir("opaque/"), tarReg("opaque/new", "2"), tarReg("opaque/.wh..wh..opq", ""),
		tarReg(".wh.replaced", ""),
		tarReg(".wh.file", ""), tarReg("file", "new"),
		tarReg(".wh.type", ""), tarDir("type/"), tarReg("type/in", ""),
	)
	if err := FromTar(w, layer, TarOptions{OCI: true}); err != nil {
		t.Fatal(err)
	}
	finish(t, w)
	fsck(t, upper)
	low, up := mountImage(t, lower), mountImage(t, upper)
	work := mount(t, "-t", "tmpfs", "tmpfs")
	for _, d := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(work, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := mount(t, "-t", "overlay", "-o", fmt.Sprintf("lowerdir=%s:%s,upperdir=%s/upper,workdir=%s/work", up, low, work, work), "overlay")
	var got []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if !d.IsDir() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rel += "=" + string(b)
		}
		got = append(got, rel)
		return err
	})
	want := []string{".", "file=new", "kept", "kept/stays=1", "opaque", "opaque/new=2", "replaced", "replaced/new=2", "type", "type/in="}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("overlay holds %q, %v; want %q", got, err, want)
	}
	// It must be possible to change what the layers brought.
	if err := os.WriteFile(filepath.Join(dir, "opaque", "hidden"), []byte("3"), 0o644); err != nil {
		t.Error(err)
	}
}
