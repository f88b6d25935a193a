package erofs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDeterministic(t *testing.T) {
	items := nasty()
	a, b := readFile(t, build(t, items)), readFile(t, build(t, items))
	if a != b {
		t.Error("the same entries gave other bytes the second time")
	}
}

func TestOptions(t *testing.T) {
	o := Options{VolumeName: "fifteen letters", UUID: [16]byte{15: 1}, BuildTime: time.Unix(1e9, 0)}
	f, w := create(t, o)
	e := Entry{Path: "made/timeless", Mode: unix.S_IFREG | 0o600}
	if err := w.Add(e, nil); err != nil {
		t.Fatal(err)
	}
	s := finish(t, w)
	if want := (Stats{Size: s.Size, Files: 1, Dirs: 2}); s != want {
		t.Errorf("Finish() = %+v; want %+v", s, want)
	}
	im := open(t, f)
	for _, path := range []string{"made/timeless", "made", "."} {
		e, err := im.Lookup(path)
		if err != nil || !e.MTime.Equal(o.BuildTime) {
			t.Errorf("Lookup(%q) = %v, %v; want the time of the build", path, e.MTime, err)
		}
	}
	b := readFile(t, f)
	if got := b[superOffset+48 : superOffset+80]; got != string(o.UUID[:])+o.VolumeName+"\x00" {
		t.Errorf("UUID and name are %q", got)
	}
	fsck(t, f)
}

func TestStats(t *testing.T) {
	f, w := create(t, Options{})
	for _, it := range nasty() {
		if err := w.Add(it.Entry, strings.NewReader(it.content)); err != nil {
			t.Fatal(err)
		}
	}
	s := finish(t, w)
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	want := Stats{Size: fi.Size(), Files: 10028, Dirs: 104, Symlinks: 3, Others: 5, Links: 2}
	if s != want {
		t.Errorf("Finish() = %+v; want %+v", s, want)
	}
}

func TestNewWriterErrors(t *testing.T) {
	used, err := os.Create(filepath.Join(t.TempDir(), "used"))
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	if _, err := used.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for name, f := range map[string]*os.File{"used": used, "null": null} {
		if _, err := NewWriter(f, Options{}); err == nil {
			t.Errorf("NewWriter(%s): got no error", name)
		}
	}
	if _, err := NewWriter(memFile(t), Options{VolumeName: "sixteen letters!"}); err == nil {
		t.Error("NewWriter with a long name: got no error")
	}
}

func TestAddErrors(t *testing.T) {
	file := func(path string) Entry { return Entry{Path: path, Mode: unix.S_IFREG | 0o644} }
	with := func(e Entry, change func(*Entry)) Entry { change(&e); return e }
	xattr := func(name string, size int) Entry {
		return with(file("x"), func(e *Entry) { e.Xattrs = map[string][]byte{name: make([]byte, size)} })
	}
	many := with(file("x"), func(e *Entry) {
		e.Xattrs = map[string][]byte{"user.a": make([]byte, 40000), "user.b": make([]byte, 40000)}
	})
	_, w := create(t, Options{MaxSize: 1000})
	if err := w.Add(file("file"), nil); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		e    Entry
		want string
	}{
		{file("/a"), "empty name"},
		{file("a//b"), "empty name"},
		{file("a/"), "empty name"},
		{file("./a"), `name "."`},
		{file("a/../b"), `name ".."`},
		{file("a\x00"), "zero byte"},
		{file(strings.Repeat("a", 256)), "256 bytes"},
		{file(strings.Repeat("a/", 2048)), "4096 bytes"},
		{file("."), "must be a directory"},
		{file("file/below"), "not a directory"},
		{Entry{Path: "file/below", Mode: unix.S_IFDIR}, "not a directory"},
		{Entry{Path: "a", Mode: 0o644}, "no known type"},
		{Entry{Path: "a", Mode: unix.S_IFREG | 1<<16}, "no known type"},
		{with(file("a"), func(e *Entry) { e.Size = -1 }), "size -1"},
		{with(file("a"), func(e *Entry) { e.Size = 1001 }), "may hold 1000 bytes"},
		{with(file("a"), func(e *Entry) { e.Size = 1 }), "not of 1 bytes"},
		{Entry{Path: "a", Mode: unix.S_IFLNK, Target: ""}, "bad target"},
		{Entry{Path: "a", Mode: unix.S_IFLNK, Target: "a\x00"}, "bad target"},
		{Entry{Path: "a", Mode: unix.S_IFLNK, Target: strings.Repeat("t", 4096)}, "bad target"},
		{Entry{Path: "a", Mode: unix.S_IFCHR, Rdev: unix.Mkdev(1<<12, 0)}, "out of range"},
		{Entry{Path: "a", Mode: unix.S_IFBLK, Rdev: unix.Mkdev(0, 1<<20)}, "out of range"},
		{Entry{Path: "a", Link: "none"}, "does not exist"},
		{Entry{Path: "a", Link: "."}, "no hard links of directories"},
		{Entry{Path: "a", Link: "../file"}, `name ".."`},
		{Entry{Path: "file/a", Link: "file"}, "not a directory"},
		{Entry{Path: ".", Link: "file"}, "no hard links of directories"},
		{xattr("noprefix", 1), "name space"},
		{xattr("system.other", 1), "name space"},
		{xattr("user.", 1), "name space"},
		{xattr("system.posix_acl_access_", 1), "name space"},
		{xattr("user.\x00", 1), "bad name"},
		{xattr("user."+strings.Repeat("a", 251), 1), "bad name"},
		{xattr("user.large", 1<<16), "65536 bytes"},
		{many, "more than"},
		{Entry{Path: ".", Mode: unix.S_IFDIR, Xattrs: map[string][]byte{"user.a": make([]byte, 3000)}}, "first block"},
	} {
		if err := w.Add(tc.e, nil); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("Add(%.40q) = %v; want an error with %q", tc.e.Path, err, tc.want)
		}
	}
	broken := errors.New("broken")
	if err := w.Add(with(file("a"), func(e *Entry) { e.Size = 1 }), failingReader{broken}); !errors.Is(err, broken) {
		t.Errorf("Add from a broken reader = %v; want its error", err)
	}
	if err := w.Add(Entry{Path: "a", Link: "none"}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("hard link to nothing = %v; want fs.ErrNotExist", err)
	}
	if err := w.AddFile(Entry{Path: "a", Mode: unix.S_IFDIR}, nil); err == nil {
		t.Error("AddFile of a directory: got no error")
	}
	if s := finish(t, w); s.Files != 1 || s.Dirs != 1 {
		t.Errorf("after errors the image has %+v; want one file and the root", s)
	}
	if err := w.Add(file("late"), nil); err == nil {
		t.Error("Add after Finish: got no error")
	}
	if _, err := w.Finish(); err == nil {
		t.Error("second Finish: got no error")
	}
}

// failingReader is a reader that fails.
type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// TestWriteError checks that nobody takes an image for good whose writing
// failed at any time.
func TestWriteError(t *testing.T) {
	f, w := create(t, Options{})
	f.Close()
	large := reg("large", random(3<<20))
	err := w.Add(large.Entry, strings.NewReader(large.content))
	if !errors.Is(err, os.ErrClosed) {
		t.Fatalf("Add to a closed file = %v; want os.ErrClosed", err)
	}
	if again := w.Add(reg("a", "").Entry, nil); again == nil || again.Error() != err.Error() {
		t.Errorf("Add after it = %v; want %v", again, err)
	}
	if _, again := w.Finish(); again == nil || again.Error() != err.Error() {
		t.Errorf("Finish after it = %v; want %v", again, err)
	}
	f, w = create(t, Options{})
	f.Close()
	if _, err := w.Finish(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Finish to a closed file = %v; want os.ErrClosed", err)
	}
}

// TestFileSize writes into a file of a fixed size, as a disk that a machine
// has already.
func TestFileSize(t *testing.T) {
	const size = 8 << 20
	disk, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	if _, err := NewWriter(disk, Options{FileSize: size}); err == nil {
		t.Error("NewWriter with a file that is too small: got no error")
	}
	if err := disk.Truncate(size); err != nil {
		t.Fatal(err)
	}
	w, err := NewWriter(disk, Options{FileSize: size})
	if err != nil {
		t.Fatal(err)
	}
	e := reg("file", random(3<<20)).Entry
	if err := w.Add(e, strings.NewReader(random(2<<20))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("Add of too little = %v", err)
	}
	if err := w.Add(e, strings.NewReader(random(3<<20))); err != nil {
		t.Fatal(err)
	}
	s := finish(t, w)
	fi, err := disk.Stat()
	if err != nil || fi.Size() != size || s.Size > 4<<20 {
		t.Errorf("disk has %d bytes, image %d, %v; want %d and less than 4 MiB", fi.Size(), s.Size, err, size)
	}
	im, err := Open(disk, s.Size)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, im); len(got) != 2 || got[1].content != random(3<<20) {
		t.Error("the content differs")
	}
	fsck(t, disk)

	small, err := os.Create(filepath.Join(t.TempDir(), "small"))
	if err != nil {
		t.Fatal(err)
	}
	defer small.Close()
	if err := small.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	w, err = NewWriter(small, Options{FileSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(e, strings.NewReader(random(3<<20))); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish(); err == nil {
		t.Error("Finish of an image larger than its disk: got no error")
	}
}

// A large file is not copied to its end by a writer that is to stop, whether the kernel
// copies it or it has holes.
func TestEnded(t *testing.T) {
	why := errors.New("why")
	for name, hole := range map[string]bool{"whole": false, "with holes": true} {
		src, err := os.Create(filepath.Join(t.TempDir(), "src"))
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		const size = 256 << 20
		err = src.Truncate(size)
		if !hole && err == nil {
			err = unix.Fallocate(int(src.Fd()), 0, 0, size)
		}
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		w, err := NewWriter(memFile(t), Options{Ended: func() error {
			if asked++; asked > 1 {
				return why
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.AddFile(Entry{Path: "f", Mode: syscall.S_IFREG | 0o644, Size: size}, src); !errors.Is(err, why) || asked != 2 {
			t.Errorf("%s: AddFile = %v after %d questions; want %v after the second", name, err, asked, why)
		}
	}
}
