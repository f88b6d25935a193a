package workspace

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// merged returns what the kernel shows of an upper directory, cs, over the tree lower,
// filesystems/overlayfs.rst.
func merged(lower tree, cs []Change) tree {
	upper := make(map[string]Change)
	for _, c := range cs {
		upper[c.Path] = c
	}
	out := make(tree)
	// dir shows a directory whose lower one is packed, "" for none and "." for the top.
	var dir func(path, packed string)
	dir = func(path, packed string) {
		names := make(map[string]bool)
		for p := range upper {
			if parent, name := splitPath(p); parent == path {
				names[name] = true
			}
		}
		for p := range lower {
			if parent, name := splitPath(p); packed != "" && parent == packed {
				names[name] = true
			}
		}
		for name := range names {
			p, below := joinPath(path, name), ""
			if packed != "" {
				below = joinPath(packed, name)
			}
			c, changed := upper[p]
			old, isOld := lower[below]
			switch {
			case !changed:
				out[p] = old
				if isOld && old.kind == Dir {
					dir(p, below)
				}
				continue
			case c.Kind == Whiteout:
				continue
			}
			out[p] = node{c.Kind, c.Mode, map[Kind]string{File: strings.Repeat("n", int(c.Size)), Symlink: c.Target}[c.Kind]}
			if c.Kind != Dir {
				continue
			}
			if c.Redirect != "" && !c.Opaque {
				if path, ok := strings.CutPrefix(c.Redirect, "/"); ok {
					below = path
				} else if packed != "" {
					below = joinPath(packed, c.Redirect)
				}
			}
			if c.Opaque || lower[below].kind != Dir {
				below = ""
			}
			dir(p, below)
		}
	}
	dir(".", ".")
	return out
}

func redirect(path, to string) Change {
	return Change{Path: path, Kind: Dir, Mode: 0o755, Redirect: to}
}

func TestDiffRenames(t *testing.T) {
	from := tree{
		"src":           {Dir, 0o755, ""},
		"src/app":       {Dir, 0o755, ""},
		"src/app/a":     {File, 0o644, "a"},
		"src/app/sub":   {Dir, 0o755, ""},
		"src/app/sub/b": {File, 0o644, "b"},
		"doc":           {Dir, 0o755, ""},
		"doc/x":         {File, 0o644, "x"},
		"f":             {File, 0o644, "f"},
	}
	src := Change{Path: "src", Kind: Dir, Mode: 0o755}
	gone := Change{Kind: Whiteout}
	tests := []struct {
		name    string
		changes []Change
		want    []string
	}{
		{"beside", []Change{src, at("src/app", gone), redirect("src/core", "app")}, []string{"R  src/app/ -> src/core/"}},
		{"elsewhere", []Change{src, at("src/app", gone), redirect("core", "/src/app")}, []string{"R  src/app/ -> core/"}},
		{"its mode", []Change{at("doc", gone), {Path: "man", Kind: Dir, Mode: 0o700, Redirect: "doc"}}, []string{"R  doc/ -> man/ (mode 700, was 755)"}},
		{"into a new one", []Change{at("doc", gone), {Path: "n", Kind: Dir, Mode: 0o755}, redirect("n/doc", "/doc")}, []string{"R  doc/ -> n/doc/"}},
		{"with changes inside", []Change{at("doc", gone), redirect("man", "doc"), at("man/x", gone), at("man/y", file("y", 0o644))},
			[]string{"R  doc/ -> man/", "D  man/x", "A  man/y (1 B)"}},
		{"in a renamed one", []Change{at("src", gone), redirect("s", "src"), at("s/app", gone), redirect("s/core", "app")},
			[]string{"R  src/ -> s/", "R  src/app/ -> s/core/"}},
		{"out of a renamed one", []Change{at("src", gone), redirect("s", "src"), at("s/app", gone), redirect("core", "/src/app")},
			[]string{"R  src/app/ -> core/", "R  src/ -> s/"}},
		{"in the place of another", []Change{redirect("doc", "/src/app"), src, at("src/app", gone), redirect("old", "doc")},
			[]string{"R  src/app/ -> doc/", "R  doc/ -> old/"}},
		{"to where it is", []Change{redirect("doc", "doc")}, nil},
		// Moved away, and back when the directory above had been made anew.
		{"back into a new parent", []Change{{Path: "src", Kind: Dir, Mode: 0o755, Opaque: true}, redirect("src/app", "/src/app")}, nil},
		{"below, back into a new parent", []Change{at("src", gone), redirect("s", "src"), {Path: "s/app", Kind: Dir, Mode: 0o755, Opaque: true}, redirect("s/app/sub", "/src/app/sub")},
			[]string{"R  src/ -> s/", "D  s/app/a"}},
		{"back into a renamed parent", []Change{redirect("src", "/doc"), at("doc", gone), redirect("src/app", "/src/app")}, []string{"A  src/x (1 B)", "D  doc/x"}},
		// What follows no rename gives.
		{"swapped", []Change{redirect("doc", "/src"), redirect("src", "/doc")},
			[]string{"A  doc/app/a (1 B)", "A  doc/app/sub/b (1 B)", "D  doc/x", "D  src/app/a", "D  src/app/sub/b", "A  src/x (1 B)"}},
		{"both there", []Change{redirect("man", "doc")}, []string{"A  man/x (1 B)"}},
		{"twice", []Change{at("doc", gone), redirect("m", "doc"), redirect("n", "doc")}, []string{"R  doc/ -> m/", "A  n/x (1 B)"}},
		{"of a file", []Change{at("f", gone), redirect("m", "f")}, []string{"D  f", "A  m/"}},
		{"of nothing", []Change{redirect("doc", "none")}, []string{"D  doc/x"}},
		{"into itself", []Change{src, redirect("src/app", "/src")}, []string{"D  src/app/a", "A  src/app/app/a (1 B)", "A  src/app/app/sub/b (1 B)", "D  src/app/sub/b"}},
		{"of a parent that has none", []Change{{Path: "n", Kind: Dir, Mode: 0o755}, redirect("n/m", "app")}, []string{"A  n/m/"}},
	}
	for _, tt := range tests {
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
		slices.Sort(got)
		slices.Sort(tt.want)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n got %q\nwant %q", tt.name, got, tt.want)
		}
	}
}

func TestDiffRefusesRedirects(t *testing.T) {
	from := tree{"d": {Dir, 0o755, ""}, "d/f": {File, 0o644, "f"}}
	for _, to := range []string{"/", "..", ".", "/..", "/../etc", "/d/../..", "../d", "a/b", "/d/", "//d", "d\x00", "/" + strings.Repeat("a", 256), strings.Repeat("/a", 3000)} {
		edits, err := diffAll(t.Context(), from.manifest(), from, sequence([]Change{redirect("n", to)}))
		if !errors.Is(err, errChanges) {
			t.Errorf("Diff with a redirect to %.40q = %v, %v; want an error", to, edits, err)
		}
	}
	// Each of many may be small, and show all of a large one.
	m := from.manifest()
	for i := range 5000 {
		m.Entries = append(m.Entries, Entry{Path: fmt.Sprintf("d/f%06d", i), Kind: File})
	}
	var cs []Change
	for i := range 5000 {
		cs = append(cs, redirect(fmt.Sprintf("n%d", i), "/d"))
	}
	if _, err := diffAll(t.Context(), m, from, sequence(cs)); !errors.Is(err, errChanges) {
		t.Errorf("Diff of 25,000,000 copies = %v; want an error", err)
	}
}

// What a directory holds is not written anew when it is renamed, and what the host has
// changed in it meanwhile goes along and is kept.
func TestApplyRename(t *testing.T) {
	for _, plain := range []bool{false, true} {
		from := tree{"d": {Dir, 0o755, ""}, "d/sub": {Dir, 0o555, ""}, "d/sub/f": {File, 0o444, "f"}, "d/g": {File, 0o644, "g"}, "d/h": {File, 0o644, "h"}}
		s := newSession(t, from)
		inode := func(p string) uint64 {
			m, _ := pack(t, s.dir, PackOptions{})
			if e := m.Find(p); e != nil {
				return e.ID.Ino
			}
			return 0
		}
		want := inode("d/sub/f")
		cs := []Change{at("d", Change{Kind: Whiteout}), redirect("n", "d"), at("n/g", file("agent", 0o644)), at("n/h", file("agent", 0o644))}
		s.take(t, tree{"n/g": {data: "agent"}, "n/h": {data: "agent"}}, cs)
		for name, data := range map[string]string{"d/h": "host", "d/own": "host"} {
			if err := os.WriteFile(filepath.Join(s.dir, name), []byte(data), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		a := newApplier(s.application())
		a.plainRename = plain
		if err := a.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(a.result.Conflicts) != 1 || a.result.Conflicts[0].Path != "n/h" || a.result.Applied != 2 {
			t.Errorf("Apply = %+v; want 2 applied and a conflict of n/h", a.result)
		}
		after := tree{"n": {Dir, 0o755, ""}, "n/sub": {Dir, 0o555, ""}, "n/sub/f": {File, 0o444, "f"}, "n/g": {File, 0o644, "agent"}, "n/h": {File, 0o644, "host"}, "n/own": {File, 0o644, "host"}}
		compare(t, "host", readTree(t, s.dir), after)
		if got := inode("n/sub/f"); got != want {
			t.Errorf("n/sub/f has inode %d; want %d, the old one", got, want)
		}
		// As after an interruption.
		if res := s.apply(t); len(res.Conflicts) != 1 || res.Applied != 2 {
			t.Errorf("Apply once more = %+v; want the same", res)
		}
		compare(t, "host after a second time", readTree(t, s.dir), after)
	}
}

func TestApplyRenameConflicts(t *testing.T) {
	from := tree{"d": {Dir, 0o755, ""}, "d/f": {File, 0o644, "f"}, "d/g": {File, 0o644, "g"}}
	cs := []Change{at("d", Change{Kind: Whiteout}), redirect("n", "d"), at("n/g", Change{Kind: Whiteout}), at("n/new", file("n", 0o644))}
	tests := []struct {
		name string
		host func(dir string) error
		want string // of n
	}{
		{"the new name is taken", func(dir string) error {
			return errors.Join(os.Mkdir(dir+"/n", 0o755), os.WriteFile(dir+"/n/g", []byte("g"), 0o644))
		}, "made on the host"},
		{"it is gone", func(dir string) error { return os.RemoveAll(dir + "/d") }, "deleted on the host"},
		{"it is a link", func(dir string) error { return errors.Join(os.RemoveAll(dir+"/d"), os.Symlink("/etc", dir+"/d")) }, "changed on the host"},
	}
	for _, tt := range tests {
		s := newSession(t, from)
		s.take(t, tree{"n/new": {data: "n"}}, cs)
		if err := tt.host(s.dir); err != nil {
			t.Fatal(err)
		}
		before := readTree(t, s.dir)
		res := s.apply(t)
		if len(res.Conflicts) != 3 || !strings.Contains(res.Conflicts[0].Why, tt.want) {
			t.Errorf("%s: conflicts %v; want n, n/g and n/new", tt.name, res.Conflicts)
		}
		compare(t, tt.name, readTree(t, s.dir), before)
	}
}

// A rename is applied with what is chosen in it.
func TestSelectRename(t *testing.T) {
	edits := []Edit{
		{Op: Add, Path: "n", NewKind: Dir, Implied: true},
		{Op: Rename, Path: "n/d", From: "d", OldKind: Dir, NewKind: Dir},
		{Op: Modify, Path: "n/d/f", From: "d/f", OldKind: File, NewKind: File},
		{Op: Modify, Path: "n/d/g", From: "d/g", OldKind: File, NewKind: File},
	}
	for path, want := range map[string]string{"n/d/f": "n n/d n/d/f", "d": "n n/d", "x": ""} {
		var got []string
		for _, e := range editsAt(edits, path) {
			got = append(got, e.Path)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("edits at %q = %q; want %q", path, s, want)
		}
	}
}

// FuzzRedirects has redirects of all kinds in lists of changes. What Apply makes of them
// is what the kernel would show, or they are refused.
func FuzzRedirects(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 4))
		from, to := randomTrees(r)
		for p, n := range from {
			if n.kind == Dir { // of whatever is in it, something may be made
				n.mode = 0o755
				from[p] = n
			}
		}
		up := make(map[string]Change)
		for _, c := range changes(r, from, to) {
			if c.Kind == File {
				c = at(c.Path, file(strings.Repeat("n", int(c.Size%7)), c.Mode))
			}
			up[c.Path] = c
		}
		for range 1 + r.IntN(6) {
			source, ok := from.pick(r, Dir)
			if !ok {
				return
			}
			path := []string{"r1", "r2", "a", "b"}[r.IntN(4)]
			if parent, ok := to.pick(r, Dir); ok && r.IntN(2) == 0 {
				path = joinPath(parent, path)
			}
			c := redirect(path, "/"+source)
			if r.IntN(4) == 0 {
				_, c.Redirect = splitPath(source)
			}
			up[path] = c
			if r.IntN(4) > 0 && up[source].Redirect == "" {
				up[source] = Change{Path: source, Kind: Whiteout}
			}
		}
		cs := slices.SortedFunc(maps.Values(up), func(a, b Change) int { return comparePaths(a.Path, b.Path) })
		s := newSession(t, from)
		edits, err := diffAll(t.Context(), s.app.Manifest, s.app.Base, sequence(cs))
		if err != nil {
			return // such as what is in a whiteout
		}
		want := merged(from, cs)
		s.edits = edits
		s.app.Staging, err = Stage(t.Context(), filepath.Join(t.TempDir(), "staging"), Pointers(edits), want.fetch, StageOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range s.apply(t).Conflicts {
			t.Errorf("conflict: %v", c)
		}
		compare(t, "host", readTree(t, s.dir), want)
		if t.Failed() {
			t.Logf("from %v\nchanges %+v\nedits %v", from, cs, edits)
		}
	})
}
