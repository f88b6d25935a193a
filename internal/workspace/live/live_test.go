package live

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/review"
)

// judge watches files called "run", and what is in directories called "conf".
type judge struct{}

func (judge) Watches(p string) bool  { return path.Base(p) == "run" || path.Base(path.Dir(p)) == "conf" }
func (judge) Leads(name string) bool { return name == "conf" }

// tree makes files, and links from texts that begin with an arrow.
func tree(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		os.Remove(full)
		var err error
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			err = os.Symlink(target, full)
		} else {
			err = os.WriteFile(full, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func content(n review.Node) string {
	if n.Kind != review.Regular {
		return "-> " + n.Target
	}
	if n.Open == nil {
		return "?"
	}
	r, err := n.Open()
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	data, _ := io.ReadAll(r)
	return string(data)
}

func TestCompare(t *testing.T) {
	for name, tt := range map[string]struct {
		before map[string]string
		change func(t *testing.T, dir string)
		want   []string // path: old => new
	}{
		"nothing": {map[string]string{"run": "a", "sub/run": "b", "main": "x"}, func(t *testing.T, dir string) {
			tree(t, dir, map[string]string{"main": "y", "new": "z"})
			if err := os.Chtimes(filepath.Join(dir, "run"), time.Unix(1, 0), time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
		}, nil},
		"modified, added and gone": {map[string]string{"run": "a", "sub/run": "b", "old/run": "c"}, func(t *testing.T, dir string) {
			tree(t, dir, map[string]string{"run": "A", "x/y/run": "n", "conf/z": "set"})
			os.RemoveAll(filepath.Join(dir, "old"))
		}, []string{"conf/z: none => set", "old/run: c => none", "run: a => A", "x/y/run: none => n"}},
		"the same size and times": {map[string]string{"run": "one"}, func(t *testing.T, dir string) {
			fi, err := os.Stat(filepath.Join(dir, "run"))
			if err != nil {
				t.Fatal(err)
			}
			tree(t, dir, map[string]string{"run": "two"})
			os.Chtimes(filepath.Join(dir, "run"), fi.ModTime(), fi.ModTime())
		}, []string{"run: one => two"}},
		"mode": {map[string]string{"run": "a"}, func(t *testing.T, dir string) {
			if err := os.Chmod(filepath.Join(dir, "run"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, []string{"run: a => a"}},
		"a parent was renamed and replaced": {map[string]string{"a/conf/x": "old"}, func(t *testing.T, dir string) {
			os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "b"))
			tree(t, dir, map[string]string{"a/conf/x": "evil"})
		}, []string{"a/conf/x: old => evil", "b/conf/x: none => old"}},
		"a file became a link": {map[string]string{"run": "a", "other": "b"}, func(t *testing.T, dir string) {
			tree(t, dir, map[string]string{"run": "-> other"})
		}, []string{"run: a => -> other"}},
		"behind a link": {map[string]string{"run": "-> other", "other": "b"}, func(t *testing.T, dir string) {
			tree(t, dir, map[string]string{"other": "evil"})
		}, []string{"run: b => evil"}},
		"a directory became a link": {map[string]string{"conf/x": "a"}, func(t *testing.T, dir string) {
			os.Rename(filepath.Join(dir, "conf"), filepath.Join(dir, "hidden"))
			tree(t, dir, map[string]string{"hidden/x": "evil", "hidden/y": "more", "conf": "-> hidden"})
		}, []string{"conf: none => -> hidden", "conf/x: a => evil", "conf/y: none => more"}},
		"a link of a directory turned": {map[string]string{"one/x": "a", "two/x": "b", "conf": "-> one"}, func(t *testing.T, dir string) {
			tree(t, dir, map[string]string{"conf": "-> two"})
		}, []string{"conf: -> one => -> two", "conf/x: a => b"}},
		"links outside and in circles": {map[string]string{"conf": "-> .", "x/conf": "-> /etc", "y/conf": "-> ../../..", "z/run": "-> /etc/hostname"}, func(t *testing.T, dir string) {
		}, nil},
		"special files": {map[string]string{"run": "a"}, func(t *testing.T, dir string) {
			os.Remove(filepath.Join(dir, "run"))
			for _, name := range []string{"run", "conf/f"} {
				os.MkdirAll(filepath.Join(dir, "conf"), 0o755)
				if err := unix.Mkfifo(filepath.Join(dir, name), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}, []string{"run: a => none"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, copies := t.TempDir(), filepath.Join(t.TempDir(), "copies")
			tree(t, dir, tt.before)
			rec, err := Take(t.Context(), dir, copies, judge{})
			if err != nil {
				t.Fatal(err)
			}
			tt.change(t, dir)
			got, err := Compare(t.Context(), rec, copies, judge{})
			if err != nil || got.Partly {
				t.Fatalf("Compare() = %+v, %v", got, err)
			}
			var lines []string
			for _, c := range got.Changes {
				side := func(n review.Node) string {
					if n.Kind == review.None {
						return "none"
					}
					return content(n)
				}
				lines = append(lines, fmt.Sprintf("%s: %s => %s", c.Path, side(c.Old), side(c.New)))
			}
			if d := cmp.Diff(tt.want, lines); d != "" {
				t.Errorf("changes (-want +got):\n%s", d)
			}
		})
	}
}

// What is below git's objects is not looked at, and a directory that is gone is no error.
func TestLeftOut(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{".git/objects/run": "a", ".git/hooks/run": "b"})
	rec, err := Take(t.Context(), dir, t.TempDir(), judge{})
	if err != nil || len(rec.Entries) != 1 || string(rec.Entries[0].Path) != ".git/hooks/run" || rec.Levels != allLevels {
		t.Errorf("Take() = %+v, %v; want the hook alone", rec, err)
	}
	os.RemoveAll(dir)
	if got, err := Compare(t.Context(), rec, t.TempDir(), judge{}); err != nil || len(got.Changes) > 0 {
		t.Errorf("Compare() of a directory that is gone = %+v, %v", got, err)
	}
}

// A directory that can be listed no more can hold what runs: that it was not looked at is
// said, unless it was so before.
func TestClosed(t *testing.T) {
	if os.Geteuid() == 0 {
		// As another user, whom modes bind.
		runtime.LockOSThread() // and never unlocked: the thread ends with the test
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 12345, ^uintptr(0)); errno != 0 {
			t.Skip(errno)
		}
	}
	dir, err := os.MkdirTemp("/var/tmp", "mayfly-live-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	tree(t, dir, map[string]string{"old/run": "a", "new/main": "b"})
	if err := os.Chmod(filepath.Join(dir, "old"), 0o311); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(filepath.Join(dir, "old"), 0o700)
	rec, err := Take(t.Context(), dir, filepath.Join(dir, "copies"), judge{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Compare(t.Context(), rec, "", judge{}); err != nil || got.Partly {
		t.Errorf("Compare() = %+v, %v; want all of it", got, err)
	}
	tree(t, dir, map[string]string{"new/run": "evil"})
	if err := os.Chmod(filepath.Join(dir, "new"), 0o311); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(filepath.Join(dir, "new"), 0o700)
	if got, err := Compare(t.Context(), rec, "", judge{}); err != nil || !got.Partly {
		t.Errorf("Compare() = %+v, %v; want that it is a part", got, err)
	}
}

// Bounds leave out what is deepest, and say so.
func TestLevels(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{"run": "a", "x/run": "b", "x/y/run": "c"})
	rec, err := Take(t.Context(), dir, t.TempDir(), judge{})
	if err != nil {
		t.Fatal(err)
	}
	rec.Entries = slices.DeleteFunc(rec.Entries, func(e Entry) bool { return string(e.Path) == "x/y/run" })
	rec.Levels = 2
	tree(t, dir, map[string]string{"z/run": "new"})
	got, err := Compare(t.Context(), rec, t.TempDir(), judge{})
	if err != nil || !got.Partly || len(got.Changes) != 1 || got.Changes[0].Path != "z/run" {
		t.Errorf("Compare() = %+v, %v; want the new file, and that it is a part", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Take(ctx, dir, t.TempDir(), judge{}); err == nil {
		t.Error("Take() with a context that ended = nil")
	}
}
