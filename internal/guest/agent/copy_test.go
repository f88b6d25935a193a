package agent

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// Files come out as they are, and go in again, without a program of the guest's.
func TestCopy(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(dir+"/src/a", 0o755), os.WriteFile(dir+"/src/a/f", bytes.Repeat([]byte("x"), 300_000), 0o640),
		os.Symlink("a/f", dir+"/src/link"), unix.Mkfifo(dir+"/fifo", 0o600), os.Mkdir(dir+"/in", 0o755)); err != nil {
		t.Fatal(err)
	}
	g := startGuest(t)
	r, err := client.CopyOut(g.open(t), wire.Copy{Path: []byte("src"), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for tr := tar.NewReader(bytes.NewReader(stream)); ; {
		h, err := tr.Next()
		if err != nil {
			break
		}
		names = append(names, h.Name)
	}
	if got := strings.Join(names, " "); got != "src src/a src/a/f src/link" {
		t.Errorf("the guest sent %s", got)
	}
	for target, want := range map[string]string{"in": "in/src/a/f", "in/new": "in/new/a/f", filepath.Join(dir, "in/abs"): "in/abs/a/f"} {
		if err := client.CopyIn(g.open(t), wire.Copy{Path: []byte(target), Dir: dir, Name: []byte("src")}, bytes.NewReader(stream)); err != nil {
			t.Errorf("CopyIn(%s) = %v", target, err)
		}
		fi, err := os.Stat(filepath.Join(dir, want))
		if err != nil || fi.Size() != 300_000 || fi.Mode().Perm() != 0o640 {
			t.Errorf("%s: %v, %v", want, fi, err)
		}
	}
	for path, want := range map[string]string{"none": "no such file", "none/x": "no such file", "fifo": "neither a file"} {
		r, err := client.CopyOut(g.open(t), wire.Copy{Path: []byte(path), Dir: dir})
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if _, ok := errors.AsType[*client.GuestError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("CopyOut(%s) = %v; want %s", path, err, want)
		}
	}
	err = client.CopyIn(g.open(t), wire.Copy{Path: []byte("none/x"), Dir: dir, Name: []byte("src")}, io.LimitReader(zeros{}, 1<<30))
	if _, ok := errors.AsType[*client.GuestError](err); !ok || !strings.Contains(err.Error(), "no such directory") {
		t.Errorf("CopyIn(none/x) = %v; want that there is no directory", err)
	}
}
