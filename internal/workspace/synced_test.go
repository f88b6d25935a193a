package workspace

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/sparse"
)

func sum(t testing.TB, text string) [sparse.Size]byte {
	t.Helper()
	s, err := sparse.SumOf(t.Context(), strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sentFile(t testing.TB, path, text string, mode uint32) Sent {
	return Sent{Entry: Entry{Path: path, Kind: File, Mode: mode, Size: int64(len(text)), ID: Identity{1, 2, 3, 4}}, Sum: sum(t, text)}
}

func sampleSynced(t testing.TB) *Synced {
	return &Synced{Of: 7, Entries: []Sent{
		{Entry: Entry{Path: "a", Kind: Dir, Mode: 0o755}},
		sentFile(t, "a/b", "text", 0o644),
		{Entry: Entry{Path: "a/gone"}},
		{Entry: Entry{Path: "link", Kind: Symlink, Mode: 0o777, Target: "a"}},
	}}
}

// What is written is read, and nothing that was cut or changed is.
func TestSyncedFile(t *testing.T) {
	s := sampleSynced(t)
	var b bytes.Buffer
	if _, err := s.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	got, err := ReadSynced(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, got); diff != "" {
		t.Error(diff)
	}
	for n := range b.Len() {
		if _, err := ReadSynced(bytes.NewReader(b.Bytes()[:n])); err == nil {
			t.Fatalf("it is read when cut after %d bytes", n)
		}
		broken := bytes.Clone(b.Bytes())
		broken[n] ^= 1
		if _, err := ReadSynced(bytes.NewReader(broken)); err == nil {
			t.Fatalf("it is read with another byte %d", n)
		}
	}
}

func FuzzReadSynced(f *testing.F) {
	var b bytes.Buffer
	if _, err := sampleSynced(f).WriteTo(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(syncedMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ReadSynced(bytes.NewReader(data))
		if err != nil {
			return
		}
		for i := range s.Entries {
			e := &s.Entries[i]
			if checkPath(e.Path) != nil || i > 0 && comparePaths(s.Entries[i-1].Path, e.Path) >= 0 {
				t.Fatalf("entry %d is %q", i, e.Path)
			}
		}
		var again bytes.Buffer
		if _, err := s.WriteTo(&again); err != nil {
			t.Fatal(err)
		}
		if second, err := ReadSynced(&again); err != nil || !cmp.Equal(s, second) {
			t.Fatalf("it changes when it is written: %v", err)
		}
	})
}

func TestSyncedWith(t *testing.T) {
	m := &Manifest{Entries: []Entry{{Path: "packed", Kind: File}}}
	s := &Synced{Of: 7, Entries: []Sent{sentFile(t, "a", "1", 0o644), sentFile(t, "c", "1", 0o644)}}
	got := s.With(m, []Sent{sentFile(t, "c", "2", 0o644), {Entry: Entry{Path: "packed"}}, {Entry: Entry{Path: "a"}}, sentFile(t, "b", "1", 0o644), sentFile(t, "b", "2", 0o644)})
	want := []Sent{sentFile(t, "b", "2", 0o644), sentFile(t, "c", "2", 0o644), {Entry: Entry{Path: "packed"}}}
	if diff := cmp.Diff(want, got.Entries); diff != "" {
		t.Error(diff)
	}
}

// diffSynced packs files, and returns the edits of a guest's list in a machine into which
// something was sent.
func diffSynced(t *testing.T, files map[string]string, sent []Sent, changes ...Change) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	image, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	m, err := Pack(t.Context(), dir, image, PackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	base, err := m.OpenImage(image)
	if err != nil {
		t.Fatal(err)
	}
	s := (&Synced{Of: m.Started}).With(m, sent)
	edits, _, err := DiffSynced(t.Context(), m, base, s, func(yield func(Change, error) bool) {
		for _, c := range changes {
			if c.Kind == File && c.Mode == 0 {
				c.Mode = 0o644
			}
			if c.Kind == Dir && c.Mode == 0 {
				c.Mode = 0o755
			}
			if !yield(c, nil) {
				return
			}
		}
	}, DiffOptions{Memory: math.MaxInt64})
	if err != nil {
		t.Fatal(err)
	}
	over := s.Over(m)
	var lines []string
	for _, e := range edits {
		if e.Op != Add && over.Find(e.Packed()) == nil {
			t.Errorf("%v is of what was not there before", e)
		}
		line := e.Op.String() + " " + e.Path
		if e.From != "" {
			line += " from " + e.From
		}
		if e.Copies != "" {
			line += " copies " + e.Copies
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// The guest's changes begin at what was sent, whatever it has made of that since.
func TestDiffSynced(t *testing.T) {
	files := map[string]string{"a": "1", "dir/x": "1", "dir/y": "1", "other/z": "1"}
	file := func(path, text string) Change {
		return Change{Path: path, Kind: File, Size: int64(len(text)), Sum: sum(t, text)}
	}
	dir := Change{Path: "dir", Kind: Dir}
	moved := []Change{{Path: "dir", Kind: Whiteout}, {Path: "new", Kind: Dir, Redirect: "/dir"}}
	all := func(lists ...any) (cs []Change) {
		for _, l := range lists {
			if c, ok := l.(Change); ok {
				cs = append(cs, c)
			} else {
				cs = append(cs, l.([]Change)...)
			}
		}
		return cs
	}
	gone := func(path string) Sent { return Sent{Entry: Entry{Path: path}} }
	is := func(path, text string) Sent { return sentFile(t, path, text, 0o644) }
	isDir := func(path string) Sent { return Sent{Entry: Entry{Path: path, Kind: Dir, Mode: 0o755}} }
	for _, tt := range []struct {
		name    string
		sent    []Sent
		changes []Change
		want    string
	}{
		{"sent", []Sent{is("a", "2"), is("b", "2"), gone("dir/x")}, all(file("a", "2"), file("b", "2"), dir, Change{Path: "dir/x", Kind: Whiteout}), ""},
		{"changed since", []Sent{is("a", "2"), is("b", "2")}, all(file("a", "3"), file("b", "3")), "M a\nM b"},
		{"changed back", []Sent{is("a", "2")}, all(file("a", "1")), "M a"},
		{"removed since", []Sent{is("a", "2"), is("b", "2")}, all(Change{Path: "a", Kind: Whiteout}), "D a\nD b"},
		{"made again", []Sent{gone("a")}, all(file("a", "1")), "A a"},
		{"mode", []Sent{sentFile(t, "a", "1", 0o755)}, all(file("a", "1")), "M a"},
		{"no longer shown", []Sent{is("a", "2"), gone("dir/x")}, nil, "M a copies a\nA dir/x copies dir/x"},
		{"in a renamed directory", []Sent{is("dir/x", "2"), is("dir/n", "2"), gone("dir/y")},
			all(moved, file("new/x", "2"), file("new/n", "2"), Change{Path: "new/y", Kind: Whiteout}), "R new from dir"},
		{"changed in a renamed directory", []Sent{is("dir/x", "2"), is("dir/n", "2")},
			all(moved, file("new/x", "3"), file("new/n", "3")), "R new from dir\nM new/n from dir/n\nM new/x from dir/x"},
		{"renamed on both sides", []Sent{gone("dir"), gone("dir/x"), gone("dir/y"), isDir("new"), is("new/x", "1"), is("new/y", "1")}, moved, ""},
		{"renamed on both sides, then changed", []Sent{gone("dir"), gone("dir/x"), gone("dir/y"), isDir("new"), is("new/x", "1"), is("new/y", "1")},
			all(moved, file("new/x", "9")), "M new/x"},
		{"a directory made of a file", []Sent{isDir("a"), is("a/n", "1")}, all(Change{Path: "a", Kind: Dir, Opaque: true}, file("a/n", "1")), ""},
		{"a file made of a directory", []Sent{is("dir", "1"), gone("dir/x"), gone("dir/y")}, all(file("dir", "1")), ""},
		{"a directory removed with what was sent", []Sent{is("dir/n", "1")}, all(Change{Path: "dir", Kind: Whiteout}), "D dir\nD dir/n\nD dir/x\nD dir/y"},
		{"a special file", []Sent{is("dir/n", "1")}, all(Change{Path: "dir", Kind: Other}), "M dir"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := diffSynced(t, files, tt.sent, tt.changes...); got != tt.want {
				t.Errorf("edits:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}
