package workspace

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

func sampleManifest() *Manifest {
	return &Manifest{
		Root:      "/home/u/ws",
		Started:   1700000000123456789,
		ImageSize: 40960,
		Entries: []Entry{
			{Path: "a", Kind: Dir, Mode: 0o2755, ID: Identity{1, 2, 3, 4}},
			{Path: "a/b", Kind: File, Mode: 0o644, Size: 1 << 40, ID: Identity{1 << 63, 1<<64 - 1, -5, 1 << 62}},
			{Path: "a/b-c", Kind: Symlink, Mode: 0o777, Target: "../\xff", ID: Identity{1, 7, 8, 9}},
			{Path: "\xff", Kind: File, ID: Identity{}},
		},
	}
}

func TestManifest(t *testing.T) {
	testManifest(t, sampleManifest())
	carried := sampleManifest()
	carried.GitCarried, carried.GitPrefix = true, "part/"
	testManifest(t, carried)
}

func testManifest(t *testing.T, m *Manifest) {
	t.Helper()
	var b bytes.Buffer
	n, err := m.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("WriteTo = %d, %v; want %d", n, err, b.Len())
	}
	got, err := ReadManifest(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, m) {
		t.Errorf("read back: %+v; want %+v", got, m)
	}
	for i := range b.Len() {
		if _, err := ReadManifest(bytes.NewReader(b.Bytes()[:i])); !errors.Is(err, errManifest) {
			t.Errorf("the first %d bytes: %v; want an error", i, err)
		}
		flipped := bytes.Clone(b.Bytes())
		flipped[i] ^= 0x10
		if _, err := ReadManifest(bytes.NewReader(flipped)); !errors.Is(err, errManifest) {
			t.Errorf("byte %d flipped: %v; want an error", i, err)
		}
	}
}

func TestManifestFind(t *testing.T) {
	m := sampleManifest()
	for i := range m.Entries {
		if got := m.Find(m.Entries[i].Path); got != &m.Entries[i] {
			t.Errorf("Find(%q) = %v; want the entry", m.Entries[i].Path, got)
		}
	}
	if got := m.Find("a/x"); got != nil {
		t.Errorf("Find(a/x) = %v; want nil", got)
	}
}

func FuzzManifest(f *testing.F) {
	var b bytes.Buffer
	if _, err := sampleManifest().WriteTo(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes()[:b.Len()-4])
	f.Add([]byte(manifestMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		// With a right checksum, so that the rest is reached.
		sum := crc32.Checksum(data, castagnoli)
		data = append(bytes.Clone(data), byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24))
		m, err := ReadManifest(bytes.NewReader(data))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if _, err := m.WriteTo(&out); err != nil {
			t.Fatal(err)
		}
		again, err := ReadManifest(&out)
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("written and read again: %+v, %v; want %+v", again, err, m)
		}
	})
}

// A few bytes of a file can stand for many of a path: all of them together are bounded.
func TestManifestBounds(t *testing.T) {
	var b bytes.Buffer
	long := strings.Repeat("d/", 400)
	m := &Manifest{Root: "/ws"}
	const bound = 1 << 20
	for i := range bound/len(long) + 1 {
		m.Entries = append(m.Entries, Entry{Path: long[:800] + fmt.Sprintf("%07d", i), Kind: Dir})
	}
	if _, err := m.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	m = nil
	if b.Len() > bound/16 {
		t.Fatalf("the file has %d bytes", b.Len())
	}
	if _, err := readManifest(&b, bound); !errors.Is(err, errManifest) || fault.CodeOf(err) != fault.WorkspaceTooManyFiles {
		t.Errorf("ReadManifest() = %v; want that it has too much", err)
	}
	p := &packer{manifest: &Manifest{}, bytes: maxEntryBytes - 5}
	var st unix.Stat_t
	if err := p.record("12345", &st, ""); err != nil {
		t.Errorf("record up to the bound: %v", err)
	}
	if err := p.record("x", &st, ""); fault.CodeOf(err) != fault.WorkspaceTooManyFiles {
		t.Errorf("record beyond the bound = %v; want the code %s", err, fault.WorkspaceTooManyFiles)
	}
}
