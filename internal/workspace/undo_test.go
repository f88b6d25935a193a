package workspace

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// exactTree reads all of a tree that a user can see: with times, names of the same file and
// extended attributes.
func exactTree(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	groups := make(map[uint64]string)
	err := filepath.WalkDir(dir, func(full string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrPermission) { // a directory that its owner may not list
			return nil
		}
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(full, &st); err != nil {
			return err
		}
		s := fmt.Sprintf("%v %o %d:%d %d", kindOf(&st), st.Mode&0o7777, st.Uid, st.Gid, unix.TimespecToNsec(st.Mtim))
		switch kindOf(&st) {
		case File:
			b, err := os.ReadFile(full)
			if err != nil && !errors.Is(err, fs.ErrPermission) {
				return err
			}
			if groups[st.Ino] == "" {
				groups[st.Ino] = full
			}
			s += fmt.Sprintf(" %d names as %s %q", st.Nlink, groups[st.Ino], b)
		case Symlink:
			target, err := os.Readlink(full)
			if err != nil {
				return err
			}
			s += " " + target
		}
		if kindOf(&st) != Symlink {
			list, _ := attribute(func(p []byte) (int, error) { return unix.Listxattr(full, p) })
			names := strings.Split(string(list), "\x00")
			slices.Sort(names)
			for _, name := range names {
				value, _ := attribute(func(p []byte) (int, error) { return unix.Getxattr(full, name, p) })
				s += " " + name + "=" + hex.EncodeToString(value)
			}
		}
		out[full] = s
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sameTree compares what exactTree has read.
func sameTree(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	for p, w := range want {
		if got[p] != w {
			t.Errorf("%s: %s = %.200s; want %.200s", what, p, got[p], w)
		}
	}
	for p, g := range got {
		if _, ok := want[p]; !ok {
			t.Errorf("%s: %s = %.200s; want nothing", what, p, g)
		}
	}
}

// otherDisk returns a directory on another file system than that of t.TempDir.
func otherDisk(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "mayfly-test-")
	if err != nil {
		t.Skipf("no second file system: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var a, b unix.Stat_t
	if unix.Stat(dir, &a) != nil || unix.Stat(t.TempDir(), &b) != nil || a.Dev == b.Dev {
		t.Skip("no second file system")
	}
	return dir
}

// undo takes the last Apply of a session back.
func (s *session) undo(t testing.TB) Result {
	t.Helper()
	if err := SweepUndos(s.app.Undo.Store); err != nil {
		t.Fatal(err)
	}
	recs, err := UndoRecords(s.app.Undo.Store)
	if err != nil {
		t.Fatal(err)
	}
	var all Result
	for _, rec := range recs {
		res, err := Undo(t.Context(), rec)
		if err != nil {
			t.Fatalf("Undo: %v", err)
		}
		all.Applied += res.Applied
		all.Conflicts = append(all.Conflicts, res.Conflicts...)
		all.Notes = append(all.Notes, res.Notes...)
	}
	return all
}

// noUndo wants a store to hold nothing.
func noUndo(t testing.TB, store string) {
	t.Helper()
	entries, err := os.ReadDir(store)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), undoNew) && os.Remove(filepath.Join(store, e.Name())) == nil {
			continue // empty, and too new to know that nobody is about to use it
		}
		t.Errorf("%s is left in the store of records", e.Name())
	}
}

// aged gives all in dir times of its own, so that what is made anew differs.
func aged(t testing.TB, dir string) {
	t.Helper()
	when := time.Now().Add(-1000 * time.Hour).UnixNano()
	filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		when += 1234567
		ts := unix.NsecToTimespec(when)
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
		return nil
	})
}

// TestUndoRandom applies random changes to random trees and takes them back: the tree must
// be the old one in all that a user can see.
func TestUndoRandom(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		for seed := range uint64(30) {
			r := rand.New(rand.NewPCG(seed, 7))
			from, to := randomTrees(r)
			s := newSession(t, from)
			store := filepath.Join(t.TempDir(), "undo")
			if elsewhere {
				store = filepath.Join(otherDisk(t), "undo")
			}
			s.app.Undo = &UndoOptions{Store: store, Name: "m"}
			s.app.Journal = filepath.Join(t.TempDir(), "journal")
			aged(t, s.dir)
			s.repack(t)
			s.app.Manifest.Started += int64(time.Hour)
			want := exactTree(t, s.dir)
			s.take(t, to, changes(r, from, to))
			if res := s.apply(t); len(res.Conflicts) > 0 {
				t.Errorf("seed %d: conflicts %v", seed, res.Conflicts)
			}
			compare(t, fmt.Sprintf("seed %d, applied", seed), readTree(t, s.dir), to)
			if res := s.undo(t); len(res.Conflicts) > 0 {
				t.Errorf("seed %d: conflicts of the undo: %v", seed, res.Conflicts)
			}
			sameTree(t, fmt.Sprintf("seed %d, taken back", seed), exactTree(t, s.dir), want)
			noUndo(t, store)
			if t.Failed() {
				for _, e := range s.edits {
					t.Log(e)
				}
				return
			}
		}
	}
}

// undoSession is a session with a store of records.
func undoSession(t testing.TB, from tree) *session {
	t.Helper()
	s := newSession(t, from)
	s.app.Undo = &UndoOptions{Store: filepath.Join(t.TempDir(), "undo"), Name: "m"}
	return s
}

// TestUndoChangedSince edits the host between an apply and its undo: the newer bytes stay,
// each is named, and all else is taken back.
func TestUndoChangedSince(t *testing.T) {
	from := tree{
		"edited": {File, 0o644, "old"}, "deleted": {File, 0o644, "old"}, "mode": {File, 0o644, "old"},
		"link": {Symlink, 0o777, "edited"}, "other": {File, 0o644, "old"}, "d": {Dir, 0o755, ""}, "d/x": {File, 0o644, "x"},
	}
	to := tree{
		"edited": {File, 0o644, "new"}, "mode": {File, 0o755, "old"}, "added": {File, 0o644, "new"},
		"link": {Symlink, 0o777, "other"}, "other": {File, 0o644, "new"}, "n": {Dir, 0o755, ""}, "n/x": {File, 0o644, "x"},
	}
	tests := []struct {
		name string
		host host
		want map[string]conflictError
		// after is what is there then, by path; other paths are as in from.
		after tree
	}{
		{"nothing", func(*testing.T, string) {}, nil, nil},
		{"edited", hostWrites("edited", "mine"), map[string]conflictError{"edited": undoChanged}, tree{"edited": {File, 0o644, "mine"}}},
		{"edited, same size", hostWrites("edited", "n3w"), map[string]conflictError{"edited": undoChanged}, tree{"edited": {File, 0o644, "n3w"}}},
		{"edited, added", hostWrites("added", "mine"), map[string]conflictError{"added": undoChanged}, tree{"added": {File, 0o644, "mine"}}},
		{"made again", hostWrites("deleted", "mine"), map[string]conflictError{"deleted": undoTaken}, tree{"deleted": {File, 0o644, "mine"}}},
		{"removed", func(t *testing.T, dir string) { os.Remove(dir + "/edited") }, map[string]conflictError{"edited": undoDeleted}, tree{"edited": {}}},
		{"mode", func(t *testing.T, dir string) { os.Chmod(dir+"/mode", 0o600) }, map[string]conflictError{"mode": undoChanged}, tree{"mode": {File, 0o600, "old"}}},
		{"mode of an edited one", func(t *testing.T, dir string) { os.Chmod(dir+"/edited", 0o600) }, map[string]conflictError{"edited": undoChanged}, tree{"edited": {File, 0o600, "new"}}},
		{"link", func(t *testing.T, dir string) { os.Remove(dir + "/link"); os.Symlink("d", dir+"/link") }, map[string]conflictError{"link": undoChanged}, tree{"link": {Symlink, 0o777, "d"}}},
		{"another kind", func(t *testing.T, dir string) { os.Remove(dir + "/other"); os.Mkdir(dir+"/other", 0o755) }, map[string]conflictError{"other": undoChanged}, tree{"other": {Dir, 0o755, ""}}},
		{"a link in place of a directory", func(t *testing.T, dir string) {
			os.RemoveAll(dir + "/n")
			os.Mkdir(dir+"/d", 0o755)
			os.WriteFile(dir+"/d/x", []byte("x"), 0o644)
			os.Symlink("d", dir+"/n")
		}, map[string]conflictError{"n": undoChanged, "n/x": conflictSymlink, "d/x": undoTaken}, tree{"n": {Symlink, 0o777, "d"}}},
		{"a file in what was added", hostWrites("n/mine", "mine"), map[string]conflictError{"n": undoHolds}, tree{"n": {Dir, 0o755, ""}, "n/mine": {File, 0o644, "mine"}}},
	}
	for _, tt := range tests {
		for _, plain := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/plain=%v", tt.name, plain), func(t *testing.T) {
				s := undoSession(t, from)
				s.take(t, to, changes(rand.New(rand.NewPCG(1, 1)), from, to))
				if res := s.applyPlain(t, plain); len(res.Conflicts) > 0 {
					t.Fatalf("conflicts: %v", res.Conflicts)
				}
				tt.host(t, s.dir)
				for range 2 { // again, as a user may
					got := make(map[string]string)
					for _, c := range s.undo(t).Conflicts {
						got[c.Path] = c.Why
					}
					for p, why := range tt.want {
						if got[p] != string(why) {
							t.Errorf("conflict of %s = %q; want %q", p, got[p], why)
						}
						delete(got, p)
					}
					for p, why := range got {
						t.Errorf("conflict of %s = %q; want none", p, why)
					}
					want := maps.Clone(from)
					for p, n := range tt.after {
						if want[p] = n; n.kind == None {
							want.remove(p)
						}
					}
					compare(t, "taken back", readTree(t, s.dir), want)
				}
			})
		}
	}
}

// Hard links, extended attributes, access lists and modes that are not permissions are as
// before, on one file system and from another.
func TestUndoExactly(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		t.Run(fmt.Sprintf("elsewhere=%v", elsewhere), func(t *testing.T) {
			from := tree{"a": {File, 0o644, "two names"}, "c": {File, 0o600, "attributes"}, "d": {Dir, 0o755, ""}, "d/s": {File, 0o755, "set"}, "gone": {Dir, 0o700, ""}}
			s := undoSession(t, from)
			if elsewhere {
				s.app.Undo.Store = filepath.Join(otherDisk(t), "undo")
			}
			for _, err := range []error{
				os.Link(s.dir+"/a", s.dir+"/b"), os.Link(s.dir+"/a", s.dir+"/d/third"),
				unix.Setxattr(s.dir+"/c", "user.origin", []byte("here"), 0),
				unix.Setxattr(s.dir+"/gone", "user.origin", []byte("there"), 0),
				unix.Chmod(s.dir+"/d/s", 0o4755), unix.Chmod(s.dir+"/gone", 0o2750),
			} {
				if err != nil {
					t.Skip(err)
				}
			}
			aged(t, s.dir)
			s.repack(t)
			want := exactTree(t, s.dir)
			to := tree{"a": {File, 0o644, "edited"}, "d": {Dir, 0o755, ""}, "d/s": {File, 0o644, "edited"}, "c": {File, 0o600, "edited"}}
			from["b"], from["d/third"] = from["a"], from["a"]
			s.take(t, to, changes(rand.New(rand.NewPCG(1, 1)), from, to))
			if res := s.apply(t); len(res.Conflicts) > 0 {
				t.Fatalf("conflicts: %v", res.Conflicts)
			}
			compare(t, "applied", readTree(t, s.dir), to)
			if res := s.undo(t); len(res.Conflicts) > 0 {
				t.Errorf("conflicts of the undo: %v", res.Conflicts)
			}
			sameTree(t, "taken back", exactTree(t, s.dir), want)
		})
	}
}

// A file that the apply replaced is the file again of which it was a name, whose other names
// the apply left alone.
func TestUndoOtherName(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		t.Run(fmt.Sprintf("elsewhere=%v", elsewhere), func(t *testing.T) {
			from := tree{"a": {File, 0o644, "two names"}, "d": {Dir, 0o755, ""}, "x": {File, 0o644, "written"}}
			s := undoSession(t, from)
			if elsewhere {
				s.app.Undo.Store = filepath.Join(otherDisk(t), "undo")
			}
			if err := errors.Join(os.Link(s.dir+"/a", s.dir+"/d/b"), os.Link(s.dir+"/x", s.dir+"/d/y")); err != nil {
				t.Skip(err)
			}
			aged(t, s.dir)
			s.repack(t)
			want := exactTree(t, s.dir)
			to := tree{"a": {File, 0o644, "edited"}, "x": {File, 0o644, "edited"}}
			s.take(t, to, []Change{to["a"].change("a"), to["x"].change("x")})
			if res := s.apply(t); len(res.Conflicts) > 0 {
				t.Fatalf("conflicts: %v", res.Conflicts)
			}
			if res := s.undo(t); len(res.Conflicts) > 0 {
				t.Errorf("conflicts of the undo: %v", res.Conflicts)
			}
			sameTree(t, "taken back", exactTree(t, s.dir), want)
			// One that was written to meanwhile is another file.
			s.take(t, to, []Change{to["x"].change("x")})
			s.apply(t)
			if err := os.WriteFile(s.dir+"/d/y", []byte("mine"), 0o644); err != nil {
				t.Fatal(err)
			}
			s.undo(t)
			compare(t, "taken back", readTree(t, s.dir), tree{
				"a": {File, 0o644, "two names"}, "d": {Dir, 0o755, ""}, "d/b": {File, 0o644, "two names"}, "x": {File, 0o644, "written"}, "d/y": {File, 0o644, "mine"},
			})
		})
	}
}

// What was written meanwhile to a file through another of its names is not the old content:
// that comes back, in a file of its own.
func TestUndoWrittenThroughLink(t *testing.T) {
	s := undoSession(t, tree{"a": {File, 0o644, "old"}})
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Link(s.dir+"/a", outside); err != nil {
		t.Fatal(err)
	}
	s.repack(t)
	to := tree{"a": {File, 0o644, "new"}}
	s.take(t, to, []Change{to["a"].change("a")})
	s.apply(t)
	if err := os.WriteFile(outside, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if res := s.undo(t); len(res.Conflicts) != 0 || len(res.Notes) != 1 {
		t.Errorf("Undo = %v; want a note and no conflict", res)
	}
	compare(t, "taken back", readTree(t, s.dir), tree{"a": {File, 0o644, "old"}})
	if b, _ := os.ReadFile(outside); string(b) != "mine" {
		t.Errorf("the other name holds %q; want mine", b)
	}
}

// renameShape is a list of changes that renames directories.
type renameShape struct {
	name    string
	changes []Change
}

// renameShapes returns a tree, such lists of changes of it, and the contents of what they add.
func renameShapes() (from, contents tree, shapes []renameShape) {
	from = tree{
		"d": {Dir, 0o755, ""}, "d/e": {Dir, 0o555, ""}, "d/e/x": {File, 0o644, "x"}, "d/y": {File, 0o755, "y"},
		"f": {File, 0o644, "f"}, "locked": {Dir, 0o555, ""}, "locked/in": {Dir, 0o755, ""}, "locked/in/z": {File, 0o644, "z"},
		"void": {Dir, 0o755, ""},
	}
	gone := Change{Kind: Whiteout}
	dir := Change{Kind: Dir, Mode: 0o755, Opaque: true}
	shapes = []renameShape{
		{"beside", []Change{at("d", gone), redirect("new", "d")}},
		{"with changes inside", []Change{at("d", gone), redirect("new", "d"), at("new/y", gone), at("new/n", file("n", 0o644))}},
		{"into a new one", []Change{at("d", gone), at("n", dir), redirect("n/d", "/d"), at("n/d/n", file("n", 0o644))}},
		{"into one in a file's place", []Change{at("d", gone), at("f", dir), redirect("f/d", "/d"), at("f/n", file("n", 0o644))}},
		{"a new one of the old name", []Change{at("d", dir), redirect("new", "d"), at("d/n", file("n", 0o644))}},
		{"into a new one of the old name", []Change{at("d", dir), redirect("d/in", "/d"), at("d/in/y", file("n", 0o644))}},
		{"out of a renamed one", []Change{at("d", gone), redirect("a", "d"), at("a/e", gone), redirect("b", "/d/e"), at("b/x", file("n", 0o600))}},
		{"an empty one, and a new one of its name", []Change{at("void", dir), redirect("new", "void")}},
		{"its mode", []Change{at("d", gone), {Path: "new", Kind: Dir, Mode: 0o700, Redirect: "d"}}},
		{"out of a locked one", []Change{{Path: "locked", Kind: Dir, Mode: 0o555}, at("locked/in", gone), redirect("in", "/locked/in"), at("in/z", gone)}},
	}
	n := node{File, 0o644, "n"}
	return from, tree{"new/n": n, "n/d/n": n, "f/n": n, "d/n": n, "d/in/y": n, "b/x": {File, 0o600, "n"}}, shapes
}

// Renames of directories are taken back, also out of new ones and where a new directory has
// the old name.
func TestUndoRenames(t *testing.T) {
	from, renamed, tests := renameShapes()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := undoSession(t, from)
			aged(t, s.dir)
			s.repack(t)
			want := exactTree(t, s.dir)
			s.take(t, renamed, tt.changes)
			if res := s.apply(t); len(res.Conflicts) > 0 || res.Applied == 0 {
				t.Fatalf("Apply = %v; want no conflict", res)
			}
			if res := s.undo(t); len(res.Conflicts) > 0 {
				t.Errorf("conflicts: %v", res.Conflicts)
			}
			sameTree(t, "taken back", exactTree(t, s.dir), want)
		})
	}
}

// Only what an Apply has changed itself is taken back.
func TestUndoNotApplied(t *testing.T) {
	from := tree{"a": {File, 0o644, "old"}, "b": {File, 0o644, "old"}, "c": {File, 0o644, "old"}}
	to := tree{"a": {File, 0o644, "new"}, "b": {File, 0o644, "new"}, "c": {File, 0o644, "new"}, "n": {File, 0o644, "new"}}
	s := undoSession(t, from)
	s.take(t, to, changes(rand.New(rand.NewPCG(1, 1)), from, to))
	write(t, s.dir+"/b", "new", 0o644) // the same by the user
	write(t, s.dir+"/n", "new", 0o644)
	write(t, s.dir+"/c", "mine", 0o644)
	if res := s.apply(t); len(res.Conflicts) != 1 {
		t.Errorf("conflicts: %v; want that of c", res.Conflicts)
	}
	if res := s.undo(t); len(res.Conflicts) != 0 || res.Applied != 1 {
		t.Errorf("Undo = %v; want one change and no conflict", res)
	}
	compare(t, "taken back", readTree(t, s.dir), tree{"a": from["a"], "b": to["b"], "c": {File, 0o644, "mine"}, "n": to["n"]})
	// An Apply that changes nothing leaves the record of the last one.
	s.apply(t)
	recs, _ := UndoRecords(s.app.Undo.Store)
	s.apply(t)
	if again, _ := UndoRecords(s.app.Undo.Store); len(recs) != 1 || !slices.Equal(recs, again) {
		t.Errorf("records %v, then %v; want the same one", recs, again)
	}
}

// The store keeps the last Apply of each workspace, and gc what is not too old.
func TestUndoStore(t *testing.T) {
	store := filepath.Join(t.TempDir(), "undo")
	apply := func(s *session, from, to tree) {
		t.Helper()
		s.app.Undo = &UndoOptions{Store: store, Name: "m"}
		s.repack(t)
		s.take(t, to, changes(rand.New(rand.NewPCG(1, 1)), from, to))
		s.apply(t)
	}
	one, two, three := tree{"a": {File, 0o644, "1"}}, tree{"a": {File, 0o644, "2"}}, tree{"a": {File, 0o644, "3"}}
	s, other := newSession(t, one), newSession(t, one)
	apply(other, one, two)
	apply(s, one, two)
	apply(s, two, three)
	recs, err := UndoRecords(store)
	if err != nil || len(recs) != 2 || recs[0].Root != s.dir || recs[1].Root != other.dir || recs[0].Name != "m" || recs[0].Changes != 1 || !recs[0].Ended {
		t.Fatalf("UndoRecords = %+v, %v; want that of %s, then that of %s", recs, err, s.dir, other.dir)
	}
	if err := os.MkdirAll(store+"/.new-x", 0o700); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * time.Hour)
	os.Chtimes(store+"/.new-x", old, old)
	if gone, err := CollectUndos(store, time.Now().Add(-time.Minute)); err != nil || len(gone) != 0 {
		t.Errorf("CollectUndos = %v, %v; want nothing", gone, err)
	}
	if err := ForgetUndo(store, other.dir); err != nil {
		t.Errorf("ForgetUndo: %v", err)
	}
	if gone, err := CollectUndos(store, time.Now()); err != nil || len(gone) != 1 || gone[0].Root != s.dir {
		t.Errorf("CollectUndos = %v, %v; want the record of %s", gone, err, s.dir)
	}
	noUndo(t, store)
	compare(t, "workspace", readTree(t, s.dir), three)
}

// What an apply would have to keep is known before.
func TestUndoSize(t *testing.T) {
	edits := []Edit{
		{Op: Modify, OldKind: File, NewKind: File, OldSize: 100},
		{Op: Delete, OldKind: File, OldSize: 20},
		{Op: Modify, OldKind: File, NewKind: File, OldSize: 3, ModeOnly: true, Parts: 1},
		{Op: Modify, OldKind: File, NewKind: File, OldSize: 1000, ModeOnly: true},
		{Op: Add, NewKind: File, NewSize: 1000},
		{Op: Delete, OldKind: File, OldSize: 1000, Skipped: "skipped"},
		{Op: Rename, OldKind: Dir, NewKind: Dir},
	}
	if got := UndoSize(Pointers(edits)); got != 123 {
		t.Errorf("UndoSize = %d; want 123", got)
	}
}

func FuzzUndoLog(f *testing.F) {
	f.Add(`{"head":{"version":1,"name":"m","root":"L3dz","journal":"L2o=","time":"2026-01-01T00:00:00Z"}}
{"edit":{"n":0,"op":"A","path":"YQ==","old":{"kind":0},"new":{"kind":1}}}
{"begin":true}
{"move":{"from":"YQ==","to":"Yg==","dev":1,"ino":2}}
{"end":true}
`)
	f.Add("{\"head\":null}\n")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseUndoLog(strings.NewReader(s))
		if err != nil {
			return
		}
		if !filepath.IsAbs(string(r.head.Root)) {
			t.Errorf("root %q is accepted", r.head.Root)
		}
		for _, e := range r.edits {
			if !filepath.IsLocal(string(e.Path)) {
				t.Errorf("path %q is accepted", e.Path)
			}
		}
		for _, m := range r.moves {
			if !filepath.IsLocal(string(m.From)) || !filepath.IsLocal(string(m.To)) {
				t.Errorf("move %v is accepted", m)
			}
		}
	})
}
