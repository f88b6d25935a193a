package workspace

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// packedTree packs files and returns how what they become is found.
func packedTree(t *testing.T, exclude []string, files map[string]string) (dir string, o Outgoing) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		put(t, dir, name, text)
	}
	image, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { image.Close() })
	m, err := Pack(t.Context(), dir, image, PackOptions{Exclude: exclude})
	if err != nil {
		t.Fatal(err)
	}
	base, err := m.OpenImage(image)
	if err != nil {
		t.Fatal(err)
	}
	return dir, Outgoing{
		Manifest: m, Packed: base, Synced: &Synced{Of: m.Started}, Store: Store{filepath.Join(t.TempDir(), "sent")},
		Exclude: exclude, Skip: func(p string) bool { return p == ".git" || strings.HasPrefix(p, ".git/") },
	}
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// lines returns items and notes as text.
func (o Outgoing) lines(t *testing.T) string {
	t.Helper()
	var lines []string
	o.Warn = func(n Note) { lines = append(lines, n.String()) }
	items, err := o.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range items {
		lines = append(lines, fmt.Sprintf("%s %v -> %v", it.Path, it.Old[0].Kind, it.New.Kind))
		if it.New.Kind != File {
			continue
		}
		f, err := o.Store.Open(&it)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return strings.Join(lines, "\n")
}

// What is found follows the rules of the copy.
func TestOutgoing(t *testing.T) {
	dir, o := packedTree(t, []string{"*.iso", "cache/"}, map[string]string{
		"a": "1", "sub/b": "1", "sub/deep/c": "1", "cache/x": "1", "d.iso": "1", ".git/HEAD": "1", "touched": "1",
	})
	if got := o.lines(t); got != "" {
		t.Errorf("of an unchanged directory: %s", got)
	}
	put(t, dir, "cache/x", "2")
	put(t, dir, "cache/y", "2")
	put(t, dir, "e.iso", "2")
	put(t, dir, ".git/HEAD", "2")
	put(t, dir, "sub/.git2", "2")
	if err := os.Chtimes(filepath.Join(dir, "touched"), time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "a", "2")
	if err := os.RemoveAll(filepath.Join(dir, "sub/deep")); err != nil {
		t.Fatal(err)
	}
	want := "sub/deep/c file -> nothing\nsub/deep directory -> nothing\na file -> file\nsub/.git2 nothing -> file"
	if got := o.lines(t); got != want {
		t.Errorf("found\n%s\nwant\n%s", got, want)
	}
	for at, want := range map[string]string{
		"a": "a file -> file", "sub/deep": "sub/deep/c file -> nothing\nsub/deep directory -> nothing",
		"sub/deep/c": "sub/deep/c file -> nothing\nsub/deep directory -> nothing", "cache/x": "", ".git/HEAD": "", "nothing": "",
		"sub": "sub/deep/c file -> nothing\nsub/deep directory -> nothing\nsub/.git2 nothing -> file",
	} {
		o.At = []string{at}
		if got := o.lines(t); got != want {
			t.Errorf("at %s found\n%s\nwant\n%s", at, got, want)
		}
	}
	o.At = nil
	for _, name := range []string{"a", "sub", "touched", "cache", "d.iso", "e.iso", ".git"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := o.Find(t.Context()); fault.CodeOf(err) != fault.SyncEmpty {
		t.Errorf("of an empty directory: %v; want the code %s", err, fault.SyncEmpty)
	}
}

// What cannot be read is named, and what the machine has of it stays.
func TestOutgoingUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root reads everything")
	}
	dir, o := packedTree(t, nil, map[string]string{"a": "1", "shut/b": "1", "c": "1"})
	put(t, dir, "a", "22")
	put(t, dir, "c", "22")
	for _, name := range []string{"a", "shut"} {
		if err := os.Chmod(filepath.Join(dir, name), 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(dir, "shut"), 0o755) })
	want := "shut: cannot be read; left as it is in the machine\na: cannot be read; left as it is in the machine\nc file -> file\nshut directory -> directory"
	if got := o.lines(t); got != want {
		t.Errorf("found\n%s\nwant\n%s", got, want)
	}
}

// A path on the host that becomes a symbolic link while it is looked at leads nowhere.
func TestOutgoingLinks(t *testing.T) {
	outside := t.TempDir()
	put(t, outside, "secret", "secret")
	dir, o := packedTree(t, nil, map[string]string{"d/secret": "1", "f": "1"})
	if err := os.RemoveAll(filepath.Join(dir, "d")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "d")); err != nil {
		t.Fatal(err)
	}
	want := "d/secret file -> nothing\nd directory -> symbolic link"
	if got := o.lines(t); got != want {
		t.Errorf("found\n%s\nwant\n%s", got, want)
	}
	o.At = []string{"d/secret"}
	if got := o.lines(t); got != want {
		t.Errorf("at what is behind the link found\n%s\nwant\n%s", got, want)
	}
	if _, err := os.Stat(o.Store.path(sum(t, "secret"))); err == nil {
		t.Error("what is behind the link was read")
	}
}

// Contents that nothing needs are removed, but not under who reads them.
func TestStoreSweep(t *testing.T) {
	dir, o := packedTree(t, nil, map[string]string{"a": "1"})
	put(t, dir, "a", "2")
	o.lines(t)
	unlock, err := o.Store.Lock()
	if err != nil {
		t.Fatal(err)
	}
	count := func() int {
		names, err := os.ReadDir(o.Store.Dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	if err := o.Store.Sweep(o.Synced); err != nil || count() != 1 {
		t.Errorf("sweep while it is read = %v, %d left", err, count())
	}
	unlock()
	if err := o.Store.Sweep(o.Synced); err != nil || count() != 0 {
		t.Errorf("sweep = %v, %d left", err, count())
	}
}

// A large file with holes is stored as one, and costs no time.
func TestOutgoingSparse(t *testing.T) {
	dir, o := packedTree(t, nil, map[string]string{"a": "1"})
	f, err := os.Create(filepath.Join(dir, "large"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(8 << 30); err != nil {
		t.Fatal(err)
	}
	if got, want := o.lines(t), "large nothing -> file"; got != want {
		t.Errorf("found %q; want %q", got, want)
	}
	if err := f.Truncate(DefaultStageLimit + 1); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Find(t.Context()); fault.CodeOf(err) != fault.SyncTooLarge {
		t.Errorf("of a file that is too large: %v; want the code %s", err, fault.SyncTooLarge)
	}
	var st unix.Stat_t
	names, err := filepath.Glob(filepath.Join(o.Store.Dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if unix.Stat(name, &st) != nil || st.Blocks > 1<<10 {
			t.Errorf("%s has %d blocks", name, st.Blocks)
		}
	}
}
