package workspace

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// host changes a workspace after it was packed.
type host func(t *testing.T, dir string)

func hostWrites(path, content string) host {
	return func(t *testing.T, dir string) {
		full := filepath.Join(dir, path)
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestApplyConflicts(t *testing.T) {
	from := tree{
		"f":     {File, 0o644, "old"},
		"g":     {File, 0o644, "old g"},
		"l":     {Symlink, 0o777, "f"},
		"d":     {Dir, 0o755, ""},
		"d/x":   {File, 0o644, "x"},
		"d/e":   {Dir, 0o755, ""},
		"d/e/y": {File, 0o600, "y"},
	}
	with := func(changes tree) tree {
		to := maps.Clone(from)
		for p, n := range changes {
			if n.kind == None {
				to.remove(p)
			} else {
				if n.kind != Dir {
					to.remove(p)
				}
				to[p] = n
			}
		}
		return to
	}
	remove := func(path string) host {
		return func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	chmod := func(path string, mode os.FileMode) host {
		return func(t *testing.T, dir string) {
			if err := os.Chmod(filepath.Join(dir, path), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	symlink := func(target, path string) host {
		return func(t *testing.T, dir string) {
			os.RemoveAll(filepath.Join(dir, path))
			if err := os.Symlink(target, filepath.Join(dir, path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	newF := with(tree{"f": {File, 0o644, "new"}})
	tests := []struct {
		name string
		to   tree
		host host
		want map[string]conflictError
		// after is what the host has then, by path; other paths are as in to.
		after tree
	}{
		{"edited on both sides", newF, hostWrites("f", "mine"),
			map[string]conflictError{"f": conflictChanged}, tree{"f": {File, 0o644, "mine"}}},
		{"the same edit on both sides", newF, hostWrites("f", "new"), nil, nil},
		{"only touched on the host", newF, func(t *testing.T, dir string) {
			now := time.Now()
			if err := os.Chtimes(dir+"/f", now, now); err != nil {
				t.Fatal(err)
			}
		}, nil, nil},
		{"mode changed on the host", newF, chmod("f", 0o600),
			map[string]conflictError{"f": conflictChanged}, tree{"f": {File, 0o600, "old"}}},
		{"another file edited on the host", newF, hostWrites("g", "mine"), nil, tree{"g": {File, 0o644, "mine"}}},
		{"deleted on the host", newF, remove("f"),
			map[string]conflictError{"f": conflictDeleted}, tree{"f": {}}},
		{"deleted on both sides", with(tree{"f": {}}), remove("f"), nil, nil},
		{"deleted in the guest, edited on the host", with(tree{"f": {}}), hostWrites("f", "mine"),
			map[string]conflictError{"f": conflictChanged}, tree{"f": {File, 0o644, "mine"}}},
		{"added on both sides", with(tree{"n": {File, 0o644, "guest's"}}), hostWrites("n", "mine"),
			map[string]conflictError{"n": conflictAdded}, tree{"n": {File, 0o644, "mine"}}},
		{"added alike", with(tree{"n": {File, 0o644, "mine"}}), hostWrites("n", "mine"), nil, nil},
		{"link changed on the host", with(tree{"l": {Symlink, 0o777, "g"}}), symlink("d", "l"),
			map[string]conflictError{"l": conflictChanged}, tree{"l": {Symlink, 0o777, "d"}}},
		{"file became a link on the host", newF, symlink("/etc/passwd", "f"),
			map[string]conflictError{"f": conflictChanged}, tree{"f": {Symlink, 0o777, "/etc/passwd"}}},
		{"directory deleted, host made a file in it", with(tree{"d": {}}), hostWrites("d/e/mine", "mine"),
			map[string]conflictError{"d": conflictNotEmpty, "d/e": conflictNotEmpty},
			tree{"d": {Dir, 0o755, ""}, "d/e": {Dir, 0o755, ""}, "d/e/mine": {File, 0o644, "mine"}}},
		{"directory became a file, host made a file in it", with(tree{"d": {File, 0o644, "now a file"}}), hostWrites("d/mine", "mine"),
			map[string]conflictError{"d": conflictNotEmpty},
			tree{"d": {Dir, 0o755, ""}, "d/mine": {File, 0o644, "mine"}}},
		{"edited below what became a link on the host", with(tree{"d/e/y": {File, 0o600, "new"}}), symlink("..", "d/e"),
			map[string]conflictError{"d/e/y": conflictSymlink},
			tree{"d/e": {Symlink, 0o777, ".."}, "d/e/y": {}}},
		{"edited below what was deleted on the host", with(tree{"d/e/z": {File, 0o600, "new"}}), remove("d/e"),
			map[string]conflictError{"d/e/z": conflictParent},
			tree{"d/e": {}, "d/e/y": {}, "d/e/z": {}}},
		{"directory's mode on both sides", with(tree{"d": {Dir, 0o700, ""}}), chmod("d", 0o750),
			map[string]conflictError{"d": conflictChanged}, tree{"d": {Dir, 0o750, ""}}},
		{"mode in the guest, content on the host", with(tree{"f": {File, 0o755, "old"}}), hostWrites("f", "mine"),
			map[string]conflictError{"f": conflictChanged}, tree{"f": {File, 0o644, "mine"}}},
	}
	for _, tt := range tests {
		for _, plain := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/plain=%v", tt.name, plain), func(t *testing.T) {
				s := newSession(t, from)
				s.take(t, tt.to, changes(rand.New(rand.NewPCG(1, 1)), from, tt.to))
				tt.host(t, s.dir)
				res := s.applyPlain(t, plain)
				got := make(map[string]string)
				for _, c := range res.Conflicts {
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
				want := maps.Clone(tt.to)
				for p, n := range tt.after {
					if n.kind == None {
						want.remove(p)
						continue
					}
					want[p] = n
				}
				compare(t, "host", readTree(t, s.dir), want)
			})
		}
	}
}

// applyPlain is apply, if plain is set as on a file system without renames
// that exchange.
func (s *session) applyPlain(t testing.TB, plain bool) Result {
	t.Helper()
	a := newApplier(s.application())
	a.plainRename = plain
	if err := a.run(t.Context()); err != nil {
		t.Fatalf("apply: %v", err)
	}
	return a.result
}

// TestApplyRacyTimes has the host change a file so soon after packing that its
// times do not tell.
func TestApplyRacyTimes(t *testing.T) {
	from := tree{"f": {File, 0o644, "old"}}
	to := tree{"f": {File, 0o644, "new"}}
	s := newSession(t, from)
	s.take(t, to, []Change{to["f"].change("f")})
	write(t, s.dir+"/f", "mi!", 0o644)
	var st unix.Stat_t
	if err := unix.Lstat(s.dir+"/f", &st); err != nil {
		t.Fatal(err)
	}
	s.app.Manifest.Entries[0].ID = identity(&st)
	if res := s.apply(t); len(res.Conflicts) != 1 {
		t.Errorf("conflicts = %v; want one", res.Conflicts)
	}
	compare(t, "host", readTree(t, s.dir), tree{"f": {File, 0o644, "mi!"}})
}

// TestApplyHostWritesMeanwhile replaces a file on the host, as editors do, at
// any moment of an Apply that wants to change it. The last content that the
// host wrote must be the one that stays.
func TestApplyHostWritesMeanwhile(t *testing.T) {
	from := tree{"f": {File, 0o644, "old"}}
	for _, to := range []tree{
		{"f": {File, 0o644, "new"}},
		{},
		{"f": {Dir, 0o755, ""}},
		{"f": {Symlink, 0o777, "elsewhere"}},
	} {
		s := newSession(t, from)
		s.take(t, to, changes(rand.New(rand.NewPCG(1, 1)), from, to))
		for i := range 40 {
			os.RemoveAll(s.dir + "/f")
			write(t, s.dir+"/f", "old", 0o644)
			write(t, filepath.Dir(s.dir)+"/mine", "mine", 0o644)
			start := make(chan struct{})
			done := make(chan error)
			go func() {
				<-start
				time.Sleep(time.Duration(i) * 25 * time.Microsecond)
				done <- os.Rename(filepath.Dir(s.dir)+"/mine", s.dir+"/f")
			}()
			close(start)
			res, err := Apply(t.Context(), s.application())
			hostErr := <-done // fails where f is a directory by then
			if err != nil {
				t.Fatal(err)
			}
			got := readTree(t, s.dir)
			want := tree{"f": {File, 0o644, "mine"}}
			if hostErr != nil {
				want = to
			}
			compare(t, fmt.Sprintf("round %d, conflicts %v", i, res.Conflicts), got, want)
			if t.Failed() {
				return
			}
		}
	}
}

// TestApplyParentBecomesSymlink lets the directory that is worked in be
// replaced by a symbolic link to one outside, again and again.
func TestApplyParentBecomesSymlink(t *testing.T) {
	from := tree{"d": {Dir, 0o755, ""}}
	to := maps.Clone(from)
	for i := range 100 {
		name := fmt.Sprintf("f%02d", i)
		from["d/"+name] = node{File, 0o644, "old"}
		switch i % 3 {
		case 0:
			to["d/"+name] = node{File, 0o644, "new"}
		case 1:
			to["d/"+name] = node{File, 0o600, "old"}
		}
		to["d/added"+name] = node{File, 0o644, "new"}
	}
	s := newSession(t, from)
	s.take(t, to, changes(rand.New(rand.NewPCG(1, 1)), from, to))
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	target := make(tree)
	for i := range 100 {
		target[fmt.Sprintf("f%02d", i)] = node{File, 0o644, "old"}
	}
	target.build(t, outside)
	trap := filepath.Join(filepath.Dir(s.dir), "trap")
	if err := os.Symlink(outside, trap); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, trap, unix.AT_FDCWD, s.dir+"/d", unix.RENAME_EXCHANGE)
			}
		}
	}()
	res, err := Apply(t.Context(), s.application())
	close(stop)
	<-done
	if err != nil {
		t.Errorf("Apply: %v", err)
	}
	t.Logf("%d applied, %d conflicts", res.Applied, len(res.Conflicts))
	compare(t, "outside", readTree(t, outside), target)
}

// TestApplyHardLink changes the mode of a file that has another name outside.
func TestApplyHardLink(t *testing.T) {
	from := tree{"f": {File, 0o600, "mine"}}
	to := tree{"f": {File, 0o777, "mine"}}
	s := newSession(t, tree{})
	outside := filepath.Join(filepath.Dir(s.dir), "outside")
	write(t, outside, "mine", 0o600)
	if err := os.Link(outside, s.dir+"/f"); err != nil {
		t.Fatal(err)
	}
	s.app.Manifest, _ = pack(t, s.dir, PackOptions{})
	_, im := pack(t, s.dir, PackOptions{})
	s.app.Base = im
	s.take(t, to, changes(rand.New(rand.NewPCG(1, 1)), from, to))
	if res := s.apply(t); len(res.Conflicts) > 0 {
		t.Errorf("conflicts: %v", res.Conflicts)
	}
	compare(t, "host", readTree(t, s.dir), to)
	if fi, err := os.Stat(outside); err != nil || fi.Mode() != 0o600 {
		t.Errorf("the other name has mode %v (%v); want it untouched", fi.Mode(), err)
	}
}

// TestApplyModes has the guest ask for bits that it must not get.
func TestApplyModes(t *testing.T) {
	s := newSession(t, tree{"keep": {Dir, 0o755, ""}})
	if err := os.Chmod(s.dir+"/keep", 0o755|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	s.app.Manifest, _ = pack(t, s.dir, PackOptions{})
	to := tree{"f": {File, 0o6755, "x"}, "d": {Dir, 0o7777, ""}, "keep": {Dir, 0o1700, ""}}
	s.take(t, to, []Change{to["f"].change("f"), to["d"].change("d"), to["keep"].change("keep")})
	s.apply(t)
	compare(t, "host", readTree(t, s.dir), tree{
		"f": {File, 0o755, "x"}, "d": {Dir, 0o777, ""}, "keep": {Dir, 0o2700, ""},
	})
}

func TestModTime(t *testing.T) {
	const clock = 1000
	old := hostFile{kind: File, id: Identity{MTime: 500}}
	tests := []struct {
		mtime int64
		now   hostFile
		want  int64
	}{
		{700, old, 700},
		{700, hostFile{}, 700},
		{300, hostFile{}, 300},
		{2000, hostFile{}, clock}, // in the future
		{500, old, clock},         // would hide the change
		{300, old, clock},
		{-5, hostFile{}, clock},
	}
	for _, tt := range tests {
		if got := modTime(&Edit{MTime: tt.mtime}, tt.now, clock); got != tt.want {
			t.Errorf("modTime(%d over %d) = %d; want %d", tt.mtime, tt.now.id.MTime, got, tt.want)
		}
	}
}
