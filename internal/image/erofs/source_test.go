package erofs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const hugeSize = 5<<30 + 12345

// hugeData says where the huge file has data.
func hugeData() map[int64]string {
	return map[int64]string{
		0:                "start",
		1<<30 - 3:        "across a chunk",
		4<<30 + 12345:    random(100000),
		hugeSize - 10000: random(10000),
	}
}

// hugeImage is the image of a sparse file larger than 4 GiB.
func hugeImage(t *testing.T) *os.File {
	t.Helper()
	src, err := os.Create(filepath.Join(t.TempDir(), "huge"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if err := src.Truncate(hugeSize); err != nil {
		t.Fatal(err)
	}
	for off, data := range hugeData() {
		if _, err := src.WriteAt([]byte(data), off); err != nil {
			t.Fatal(err)
		}
	}
	f, w := create(t, Options{})
	if err := w.AddFile(Entry{Path: "huge", Mode: unix.S_IFREG | 0o644, Size: hugeSize}, src); err != nil {
		t.Fatalf("AddFile() = %v", err)
	}
	if s := finish(t, w); s.Size > 2<<20 {
		t.Errorf("image of a sparse file has %d bytes; want less than 2 MiB", s.Size)
	}
	return f
}

// checkHuge looks at the data of the huge file and around it.
func checkHuge(t *testing.T, r io.ReaderAt) {
	t.Helper()
	for off, data := range hugeData() {
		before := min(off, 4096)
		b := make([]byte, int(before)+len(data))
		if _, err := r.ReadAt(b, off-before); err != nil {
			t.Errorf("ReadAt(%d) = %v", off, err)
		}
		if string(b) != strings.Repeat("\x00", int(before))+data {
			t.Errorf("data at %d differs", off)
		}
	}
	b := make([]byte, 1<<20)
	if _, err := r.ReadAt(b, 3<<30); err != nil || !isZero(b) {
		t.Errorf("hole is not all zeros, %v", err)
	}
}

func TestHuge(t *testing.T) {
	r, err := open(t, hugeImage(t)).Open("huge")
	if err != nil {
		t.Fatal(err)
	}
	if r.Size() != hugeSize {
		t.Errorf("Size() = %d; want %d", r.Size(), int64(hugeSize))
	}
	checkHuge(t, r)
}

// TestAddFile adds files of all kinds of sizes, of which some have holes.
func TestAddFile(t *testing.T) {
	f, w := create(t, Options{})
	var want []item
	for i, content := range []string{
		"", "x", random(4000), random(4096), random(70000), random(1<<20 + 1), random(3 << 20),
		random(5000) + strings.Repeat("\x00", 2<<20),
		strings.Repeat("\x00", 2<<20) + random(5000),
		strings.Repeat("\x00", 65536),
	} {
		name := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		src, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		if n := int64(len(content)); n > 1<<20 && strings.Contains(content, "\x00") {
			for _, off := range []int64{0, n - 2<<20} { // the zeros become a hole
				if content[off:off+2<<20] == strings.Repeat("\x00", 2<<20) {
					if err := unix.Fallocate(int(src.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, 2<<20); err != nil {
						t.Logf("no holes here: %v", err)
					}
				}
			}
		}
		it := reg(fmt.Sprintf("%02d", i), content)
		if err := w.AddFile(it.Entry, src); err != nil {
			t.Errorf("AddFile(%d) = %v", i, err)
		}
		want = append(want, it)
	}
	finish(t, w)
	fsck(t, f)
	got := readAll(t, open(t, f))[1:]
	compare(t, got, want)
}

// TestChanged checks that files that changed are reported and leave no trace.
func TestChanged(t *testing.T) {
	f, w := create(t, Options{})
	plain, p := create(t, Options{})
	for i, tc := range []struct{ has, announced int64 }{
		{0, 1}, {1, 0}, {5000, 5001}, {5000, 4999}, {5000, 4096}, {4096, 8192},
		{100000, 100001}, {100000, 99999}, {100000, 65536},
		{2 << 20, 2<<20 + 1}, {2 << 20, 2<<20 - 1}, {2 << 20, 8 << 20}, {8 << 20, 2 << 20},
	} {
		name := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(name, []byte(random(int(tc.has))), 0o644); err != nil {
			t.Fatal(err)
		}
		src, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		e := reg(fmt.Sprint(i), "").Entry
		e.Size = tc.announced
		if err := w.AddFile(e, src); !errors.Is(err, ErrChanged) {
			t.Errorf("AddFile of %d bytes as %d = %v; want ErrChanged", tc.has, tc.announced, err)
		}
		if tc.announced > 0 || tc.has > 0 {
			err := w.Add(e, strings.NewReader(random(int(tc.has))))
			if err == nil || errors.Is(err, ErrChanged) || errors.Is(err, io.ErrUnexpectedEOF) != (tc.has < tc.announced) {
				t.Errorf("Add of %d bytes as %d = %v", tc.has, tc.announced, err)
			}
		}
		e.Size = tc.has
		for _, w := range []*Writer{w, p} {
			if err := w.AddFile(e, src); err != nil {
				t.Errorf("AddFile of %d bytes = %v", tc.has, err)
			}
		}
	}
	// A sparse file that shrinks inside its hole.
	src, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if err := src.Truncate(4 << 20); err != nil {
		t.Fatal(err)
	}
	e := reg("sparse", "").Entry
	e.Size = 5 << 20
	if err := w.AddFile(e, src); !errors.Is(err, ErrChanged) {
		t.Errorf("AddFile of a file that shrank in its hole = %v; want ErrChanged", err)
	}
	finish(t, w)
	finish(t, p)
	if a, b := readFile(t, f), readFile(t, plain); a != b {
		t.Error("failed additions left a trace in the image")
	}
	fsck(t, f)
}

func readFile(t testing.TB, f *os.File) string {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
