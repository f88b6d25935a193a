package workspace

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// base is what was packed, in memory.
func (tr tree) Open(path string) (*io.SectionReader, error) {
	n, ok := tr[path]
	if !ok || n.kind != File {
		return nil, fs.ErrNotExist
	}
	return io.NewSectionReader(strings.NewReader(n.data), 0, int64(len(n.data))), nil
}

var _ Base = tree(nil)

// manifest returns the manifest of a tree that is not on the disk.
func (tr tree) manifest() *Manifest {
	m := &Manifest{Root: "/home/u/ws"}
	for p, n := range tr {
		e := Entry{Path: p, Kind: n.kind, Mode: n.mode}
		switch n.kind {
		case File:
			e.Size = int64(len(n.data))
		case Symlink:
			e.Target = n.data
		}
		m.Entries = append(m.Entries, e)
	}
	slices.SortFunc(m.Entries, func(a, b Entry) int { return comparePaths(a.Path, b.Path) })
	return m
}

func file(data string, mode uint32) Change {
	return Change{Kind: File, Mode: mode, Size: int64(len(data)), Sum: sumOf(string(data))}
}

func at(path string, c Change) Change {
	c.Path = path
	return c
}

func TestDiff(t *testing.T) {
	from := tree{
		"f":     {File, 0o644, "f"},
		"s":     {File, 0o4755, "setuid"},
		"l":     {Symlink, 0o777, "f"},
		"d":     {Dir, 0o755, ""},
		"d/e":   {Dir, 0o755, ""},
		"d/e/x": {File, 0o644, "x"},
		"d/y":   {File, 0o644, "y"},
		"d-z":   {File, 0o644, "z"},
	}
	dir := Change{Kind: Dir, Mode: 0o755}
	opaque := Change{Kind: Dir, Mode: 0o755, Opaque: true}
	gone := Change{Kind: Whiteout}
	other := Change{Kind: Other}
	tests := []struct {
		name    string
		changes []Change
		want    []string // String of each edit that is not implied
	}{
		{"nothing", nil, nil},
		{"copied up, not changed", []Change{at("f", file("f", 0o644)), at("d", dir), at("d/y", file("y", 0o644)), at("s", file("setuid", 0o755))}, nil},
		{"edited", []Change{at("f", file("longer", 0o644))}, []string{"M  f (+5 B)"}},
		{"edited, same size", []Change{at("f", file("g", 0o644))}, []string{"M  f (+0 B)"}},
		{"shorter, and mode", []Change{at("f", file("", 0o755))}, []string{"M  f (-1 B, mode 755, was 644)"}},
		{"mode", []Change{at("f", file("f", 0o4755))}, []string{"M  f (mode 755, was 644)"}},
		{"added", []Change{at("n", file(strings.Repeat("n", 2000), 0o644))}, []string{"A  n (2.0 KiB)"}},
		{"deleted", []Change{at("f", gone)}, []string{"D  f"}},
		{"whiteout of nothing", []Change{at("q", gone)}, nil},
		{"renamed", []Change{at("f", gone), at("g", file("f", 0o644))}, []string{"D  f", "A  g (1 B)"}},
		{"link", []Change{at("l", Change{Kind: Symlink, Target: "f"})}, nil},
		{"link changed", []Change{at("l", Change{Kind: Symlink, Target: "\x1b"})}, []string{`M  l -> "\x1b"`}},
		{"directory deleted", []Change{at("d", gone)}, []string{"D  d/e/x", "D  d/y"}},
		{"directory made anew", []Change{at("d", opaque), at("d/y", file("y", 0o644)), at("d/n", file("", 0o644))},
			[]string{"D  d/e/x", "A  d/n (0 B)"}},
		{"inner whiteout", []Change{at("d", dir), at("d/e", gone)}, []string{"D  d/e/x"}},
		{"empty directory", []Change{at("n", dir)}, []string{"A  n/"}},
		{"directories with a file", []Change{at("n", dir), at("n/m", dir), at("n/m/f", file("", 0o644))}, []string{"A  n/m/f (0 B)"}},
		{"directory's mode", []Change{at("d", Change{Kind: Dir, Mode: 0o700})}, []string{"M  d/ (mode 700, was 755)"}},
		{"file to directory", []Change{at("f", dir), at("f/n", file("", 0o644))}, []string{"M  f/ (was a file)", "A  f/n (0 B)"}},
		{"directory to file", []Change{at("d", file("", 0o644))}, []string{"M  d (was a directory)", "D  d/e/x", "D  d/y"}},
		{"socket", []Change{at("n", other)}, []string{"A  n (skipped: sockets, pipes and devices stay in the machine)"}},
		{"directory to pipe", []Change{at("d", other)}, []string{"M  d (skipped: sockets, pipes and devices stay in the machine)"}},
		{"pipe in a directory made anew", []Change{at("d", opaque), at("d/e", other)},
			[]string{"M  d/e (skipped: sockets, pipes and devices stay in the machine)", "D  d/y"}},
	}
	for _, tt := range tests {
		slices.Reverse(tt.changes) // any order will do
		edits, err := diffAll(t.Context(), from.manifest(), from, sequence(tt.changes))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var got []string
		for _, e := range edits {
			if !e.Implied {
				got = append(got, e.String())
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n got %q\nwant %q", tt.name, got, tt.want)
		}
	}
}

func TestDiffRefuses(t *testing.T) {
	from := tree{
		"f":   {File, 0o644, "f"},
		"d":   {Dir, 0o755, ""},
		"d/e": {Dir, 0o755, ""},
	}
	dir := Change{Kind: Dir, Mode: 0o755}
	tests := []struct {
		name    string
		changes []Change
	}{
		{"parent of the workspace", []Change{at("../x", file("", 0o644))}},
		{"absolute", []Change{at("/etc/passwd", file("", 0o644))}},
		{"the workspace itself", []Change{at(".", dir)}},
		{"NUL", []Change{at("a\x00b", file("", 0o644))}},
		{"twice", []Change{at("a", file("", 0o644)), at("a", dir)}},
		{"in a file", []Change{at("f/x", file("", 0o644))}},
		{"in a new file", []Change{at("n", file("", 0o644)), at("n/x", file("", 0o644))}},
		{"in a new link", []Change{at("d", Change{Kind: Symlink, Target: "/etc"}), at("d/x", file("", 0o644))}},
		{"in a whiteout", []Change{at("d", Change{Kind: Whiteout}), at("d/x", file("", 0o644))}},
		{"in what was hidden", []Change{at("d", Change{Kind: Dir, Opaque: true}), at("d/e/x", file("", 0o644))}},
		{"in nothing", []Change{at("n/x", file("", 0o644))}},
		{"empty target", []Change{at("l", Change{Kind: Symlink})}},
		{"long target", []Change{at("l", Change{Kind: Symlink, Target: strings.Repeat("a", 5000)})}},
		{"negative size", []Change{at("n", Change{Kind: File, Size: -1})}},
		{"huge size", []Change{at("n", Change{Kind: File, Size: 1 << 60})}},
		{"no kind", []Change{at("n", Change{})}},
		{"unknown kind", []Change{at("n", Change{Kind: 99})}},
	}
	for _, tt := range tests {
		edits, err := diffAll(t.Context(), from.manifest(), from, sequence(tt.changes))
		if !errors.Is(err, errChanges) {
			t.Errorf("%s: Diff = %v, %v; want an error", tt.name, edits, err)
		}
	}
	broken := errors.New("connection lost")
	_, err := diffAll(t.Context(), from.manifest(), from, func(yield func(Change, error) bool) { yield(Change{}, broken) })
	if !errors.Is(err, broken) {
		t.Errorf("Diff of a broken list = %v; want its error", err)
	}
}

func TestDiffBounds(t *testing.T) {
	endless := func(yield func(Change, error) bool) {
		name := strings.Repeat("n", 200)
		for i := 0; ; i++ {
			c := Change{Kind: Symlink, Path: name, Target: strings.Repeat("t", maxTarget)}
			if !yield(c, nil) {
				return
			}
		}
	}
	if _, err := diffAll(t.Context(), &Manifest{}, tree{}, endless); !errors.Is(err, errChanges) {
		t.Errorf("Diff of an endless list = %v; want an error", err)
	}
}

func TestDiffEscapes(t *testing.T) {
	edits, err := diffAll(t.Context(), &Manifest{Root: "/ws"}, tree{}, sequence([]Change{
		{Path: "in", Kind: Symlink, Target: "x"},
		{Path: "out", Kind: Symlink, Target: "/etc/passwd"},
	}))
	if err != nil || len(edits) != 2 || edits[0].Escapes || !edits[1].Escapes {
		t.Errorf("Diff = %+v, %v; want only the second link to escape", edits, err)
	}
}

// FuzzDiff makes trees and lists of changes from bytes. Whatever a guest says,
// each edit must name a clean path once, and fit the manifest.
func FuzzDiff(f *testing.F) {
	f.Add(uint64(1), []byte("\x01a\x02d\x04d/e\x03x"))
	f.Add(uint64(2), []byte("\x05../../etc\x01\x00"))
	f.Add(uint64(3), []byte("\x02a-b\x12a\x04a/a\x01a/b"))
	f.Fuzz(func(t *testing.T, seed uint64, list []byte) {
		r := rand.New(rand.NewPCG(seed, 0))
		from, to := randomTrees(r)
		var cs []Change
		if seed%2 == 0 {
			cs = changes(r, from, to)
		}
		for field := range strings.FieldsFuncSeq(string(list), func(r rune) bool { return r == '\n' }) {
			c := Change{Kind: Kind(field[0] & 7), Opaque: field[0]&8 != 0, Mode: uint32(field[0]) << 4, Path: field[1:], Target: field[1:]}
			cs = append(cs, c)
		}
		m := from.manifest()
		edits, err := diffAll(t.Context(), m, from, sequence(cs))
		if err != nil {
			return
		}
		for i, e := range edits {
			if checkPath(e.Path) != nil || i > 0 && comparePaths(edits[i-1].Path, e.Path) >= 0 {
				t.Errorf("edit %d of %q", i, e.Path)
			}
			old := m.Find(e.Packed())
			if (e.Op == Add) != (old == nil) || old != nil && old.Kind != e.OldKind {
				t.Errorf("%v: the manifest has %v", e, old)
			}
			if (e.Op == Delete) != (e.NewKind == None) || e.NewKind == Other && e.Skipped == "" || e.NewMode > 0o777 {
				t.Errorf("%v: %+v", e, e)
			}
			if strings.ContainsAny(e.String(), "\x1b\n\x00") {
				t.Errorf("%q is not safe to print", e)
			}
		}
	})
}
