package erofs

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// item is an entry with its content, as the tests write them down.
type item struct {
	Entry
	content string
}

func reg(path, content string) item {
	return item{Entry{Path: path, Mode: unix.S_IFREG | 0o644, Size: int64(len(content)), MTime: time.Unix(1, 2)}, content}
}

func directory(path string) item {
	return item{Entry{Path: path, Mode: unix.S_IFDIR | 0o755, MTime: time.Unix(1, 2)}, ""}
}

// random returns n bytes that are the same every time and never a hole. They
// repeat, but with no block's or chunk's length.
func random(n int) string {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	b := make([]byte, 10007)
	for i := range b {
		b[i] = byte(1 + r.IntN(255))
	}
	return strings.Repeat(string(b), n/len(b)+1)[:n]
}

// build writes an image of items and returns its file.
func build(t testing.TB, items []item) *os.File {
	t.Helper()
	f, w := create(t, Options{})
	for _, it := range items {
		var r io.Reader
		if it.Size > 0 {
			r = strings.NewReader(it.content)
		}
		if err := w.Add(it.Entry, r); err != nil {
			t.Fatalf("Add(%.80q) = %v", it.Path, err)
		}
	}
	finish(t, w)
	return f
}

func create(t testing.TB, o Options) (*os.File, *Writer) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image.erofs"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	w, err := NewWriter(f, o)
	if err != nil {
		t.Fatal(err)
	}
	return f, w
}

func finish(t testing.TB, w *Writer) Stats {
	t.Helper()
	s, err := w.Finish()
	if err != nil {
		t.Fatalf("Finish() = %v", err)
	}
	return s
}

func open(t testing.TB, f *os.File) *Image {
	t.Helper()
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	im, err := Open(f, fi.Size())
	if err != nil {
		t.Fatalf("Open() = %v", err)
	}
	return im
}

// readAll walks an image and returns all of it.
func readAll(t testing.TB, im *Image) []item {
	t.Helper()
	var items []item
	err := im.Walk(func(e Entry, open func() *io.SectionReader) error {
		it := item{Entry: e}
		if open != nil {
			b, err := io.ReadAll(open())
			if err != nil {
				return err
			}
			it.content = string(b)
		}
		items = append(items, it)
		return nil
	})
	if err != nil {
		t.Fatalf("Walk() = %v", err)
	}
	return items
}

// nasty is a tree with all that an image can hold, in the order of Walk.
func nasty() []item {
	long := strings.Repeat("n", 255)
	deep := strings.TrimSuffix(strings.Repeat("d/", 100), "/")
	items := []item{
		{Entry{Path: ".", Mode: unix.S_IFDIR | 0o1777, UID: 7, GID: 8, MTime: time.Unix(1e9, 123456789),
			Xattrs: map[string][]byte{"user.root": []byte("yes"), "security.x": nil}}, ""},
		directory("big"),
	}
	for i := range 10000 {
		items = append(items, reg(fmt.Sprintf("big/%05d", i), strings.Repeat("x", i%7)))
	}
	for i := range 100 {
		items = append(items, directory(strings.Repeat("d/", i)+"d"))
	}
	xattrs := map[string][]byte{
		"user.empty":          {},
		"user." + long[5:]:    []byte("long name"),
		"trusted.t":           []byte("v\x00v"),
		"security.capability": {1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"user.large":          []byte(random(5000)),
		"user.larger":         []byte(random(30000)),
	}
	acl := reg("acl", "x") // u::rw-, u:1000:r--, g::r--, m::r--, o::r--
	acl.Xattrs = map[string][]byte{"system.posix_acl_access": []byte(
		"\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\xe8\x03\x00\x00" +
			"\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff")}
	items = append(items,
		acl,
		reg(deep+"/file", "deep"),
		item{Entry{Path: "dev-block", Mode: unix.S_IFBLK | 0o660, GID: 6, MTime: time.Unix(1, 2), Rdev: unix.Mkdev(259, 1<<20-1)}, ""},
		item{Entry{Path: "dev-null", Mode: unix.S_IFCHR | 0o666, MTime: time.Unix(1, 2), Rdev: unix.Mkdev(1, 3)}, ""},
		item{Entry{Path: "dev-white", Mode: unix.S_IFCHR, MTime: time.Unix(1, 2)}, ""},
		item{Entry{Path: "fifo", Mode: unix.S_IFIFO | 0o600, MTime: time.Unix(1, 2)}, ""},
		reg("link-a", "linked"),
		item{Entry{Path: "link-b", Mode: unix.S_IFREG | 0o644, MTime: time.Unix(1, 2), Size: 6, Link: "link-a"}, "linked"},
		item{Entry{Path: "link-c", Mode: unix.S_IFREG | 0o644, MTime: time.Unix(1, 2), Size: 6, Link: "link-a"}, "linked"},
		reg(long, "255"),
	)
	o := directory("opaque")
	o.Xattrs = map[string][]byte{xattrOpaque: []byte("y")}
	old := reg("owner", "")
	old.UID, old.GID, old.MTime = 1<<31, 1<<32-2, time.Unix(-5, 5)
	setuid := reg("setuid", "#!")
	setuid.Mode = unix.S_IFREG | 0o6755
	items = append(items, o, old, setuid)
	for _, n := range []int{0, 1, 4031, 4032, 4033, 4095, 4096, 4097, 8191, 8192, 8193, 65535, 65536, 65537, 1<<20 - 1, 1 << 20, 1<<20 + 1} {
		items = append(items, reg(fmt.Sprintf("size-%07d", n), random(n)))
	}
	items = append(items,
		item{Entry{Path: "socket", Mode: unix.S_IFSOCK | 0o755, MTime: time.Unix(1, 2)}, ""},
		reg("sparse-end", random(70000)+strings.Repeat("\x00", 300000)),
		reg("sparse-full", strings.Repeat("\x00", 200000)),
		reg("sparse-mid", strings.Repeat("\x00", 200000)+random(70000)+strings.Repeat("\x00", 200000)+"end"),
		item{Entry{Path: "symlink", Mode: unix.S_IFLNK | 0o777, MTime: time.Unix(1, 2), Target: "../some where"}, ""},
		item{Entry{Path: "symlink-long", Mode: unix.S_IFLNK | 0o777, MTime: time.Unix(1, 2), Target: strings.Repeat("t/", 2047)}, ""},
		item{Entry{Path: "symlink-x", Mode: unix.S_IFLNK | 0o777, MTime: time.Unix(1, 2), Target: "x",
			Xattrs: map[string][]byte{"trusted.x": []byte("on a link"), "security.large": []byte(random(5000))}}, ""},
		item{Entry{Path: "xattrs", Mode: unix.S_IFREG | 0o644, Size: 3, MTime: time.Unix(1, 2), Xattrs: xattrs}, "abc"},
	)
	x := directory("xdir")
	x.Xattrs = map[string][]byte{"user.d": []byte(random(4000)), "user.e": []byte(random(4000))}
	items = append(items, x, reg("xdir/file", ""))
	return items
}

func TestRoundTrip(t *testing.T) {
	want := nasty()
	f := build(t, want)
	got := readAll(t, open(t, f))
	slices.SortFunc(want, func(a, b item) int { return comparePaths(a.Path, b.Path) })
	compare(t, got, want)
	fsck(t, f)
}

// comparePaths orders paths as Walk does.
func comparePaths(a, b string) int {
	if a == "." || b == "." {
		return strings.Compare(strings.TrimPrefix(a, "."), strings.TrimPrefix(b, "."))
	}
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

func compare(t *testing.T, got, want []item) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) {
			t.Fatalf("got %d items; want %d", len(got), len(want))
		}
		if d := cmp.Diff(want[i].Entry, got[i].Entry, cmp.Transformer("xattrs", func(m map[string][]byte) map[string]string {
			s := make(map[string]string)
			for k, v := range m {
				s[k] = string(v)
			}
			return s
		})); d != "" {
			t.Errorf("item %.80q (-want +got):\n%.2000s", want[i].Path, d)
		}
		if got[i].content != want[i].content {
			t.Errorf("item %.80q: content of %d bytes differs; want %d bytes", want[i].Path, len(got[i].content), len(want[i].content))
		}
		if t.Failed() {
			return
		}
	}
}

// fsck lets erofs-utils check the image and all content.
func fsck(t testing.TB, f *os.File) {
	t.Helper()
	runFsck(t, f, "--extract")
}

// fsckQuick does not read holes.
func fsckQuick(t testing.TB, f *os.File) {
	t.Helper()
	runFsck(t, f)
}

func runFsck(t testing.TB, f *os.File, args ...string) {
	t.Helper()
	path, err := exec.LookPath("fsck.erofs")
	if err != nil {
		t.Log("fsck.erofs is not installed; `make test` installs it. Going on without")
		return
	}
	out, err := exec.Command(path, append(args, "-d1", f.Name())...).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("<E>")) {
		t.Errorf("fsck.erofs: %v\n%s", err, out)
	}
}
