package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/sparse"
)

// repack packs the workspace as it is now.
func (s *session) repack(t testing.TB) {
	t.Helper()
	m, im := pack(t, s.dir, PackOptions{})
	s.app.Manifest, s.app.Base = m, im
}

// inode returns the number and the links of a host's file.
func inode(t testing.TB, path string) (ino, links uint64) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino, uint64(st.Nlink)
}

// linked is a change that is another name of one at the path of.
func linked(path, of string) Change { return Change{Path: path, Kind: File, Link: of} }

// Hard links that the guest made are hard links of the host.
func TestApplyHardLinks(t *testing.T) {
	from := tree{"old": {File, 0o644, "old"}, "same": {File, 0o644, "same"}, "d": {Dir, 0o755, ""}, "d/over": {File, 0o644, "over"}, "host": {File, 0o644, "packed"}}
	to := tree{
		"old": {File, 0o644, "old and more"}, "same": {File, 0o644, "same"}, "d": {Dir, 0o755, ""},
		"a": {File, 0o755, "new"}, "z": {File, 0o755, "new"}, "d/b": {File, 0o755, "new"},
		"d/over": {File, 0o644, "old and more"}, "same2": {File, 0o644, "same"},
		"host": {File, 0o644, "the host's"}, "host2": {File, 0o644, "packed"},
	}
	s := newSession(t, from)
	write(t, s.dir+"/host", "the host's", 0o644) // meanwhile
	d := to["d"].change("d")
	s.take(t, to, []Change{
		to["z"].change("z"), linked("a", "z"), d, linked("d/b", "z"),
		to["old"].change("old"), linked("d/over", "old"),
		to["same"].change("same"), linked("same2", "same"),
		from["host"].change("host"), linked("host2", "host"),
	})
	if want := "hard link to z"; !strings.Contains(fmt.Sprint(s.edits), want) {
		t.Errorf("the list %v does not say %q", s.edits, want)
	}
	res := s.apply(t)
	if len(res.Conflicts) > 0 {
		t.Errorf("conflicts: %v", res.Conflicts)
	}
	compare(t, "host", readTree(t, s.dir), to)
	for _, names := range [][]string{{"a", "z", "d/b"}, {"old", "d/over"}, {"same", "same2"}} {
		first, links := inode(t, filepath.Join(s.dir, names[0]))
		if links != uint64(len(names)) {
			t.Errorf("%s has %d names; want %d", names[0], links, len(names))
		}
		for _, name := range names[1:] {
			if ino, _ := inode(t, filepath.Join(s.dir, name)); ino != first {
				t.Errorf("%s and %s are two files", names[0], name)
			}
		}
	}
	// What cannot be a link is said.
	if _, links := inode(t, s.dir+"/host2"); links != 1 || len(res.Notes) != 1 || res.Notes[0].Path != "host2" {
		t.Errorf("host2 has %d names, and of it is said %v; want that it is a file of its own", links, res.Notes)
	}
	// Again, as after an interruption.
	if res := s.apply(t); len(res.Conflicts) > 0 {
		t.Errorf("conflicts of the second apply: %v", res.Conflicts)
	}
	compare(t, "host", readTree(t, s.dir), to)
}

// A link to what is not applied with it is a file with the same content.
func TestApplyLinkAlone(t *testing.T) {
	to := tree{"a": {File, 0o644, "x"}, "b": {File, 0o644, "x"}}
	s := newSession(t, tree{})
	s.take(t, to, []Change{to["a"].change("a"), linked("b", "a")})
	s.edits = editsAt(s.edits, "b")
	var err error
	if s.app.Staging, err = Stage(t.Context(), t.TempDir()+"/staging", Pointers(s.edits), to.fetch, StageOptions{}); err != nil {
		t.Fatal(err)
	}
	if res := s.apply(t); len(res.Notes) != 1 {
		t.Errorf("it is said %v; want that b is a file of its own", res.Notes)
	}
	compare(t, "host", readTree(t, s.dir), tree{"b": to["b"]})
}

func TestDiffRefusesLinks(t *testing.T) {
	a := tree{"a": {File, 0o644, "x"}}["a"].change("a")
	for name, cs := range map[string][]Change{
		"to nothing":         {linked("b", "a")},
		"to itself":          {linked("b", "b")},
		"to a link":          {a, linked("b", "a"), linked("c", "b")},
		"to a directory":     {{Path: "d", Kind: Dir}, linked("b", "d")},
		"to what is above":   {a, linked("b", "../a")},
		"of a directory":     {a, {Path: "d", Kind: Dir, Link: "a"}},
		"of what is deleted": {{Path: "a", Kind: Whiteout}, linked("b", "a")},
	} {
		if _, err := diffAll(t.Context(), &Manifest{}, tree{}, sequence(cs)); !errors.Is(err, errChanges) {
			t.Errorf("a link %s: %v; want %v", name, err, errChanges)
		}
	}
}

// Extended attributes of a file of the user's outlive its replacement.
func TestApplyAttributes(t *testing.T) {
	s := newSession(t, tree{"f": {File, 0o644, "old"}, "mode": {File, 0o644, "same"}})
	for _, name := range []string{"f", "mode"} {
		if err := unix.Setxattr(filepath.Join(s.dir, name), "user.origin", []byte("here"), 0); err != nil {
			t.Skipf("no extended attributes here: %v", err)
		}
	}
	s.repack(t)
	to := tree{"f": {File, 0o644, "new"}, "mode": {File, 0o755, "same"}, "added": {File, 0o600, "x"}}
	with := to["added"].change("added")
	with.Attributes = true
	s.take(t, to, []Change{to["f"].change("f"), to["mode"].change("mode"), with})
	if want := "extended attributes stay in the machine"; !strings.Contains(fmt.Sprint(s.edits), want) {
		t.Errorf("the list %v does not say %q", s.edits, want)
	}
	if res := s.apply(t); len(res.Conflicts)+len(res.Notes) > 0 {
		t.Errorf("conflicts %v, notes %v; want none", res.Conflicts, res.Notes)
	}
	compare(t, "host", readTree(t, s.dir), to)
	for _, name := range []string{"f", "mode"} {
		value := make([]byte, 10)
		if n, err := unix.Getxattr(filepath.Join(s.dir, name), "user.origin", value); err != nil || string(value[:n]) != "here" {
			t.Errorf("%s: its attribute is %q, %v; want %q", name, value[:max(n, 0)], err, "here")
		}
	}
}

// The umask holds for what is new, and modes of new programs are shown.
func TestCompareUmask(t *testing.T) {
	from := tree{"kept": {File, 0o600, "x"}, "link": {Symlink, 0o777, "kept"}, "sub": {Dir, 0o700, ""}}
	s := newSession(t, from)
	to := tree{
		"hook": {File, 0o777, "#!"}, "data": {File, 0o666, "x"}, "data2": {File, 0o666, "x"}, "dir": {Dir, 0o777, ""}, "dir/in": {File, 0o755, "y"},
		"kept": {File, 0o755, "x"}, "link": {File, 0o777, "no link"}, "sub": {Dir, 0o755, ""}, "new": {Symlink, 0o777, "data"},
	}
	var cs []Change
	for p, n := range to {
		if p != "data2" {
			cs = append(cs, n.change(p))
		}
	}
	s.take(t, to, append(cs, linked("data2", "data")))
	if err := Compare(t.Context(), s.dir, s.edits, 0o077); err != nil {
		t.Fatal(err)
	}
	list := make(map[string]string)
	for _, e := range s.edits {
		list[e.Path] = e.String()
	}
	for path, want := range map[string]string{
		"hook": "A  hook (2 B, mode 700)", "data": "A  data (1 B)", "data2": "A  data2 (1 B, hard link to data)", "dir/in": "A  dir/in (1 B, mode 700)",
		"kept": "M  kept (mode 755, was 600)", "link": "M  link (was a symbolic link, mode 700)", "sub": "M  sub/ (mode 755, was 700)",
	} {
		if list[path] != want {
			t.Errorf("the list says %q; want %q", list[path], want)
		}
	}
	if res := s.apply(t); len(res.Conflicts)+len(res.Notes) > 0 {
		t.Errorf("conflicts %v, notes %v; want none", res.Conflicts, res.Notes)
	}
	for path, mode := range map[string]uint32{"hook": 0o700, "data": 0o600, "data2": 0o600, "dir": 0o700, "dir/in": 0o700, "link": 0o700} {
		n := to[path]
		n.mode = mode
		to[path] = n
	}
	compare(t, "host", readTree(t, s.dir), to)
}

func TestUmask(t *testing.T) {
	old := unix.Umask(0o027)
	defer unix.Umask(old)
	if got, err := Umask(); err != nil || got != 0o027 {
		t.Errorf("Umask() = %03o, %v; want 027", got, err)
	}
}

// A file with several names becomes one of its own, and the list says so.
func TestCompareParts(t *testing.T) {
	s := newSession(t, tree{"one": {File, 0o644, "x"}, "f": {File, 0o644, "x"}})
	outside := filepath.Join(filepath.Dir(s.dir), "outside")
	for _, name := range []string{outside, s.dir + "/g", s.dir + "/h"} {
		if err := os.Link(s.dir+"/f", name); err != nil {
			t.Fatal(err)
		}
	}
	s.repack(t)
	to := tree{"one": {File, 0o644, "xy"}, "f": {File, 0o644, "xy"}, "g": {File, 0o755, "x"}, "h": {File, 0o644, "x"}}
	s.take(t, to, []Change{to["one"].change("one"), to["f"].change("f"), to["g"].change("g")})
	if err := Compare(t.Context(), s.dir, s.edits, 0o022); err != nil {
		t.Fatal(err)
	}
	want := "[M  f (+1 B, its 2 other hard links stay as they are) M  g (mode 755, was 644, its 2 other hard links stay as they are) M  one (+1 B)]"
	if got := fmt.Sprint(s.edits); got != want {
		t.Errorf("the list is %s; want %s", got, want)
	}
	s.apply(t)
	compare(t, "host", readTree(t, s.dir), to)
	if b, err := os.ReadFile(outside); err != nil || string(b) != "x" {
		t.Errorf("the other name holds %q, %v; want what it held", b, err)
	}
}

// sparseFile makes a file of size bytes that holds x at off.
func sparseFile(t testing.TB, path string, size, off int64) *os.File {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.WriteAt([]byte("x"), off); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

// sparseGuest sends a file with its holes.
type sparseGuest struct {
	io.Reader
	f    *os.File
	size int64
}

func (g sparseGuest) WriteTo(w io.Writer) (int64, error) {
	return sparse.Copy(context.Background(), w.(sparse.Sink), g.f, g.size)
}

// Files that are nearly all holes cost next to nothing, in a guest and on the host.
func TestApplySparse(t *testing.T) {
	const size, terabyte = 4 << 30, 1 << 40
	begun := time.Now()
	s := newSession(t, tree{})
	sparseFile(t, s.dir+"/disk", size, 1<<30)
	sparseFile(t, s.dir+"/huge", terabyte, 1<<39)
	s.repack(t)
	theirs := t.TempDir()
	disk, huge := sparseFile(t, theirs+"/disk", size, 2<<30), sparseFile(t, theirs+"/huge", terabyte, 1<<39)
	var cs []Change
	for name, f := range map[string]*os.File{"disk": disk, "huge": huge} {
		fi, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		sum, err := sparse.SumOf(t.Context(), f, fi.Size())
		if err != nil {
			t.Fatal(err)
		}
		cs = append(cs, Change{Path: name, Kind: File, Mode: 0o644, Size: fi.Size(), Sum: sum})
	}
	var err error
	if s.edits, err = diffAll(t.Context(), s.app.Manifest, s.app.Base, sequence(cs)); err != nil {
		t.Fatal(err)
	}
	if len(s.edits) != 1 {
		t.Fatalf("the list is %v; want the one that differs", s.edits)
	}
	fetch := func(_ context.Context, _ []string, put func(string, io.Reader) error) error {
		return put("disk", sparseGuest{nil, disk, size})
	}
	if s.app.Staging, err = Stage(t.Context(), t.TempDir()+"/staging", Pointers(s.edits), fetch, StageOptions{}); err != nil {
		t.Fatal(err)
	}
	os.Chtimes(s.dir+"/disk", time.Time{}, time.Now()) // so that it is compared
	if res := s.apply(t); len(res.Conflicts) > 0 {
		t.Fatal(res.Conflicts)
	}
	got, err := os.Open(s.dir + "/disk")
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if same, err := sparse.Equal(t.Context(), got, disk, size); err != nil || !same {
		t.Errorf("what was applied is another file, %v", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(got.Fd()), &st); err != nil || st.Blocks > 2048 {
		t.Errorf("it takes %d blocks on the host, %v", st.Blocks, err)
	}
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("it took %v", took)
	}

	// What is too long is one clear line.
	cs = []Change{{Path: "t", Kind: File, Mode: 0o644, Size: terabyte, Sum: [32]byte{1}}}
	edits, err := diffAll(t.Context(), s.app.Manifest, s.app.Base, sequence(cs))
	if err == nil {
		_, err = Stage(t.Context(), t.TempDir()+"/staging", Pointers(edits), fetch, StageOptions{})
	}
	if want := "stage changes: they are more than 16.0 GiB: t has 1.0 TiB"; err == nil || err.Error() != want {
		t.Errorf("Stage() of a terabyte = %v; want %s", err, want)
	}
}

// A guest's holes are bounded by what it has listed.
func TestStageHoles(t *testing.T) {
	e := Edit{Op: Add, Path: "f", NewKind: File, NewSize: 1 << 20, Sum: sumOf(strings.Repeat("\x00", 1<<20))}
	for name, tt := range map[string]struct {
		holes []int64
		ok    bool
	}{
		"as listed": {[]int64{1 << 20}, true}, "in parts": {[]int64{1, 4095, 1<<20 - 4096}, true}, "less": {[]int64{1<<20 - 1}, false},
		"more": {[]int64{1<<20 + 1}, false}, "far more": {[]int64{1<<63 - 1}, false}, "negative": {[]int64{1 << 19, -5, 1<<19 + 5}, false},
	} {
		fetch := func(_ context.Context, _ []string, put func(string, io.Reader) error) error {
			return put("f", holes(tt.holes))
		}
		_, err := Stage(t.Context(), t.TempDir()+"/staging", Pointers([]Edit{e}), fetch, StageOptions{})
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, errDiffers) {
			t.Errorf("holes %s: %v; want that it is right: %v", name, err, tt.ok)
		}
	}
}

type holes []int64

func (holes) Read([]byte) (int, error) { return 0, io.EOF }

func (h holes) WriteTo(w io.Writer) (n int64, err error) {
	for _, n := range h {
		if err := w.(sparse.Sink).Hole(n); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// A comparison of contents ends with its context.
func TestDiffCancel(t *testing.T) {
	s := newSession(t, tree{})
	sparseFile(t, s.dir+"/f", 1<<20, 5)
	s.repack(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	cancel(why)
	d := &differ{manifest: s.app.Manifest, moves: &moves{}, base: s.app.Base}
	if _, err := d.sum(ctx, "f"); !errors.Is(err, why) {
		t.Errorf("a sum after the end = %v; want %v", err, why)
	}
}
