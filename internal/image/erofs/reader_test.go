package erofs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLookup(t *testing.T) {
	items := nasty()
	im := open(t, build(t, items))
	for i, it := range items {
		if strings.HasPrefix(it.Path, "big/") && i%10 != 0 {
			continue
		}
		e, err := im.Lookup(it.Path)
		it.Link = "" // a lookup does not know of other names
		if err != nil || e.Path == "" || e.Mode != it.Mode || e.Size != it.Size || e.Target != it.Target {
			t.Errorf("Lookup(%.80q) = %+v, %v; want %+v", it.Path, e, err, it.Entry)
		}
		if it.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		r, err := im.Open(it.Path)
		if err != nil {
			t.Errorf("Open(%.80q) = %v", it.Path, err)
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil || string(b) != it.content {
			t.Errorf("content of %.80q: %d bytes, %v; want %d", it.Path, len(b), err, len(it.content))
		}
	}
	if e, err := im.Lookup(""); err != nil || e.Path != "." {
		t.Errorf(`Lookup("") = %+v, %v; want the root`, e, err)
	}
	for _, path := range []string{"no", "big/", "big/10000", "big/-", "big/00000/x", "size-0000001/x", "/big", "big/../big", "symlink/x"} {
		if _, err := im.Lookup(path); err == nil {
			t.Errorf("Lookup(%q): got no error", path)
		}
	}
	if _, err := im.Lookup("no"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Lookup(no) = %v; want fs.ErrNotExist", err)
	}
	if _, err := im.Open("big"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Open(big) = %v; want fs.ErrInvalid", err)
	}
}

func TestWalkSkip(t *testing.T) {
	im := open(t, build(t, []item{reg("a/x", ""), reg("b/x", ""), reg("c/x", "")}))
	var got []string
	err := im.Walk(func(e Entry, _ func() *io.SectionReader) error {
		got = append(got, e.Path)
		switch e.Path {
		case "a":
			return fs.SkipDir
		case "b/x":
			return fs.SkipAll
		}
		return nil
	})
	if s := strings.Join(got, " "); err != nil || s != ". a b b/x" {
		t.Errorf("Walk() visited %q, %v; want %q", s, err, ". a b b/x")
	}
	stop := errors.New("stop")
	if err := im.Walk(func(Entry, func() *io.SectionReader) error { return stop }); err != stop {
		t.Errorf("Walk() = %v; want the function's error", err)
	}
}

// sample is a small image with all layouts.
func sample(t testing.TB) []byte {
	x := reg("x", "xattrs")
	x.Xattrs = map[string][]byte{"user.a": []byte("1"), "security.b": []byte("2")}
	var items []item
	for i := range 300 {
		items = append(items, reg(fmt.Sprintf("dir/%020d", i), ""))
	}
	items = append(items, x,
		reg("body", random(5000)),
		reg("plain", random(70000)),
		reg("sparse", random(100)+strings.Repeat("\x00", 200000)),
		item{Entry{Path: "dir/link", Link: "x"}, ""},
		item{Entry{Path: "s", Mode: unix.S_IFLNK | 0o777, Target: "dir"}, ""},
		item{Entry{Path: "null", Mode: unix.S_IFCHR | 0o666, Rdev: unix.Mkdev(1, 3)}, ""},
	)
	return []byte(readFile(t, build(t, items)))
}

// sign makes the superblock of a mutated image valid again.
func sign(b []byte) {
	if len(b) < blockSize {
		return
	}
	le := binary.LittleEndian
	le.PutUint32(b[superOffset+36:], uint32(len(b)/blockSize))
	clear(b[superOffset+4 : superOffset+8])
	le.PutUint32(b[superOffset+4:], superChecksum(b[superOffset:blockSize]))
}

// readSome reads all of an image but for long contents.
func readSome(b []byte) error {
	im, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	return im.Walk(func(e Entry, open func() *io.SectionReader) error {
		if open == nil {
			return nil
		}
		_, err := io.Copy(io.Discard, io.LimitReader(open(), 1<<20))
		return err
	})
}

func TestCorrupt(t *testing.T) {
	good := sample(t)
	if err := readSome(good); err != nil {
		t.Fatalf("a good image gives %v", err)
	}
	im, err := Open(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	at := func(path string) int64 {
		f, err := im.find(path)
		if err != nil {
			t.Fatal(err)
		}
		return int64(f.nid) * inodeAlign
	}
	put16 := func(off int64, v uint16) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint16(b[off:], v) }
	}
	put32 := func(off int64, v uint32) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint32(b[off:], v) }
	}
	put64 := func(off int64, v uint64) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint64(b[off:], v) }
	}
	dirent := func(name string) int64 { // in the root's inline block
		f, err := im.root()
		if err != nil {
			t.Fatal(err)
		}
		d, err := f.block(0)
		if err != nil {
			t.Fatal(err)
		}
		for j := range d.n {
			if string(d.name(j)) == name {
				return f.after + int64(j)*direntSize
			}
		}
		t.Fatalf("no entry %q", name)
		return 0
	}
	for name, change := range map[string]func([]byte){
		"magic":                   put32(superOffset, 1),
		"unknown feature":         put32(superOffset+80, 1<<5),
		"block size":              func(b []byte) { b[superOffset+12] = 9 },
		"root number":             put16(superOffset+14, 1),
		"root is a file":          put16(rootOffset+4, unix.S_IFREG),
		"inode format":            put16(at("body"), 0),
		"inode layout":            put16(at("body"), 1|3<<1),
		"inode of another type":   put16(at("body")+4, unix.S_IFDIR|0o755),
		"inode of no type":        put16(at("body")+4, 0o644),
		"nanoseconds":             put32(at("body")+40, 1e9),
		"no links":                put32(at("body")+44, 0),
		"size beyond the image":   put64(at("plain")+8, 1<<40),
		"negative size":           put64(at("plain")+8, 1<<63),
		"block beyond the image":  put32(at("plain")+16, 1<<31),
		"inline tail too long":    put64(at("body")+8, 4095),
		"xattrs beyond the image": put16(at("x")+2, 65535),
		"shared xattrs":           func(b []byte) { b[at("x")+inodeSize+4] = 1 },
		"xattr name space":        func(b []byte) { b[at("x")+inodeSize+xattrHeaderSize+1] = 9 },
		"xattr too long":          put16(at("x")+inodeSize+xattrHeaderSize+2, 1000),
		"chunk format":            put32(at("sparse")+16, 1<<5),
		"chunk beyond the image":  put32(at("sparse")+inodeSize, 1<<30),
		"chunk table too long":    put64(at("sparse")+8, 1<<40),
		"chunked directory":       put16(at("dir"), 1|layoutChunks<<1),
		"device with a content":   put64(at("null")+8, 1),
		"long target":             put64(at("s")+8, 5000),
		"empty target":            put64(at("s")+8, 0),
		"zero byte in a target":   func(b []byte) { b[at("s")+inodeSize] = 0 },
		"inode number":            put64(dirent("s"), 1<<60),
		"inode outside":           put64(dirent("s"), uint64(len(good)/inodeAlign)),
		"loop":                    put64(dirent("dir"), rootNID),
		"file found twice":        put64(dirent("body"), uint64(at("plain")/inodeAlign)),
		"entry of another type":   func(b []byte) { b[dirent("s")+10] = 1 },
		"first name's offset":     put16(dirent(".")+8, 13),
		"no entries":              put16(dirent(".")+8, 0),
		"name's offset":           put16(dirent("s")+8, 4000),
		"empty name":              put16(dirent("s")+8, binary.LittleEndian.Uint16(good[dirent("s")+direntSize+8:])),
		"name with a slash":       func(b []byte) { copy(b[bytes.Index(b, []byte("body")):], "b/dy") },
		"unsorted names":          func(b []byte) { copy(b[bytes.Index(b, []byte("body")):], "zody") },
		"overlapping contents": func(b []byte) {
			for _, path := range []string{"body", "plain"} {
				put16(at(path), 1)(b)
				put64(at(path)+8, uint64(len(b)))(b)
				put32(at(path)+16, 0)(b)
			}
		},
	} {
		b := bytes.Clone(good)
		change(b)
		sign(b)
		err := readSome(b)
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %v; want ErrCorrupt", name, err)
		}
	}
	bad := bytes.Clone(good)
	bad[superOffset+60]++
	for name, b := range map[string][]byte{"empty": nil, "short": good[:2000], "cut": good[:len(good)-blockSize], "checksum": bad} {
		if err := readSome(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %v; want ErrCorrupt", name, err)
		}
	}
	// The file is shorter than its owner says, as when it is cut while in use.
	if _, err := Open(bytes.NewReader(good[:2000]), int64(len(good))); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Open of a file that is cut: got %v; want ErrCorrupt", err)
	}
}

// FuzzOpen reads mutated images: each byte may change, the image may end early
// or go on, and the reader must neither panic nor take long.
func FuzzOpen(f *testing.F) {
	good := sample(f)
	f.Add(good)
	small := build(f, []item{reg("a", "b"), directory("d")})
	f.Add([]byte(readFile(f, small)))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b[:len(b)/blockSize*blockSize])
		sign(b)
		start := time.Now()
		if err := readSome(b); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("got %v; want ErrCorrupt", err)
		}
		im, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if _, err := im.Lookup("dir/link"); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Lookup() = %v", err)
		}
		_ = ToTar(im, io.Discard, TarOptions{MaxSize: 1 << 20}) // may find what it cannot write
		if d := time.Since(start); d > 20*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

// The holes of a chunk table are known, also where there is a terabyte of them.
func TestData(t *testing.T) {
	const size = 1<<30 + 5
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, off := range []int64{1 << 20, 1<<20 + 70_000, 1 << 29} {
		if _, err := f.WriteAt([]byte("x"), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	image, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	w, err := NewWriter(image, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.AddFile(Entry{Path: "f", Mode: unix.S_IFREG | 0o644, Size: size}, f); err != nil {
		t.Fatal(err)
	}
	stats, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	im, err := Open(image, stats.Size)
	if err != nil {
		t.Fatal(err)
	}
	got, err := im.find("f")
	if err != nil {
		t.Fatal(err)
	}
	const chunk = 64 << 10
	for _, tt := range []struct{ off, start, end int64 }{
		{0, 1 << 20, 1<<20 + 2*chunk},
		{1<<20 + 5, 1<<20 + 5, 1<<20 + 2*chunk},
		{1<<20 + 2*chunk, 1 << 29, 1<<29 + chunk},
		{1<<29 + chunk, size, size},
		{size, size, size},
	} {
		if start, end, err := got.Data(tt.off); err != nil || start != tt.start || end != tt.end {
			t.Errorf("Data(%d) = %d, %d, %v; want %d, %d", tt.off, start, end, err, tt.start, tt.end)
		}
	}
}
