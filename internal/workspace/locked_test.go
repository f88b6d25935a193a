package workspace

import (
	"os"
	"slices"
	"testing"
)

// A directory that was opened for the work gets the mode back that it had, whatever becomes of
// its edit: here the host has changed the mode meanwhile, or has something in its new place.
func TestLockedModes(t *testing.T) {
	locked, dir, file := node{Dir, 0o555, ""}, node{Dir, 0o755, ""}, node{File, 0o644, "x"}
	from := tree{"d": locked, "d/x": file, "m": dir, "m/d": locked, "m/d/x": dir, "m/d/x/f": file}
	gone := Change{Kind: Whiteout}
	for _, tt := range []struct {
		name      string
		changes   []Change
		host      func(dir string) error
		conflicts []string
		path      string // of the directory afterwards
		mode      uint32
	}{
		{
			"renamed, its mode changed by both",
			[]Change{at("d", gone), {Path: "to", Kind: Dir, Mode: 0o755}, {Path: "to/d", Kind: Dir, Mode: 0o750, Redirect: "/d"}},
			func(dir string) error { return os.Chmod(dir+"/d", 0o500) }, []string{"to/d"}, "to/d", 0o500,
		},
		{
			"left and moved with what it is in, its mode changed by both",
			[]Change{
				at("a", dir.change("a")), redirect("a/x", "/m/d/x"), at("m", gone), redirect("n", "m"),
				{Path: "n/d", Kind: Dir, Mode: 0o750}, at("n/d/x", gone),
			},
			func(dir string) error { return os.Chmod(dir+"/m/d", 0o500) }, []string{"n/d"}, "n/d", 0o500,
		},
		{
			"left and renamed, its mode changed by the machine",
			[]Change{at("a", dir.change("a")), redirect("a/x", "/m/d/x"), at("m/d", gone), {Path: "n", Kind: Dir, Mode: 0o750, Redirect: "/m/d"}, at("n/x", gone)},
			func(string) error { return nil }, nil, "n", 0o750,
		},
		{
			"its new name is taken",
			[]Change{at("d", gone), {Path: "to", Kind: Dir, Mode: 0o755}, {Path: "to/d", Kind: Dir, Mode: 0o555, Redirect: "/d"}},
			func(dir string) error { return os.MkdirAll(dir+"/to/d/full", 0o755) }, []string{"to/d"}, "d", 0o555,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSession(t, from)
			s.take(t, nil, tt.changes)
			if err := tt.host(s.dir); err != nil {
				t.Fatal(err)
			}
			var conflicts []string
			for _, c := range s.apply(t).Conflicts {
				conflicts = append(conflicts, c.Path)
			}
			if !slices.Equal(conflicts, tt.conflicts) {
				t.Errorf("conflicts at %q; want %q", conflicts, tt.conflicts)
			}
			if got := readTree(t, s.dir)[tt.path]; got.kind != Dir || got.mode != tt.mode {
				t.Errorf("%s is %v with the mode %o; want %o", tt.path, got.kind, got.mode, tt.mode)
			}
		})
	}
}

// A normal user's, too.
func TestLockedModesAsUser(t *testing.T) { asUser(t, "^TestLockedModes$", 4) }
