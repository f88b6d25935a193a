package agent

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/sparse"
	"github.com/mayfly-vm/mayfly/internal/test/env"
)

func writeFile(t testing.TB, name, data string, mode uint32) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func file(path, data string, mode uint32) wire.Change {
	s := sparse.NewSum()
	s.Write([]byte(data))
	sum := s.Sum()
	return wire.Change{Path: []byte(path), Kind: wire.KindFile, Mode: mode, Size: int64(len(data)), Sum: sum[:]}
}

// changesOf returns the changes by path, without their times.
func changesOf(t testing.TB, g *guest) map[string]wire.Change {
	t.Helper()
	got := make(map[string]wire.Change)
	err := client.Changes(g.open(t), wire.Changes{}, nil, func(c wire.Change) error {
		path := string(c.Path)
		if _, ok := got[path]; ok {
			t.Errorf("%q came twice", path)
		}
		if parent := filepath.Dir(path); parent != "." {
			if _, ok := got[parent]; !ok {
				t.Errorf("%q came before its parent", path)
			}
		}
		if d := time.Since(time.Unix(0, c.MTime)); d < -time.Minute || d > time.Hour {
			t.Errorf("%q was changed %v ago; want now", path, d)
		}
		c.MTime = 0
		got[path] = c
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestChanges(t *testing.T) {
	upper := t.TempDir()
	g := startGuest(t, "UPPER="+upper)
	if got := changesOf(t, g); len(got) != 0 {
		t.Errorf("changes of nothing: %v; want none", got)
	}

	big := strings.Repeat("0123456789", 100_000)
	writeFile(t, upper+"/a", "", 0o644)
	writeFile(t, upper+"/dir/sub/big", big, 0o4755)
	writeFile(t, upper+"/dir/bad\xff name\n", "x", 0o600)
	want := map[string]wire.Change{
		"a":                  file("a", "", 0o644),
		"dir":                {Path: []byte("dir"), Kind: wire.KindDir, Mode: 0o755},
		"dir/sub":            {Path: []byte("dir/sub"), Kind: wire.KindDir, Mode: 0o755},
		"dir/sub/big":        file("dir/sub/big", big, 0o4755),
		"dir/bad\xff name\n": file("dir/bad\xff name\n", "x", 0o600),
	}
	for name, target := range map[string]string{"link": "a", "out": "/etc/passwd", "dir/up": "../../..", "dangling": "\xfe"} {
		if err := os.Symlink(target, filepath.Join(upper, name)); err != nil {
			t.Fatal(err)
		}
		want[name] = wire.Change{Path: []byte(name), Kind: wire.KindSymlink, Mode: 0o777, Target: []byte(target)}
	}
	if err := unix.Mkfifo(upper+"/fifo", 0o644); err != nil {
		t.Fatal(err)
	}
	want["fifo"] = wire.Change{Path: []byte("fifo"), Kind: wire.KindOther, Mode: 0o644}
	// Since Linux 5.8 a whiteout is no device that needs privilege.
	if err := unix.Mknod(upper+"/gone", unix.S_IFCHR, 0); err != nil {
		t.Logf("no whiteout: %v", err)
	} else {
		want["gone"] = wire.Change{Path: []byte("gone"), Kind: wire.KindWhiteout}
	}
	if d := cmp.Diff(want, changesOf(t, g)); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
}

func TestChangesOpaque(t *testing.T) {
	env.NeedRoot(t)
	upper := t.TempDir()
	for _, name := range []string{"whole", "opaque", "odd", "moved", "anew"} {
		if err := os.Mkdir(filepath.Join(upper, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range map[string]string{"opaque": "y", "odd": "x"} {
		if err := unix.Setxattr(filepath.Join(upper, name), opaque, []byte(value), 0); err != nil {
			t.Skipf("the file system of %s keeps no such attribute: %v", upper, err)
		}
	}
	for name, value := range map[string]string{"moved": "/old/place", "anew": "old"} {
		if err := unix.Setxattr(filepath.Join(upper, name), redirect, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Setxattr(upper+"/anew", opaque, []byte("y"), 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(upper+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Skipf("may not make a device: %v", err)
	}
	got := changesOf(t, startGuest(t, "UPPER="+upper))
	for name, want := range map[string]bool{"whole": false, "opaque": true, "odd": false} {
		if got[name].Opaque != want {
			t.Errorf("%s: opaque %v; want %v", name, got[name].Opaque, want)
		}
	}
	for name, want := range map[string]string{"whole": "", "moved": "/old/place", "anew": ""} {
		if to := string(got[name].Redirect); to != want {
			t.Errorf("%s: a redirect to %q; want %q", name, to, want)
		}
	}
	if k := got["null"].Kind; k != wire.KindOther {
		t.Errorf("a device is a %s; want %s", k, wire.KindOther)
	}
}

func TestNoWorkspace(t *testing.T) {
	g := startGuest(t)
	if err := client.Changes(g.open(t), wire.Changes{}, nil, nil); err == nil || !strings.Contains(err.Error(), "no workspace") {
		t.Errorf("Changes() = %v; want that there is no workspace", err)
	}
	if _, err := fetchFrom(t, g, "a"); err == nil || !strings.Contains(err.Error(), "no workspace") {
		t.Errorf("Fetch() = %v; want that there is no workspace", err)
	}
}

// A tree that changes while it is read is read all the same.
func TestChangesMeanwhile(t *testing.T) {
	upper := t.TempDir()
	g := startGuest(t, "UPPER="+upper)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				os.MkdirAll(upper+"/d/e/f", 0o755)
				os.WriteFile(upper+"/d/e/f/g", []byte("x"), 0o644)
				os.RemoveAll(upper + "/d")
			}
		}
	}()
	for range 50 {
		if err := client.Changes(g.open(t), wire.Changes{}, nil, func(wire.Change) error { return nil }); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	<-stopped
}

func fetchFrom(t testing.TB, g *guest, paths ...string) (map[string]string, error) {
	t.Helper()
	got := make(map[string]string)
	open := func() (io.ReadWriteCloser, error) { return g.open(t), nil }
	return got, client.Fetch(open, paths, func(path string, content io.Reader) error {
		var b bytes.Buffer
		_, err := io.Copy(&b, content)
		got[path] = b.String()
		return err
	})
}

func TestFetch(t *testing.T) {
	upper := t.TempDir()
	g := startGuest(t, "UPPER="+upper)
	big := strings.Repeat("0123456789", 1_000_000)
	want := map[string]string{"a": "", "d/big": big, "bad\xff\n": "x"}
	var paths []string
	for name, data := range want {
		writeFile(t, filepath.Join(upper, name), data, 0o400)
		paths = append(paths, name)
	}
	got, err := fetchFrom(t, g, paths...)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error("what was fetched differs from what is there")
	}
}

// Only regular files can be had, and none beyond the workspace.
func TestFetchRefused(t *testing.T) {
	upper := t.TempDir()
	outside := filepath.Join(t.TempDir(), "secret")
	writeFile(t, outside, "secret", 0o644)
	writeFile(t, upper+"/a", "inside", 0o644)
	for name, target := range map[string]string{"abs": outside, "up": "../" + filepath.Base(filepath.Dir(outside)) + "/secret"} {
		if err := os.Symlink(target, filepath.Join(upper, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(upper+"/fifo", 0o644); err != nil {
		t.Fatal(err)
	}
	g := startGuest(t, "UPPER="+upper)
	for _, path := range []string{"missing", ".", "", "/", "..", "../../etc/passwd", "/etc/passwd", outside, "abs", "up", "fifo", "a/", "a\x00b"} {
		got, err := fetchFrom(t, g, path)
		var refused *client.GuestError
		if !errors.As(err, &refused) || got[path] != "" {
			t.Errorf("Fetch(%q) = %q, %v; want a GuestError", path, got[path], err)
		}
	}
}
