package workspace

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/test/crash"
	"github.com/mayfly-vm/mayfly/internal/test/env"
)

// crashVariable holds the directory with the files of an Apply that is to be killed, and
// crashUndoVariable has it taken back instead.
const (
	crashVariable     = "MAYFLY_WORKSPACE_CRASH"
	crashUndoVariable = "MAYFLY_WORKSPACE_CRASH_UNDO"
)

// TestCrashChild is the process that TestCrashes kills.
func TestCrashChild(t *testing.T) {
	if !crash.Child() {
		t.Skip("run by TestCrashes only")
	}
	s := loadSession(t, os.Getenv(crashVariable))
	crash.Arm(t)
	if os.Getenv(crashUndoVariable) != "" {
		s.undo(t)
	} else {
		s.apply(t)
	}
}

// crashTrees returns a tree, changes of all kinds, and what they make of it. In moved only
// the renames of directories are made.
func crashTrees() (from, moved, to tree, changes []Change) {
	file := func(text string) node { return node{File, 0o644, strings.Repeat(text, 500)} }
	dir := node{Dir, 0o755, ""}
	from = tree{
		"edited": file("old"), "gone": file("old"), "mode": file("old"), "names": file("old"), "link": {Symlink, 0o777, "edited"},
		"kind": file("old"), "full": dir, "full/a": file("a"), "full/b": file("b"),
		"d": dir, "d/x": file("x"), "d/y": file("y"), "kept": {File, 0o600, "kept"},
	}
	to = maps.Clone(from)
	to.remove("gone")
	to.remove("d")
	to.remove("full")
	maps.Copy(to, tree{
		"edited": file("new"), "mode": {File, 0o755, from["mode"].data}, "names": file("new"), "link": {Symlink, 0o777, "kind"},
		"kind": dir, "kind/in": file("new"), "full": file("new"), "added": dir, "added/deep": dir, "added/deep/n": {File, 0o755, "n"},
		"renamed": dir, "renamed/x": file("new"), "renamed/y": from["d/y"],
	})
	moved = maps.Clone(from)
	moved.remove("d")
	maps.Copy(moved, tree{"renamed": dir, "renamed/x": from["d/x"], "renamed/y": from["d/y"]})
	for _, p := range []string{"edited", "mode", "names", "link", "kind", "kind/in", "full", "added", "added/deep", "added/deep/n", "renamed/x"} {
		changes = append(changes, to[p].change(p))
	}
	return from, moved, to, append(changes, at("gone", Change{Kind: Whiteout}), at("d", Change{Kind: Whiteout}), redirect("renamed", "d"))
}

// lockedShape has directories that their owner may not write to, and a machine that makes files
// and directories that their owner may not look into.
func lockedShape() crashShape {
	file, locked := func(text string) node { return node{File, 0o644, text} }, node{Dir, 0o555, ""}
	from := tree{
		"ro": locked, "ro/f": file("old"), "ro/sub": locked, "ro/sub/g": file("old"), "ro/moved": locked, "ro/moved/x": file("old"),
		"secret": file("old"), "mode": {Dir, 0o555, ""}, "mode/f": file("old"),
		// Directories leave these before they get another name themselves.
		"left": locked, "left/x": {Dir, 0o755, ""}, "left/in": locked, "left/in/y": {Dir, 0o755, ""},
	}
	contents := tree{
		"ro/f": file("new"), "ro/sub/n": file("new"), "secret": {File, 0, "new"}, "to/moved/x": file("new"), "own": {File, 0, "new"},
		"shut/in/f": {File, 0, "new"}, "mode/f": file("new"),
	}
	changes := []Change{at("ro/sub/g", Change{Kind: Whiteout}), at("ro/moved", Change{Kind: Whiteout}), redirect("to/moved", "/ro/moved")}
	changes = append(changes, at("left", Change{Kind: Whiteout}), redirect("to/x", "/left/x"), redirect("to/y", "/left/in/y"),
		Change{Path: "zz", Kind: Dir, Mode: 0o555, Redirect: "left"}, at("zz/x", Change{Kind: Whiteout}), at("zz/in/y", Change{Kind: Whiteout}))
	for _, dir := range []struct {
		path string
		mode uint32
	}{{"ro", 0o555}, {"ro/sub", 0o555}, {"to", 0o500}, {"shut", 0}, {"shut/in", 0}, {"mode", 0o700}, {"zz/in", 0o555}} {
		changes = append(changes, Change{Path: dir.path, Kind: Dir, Mode: dir.mode})
	}
	for p, n := range contents {
		changes = append(changes, n.change(p))
	}
	slices.SortFunc(changes, func(x, y Change) int { return comparePaths(x.Path, y.Path) })
	return crashShape{"locked", from, contents, changes, nil}
}

// A normal user, too, has none of it left open, and all taken back.
func TestCrashesAsUser(t *testing.T) { asUser(t, "^TestCrashes$/^locked", 2) }

// An Apply that was finished can be taken back also after it was repeated, and so found
// nothing to do.
func TestRepeated(t *testing.T) {
	from, _, to, changes := crashTrees()
	for _, c := range []crashShape{{"all kinds", from, to, changes, nil}, lockedShape()} {
		t.Run(c.name, func(t *testing.T) {
			_, s := c.session(t)
			want := exactTree(t, s.dir)
			for range 2 {
				if res := s.apply(t); len(res.Conflicts) > 0 {
					t.Errorf("conflicts: %v", res.Conflicts)
				}
			}
			s.undo(t)
			got := exactTree(t, s.dir)
			withoutDirTimes(want)
			withoutDirTimes(got)
			sameTree(t, "taken back", got, want)
		})
	}
}

func TestRepeatedAsUser(t *testing.T) { asUser(t, "^TestRepeated$/^locked", 1) }

// asUser has so many sub-tests run as a user who is not root.
func asUser(t *testing.T, pattern string, tests int) {
	t.Helper()
	env.NeedRoot(t)
	dir := t.TempDir()
	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	own := dir + "/tests"
	temp := dir + "/temp"
	const nobody = 65534
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.WriteFile(own, binary, 0o755), os.Mkdir(temp, 0o700), os.Chown(temp, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(own, "-test.run="+pattern, "-test.v")
	c.Dir = temp
	c.Env = append(os.Environ(), "HOME="+temp, "TMPDIR="+temp, env.VMVariable+"=")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := c.CombinedOutput()
	if err != nil || strings.Count(string(out), "    --- PASS: Test") != tests {
		t.Errorf("%v\n%s", err, out)
	}
}

// crashShape is what a TestCrashes applies.
type crashShape struct {
	name     string
	from     tree
	contents tree // of what the changes add
	changes  []Change
	partly   tree // what is there when only the renames are made; nil is not known
}

// session makes a workspace in home, and neighbours that nothing may touch.
func (c *crashShape) session(t *testing.T) (home string, s *session) {
	t.Helper()
	home = t.TempDir()
	for _, dir := range []string{"/ws", "/beside"} {
		if err := os.Mkdir(home+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c.from.build(t, home+"/ws")
	write(t, home+"/beside/file", "mine", 0o644)
	if _, ok := c.from["names"]; ok {
		if err := os.Link(home+"/ws/names", home+"/beside/names"); err != nil {
			t.Fatal(err)
		}
	}
	aged(t, home+"/ws")
	out, err := os.Create(home + "/image")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	m, err := Pack(t.Context(), home+"/ws", out, PackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	im, err := m.OpenImage(out)
	if err != nil {
		t.Fatal(err)
	}
	edits, err := diffAll(t.Context(), m, im, sequence(c.changes))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Stage(t.Context(), home+"/staging", Pointers(edits), c.contents.fetch, StageOptions{}); err != nil {
		t.Fatal(err)
	}
	s = &session{app: Application{Manifest: m}, edits: edits}
	s.save(t, home)
	return home, loadSession(t, home)
}

// TestCrashes kills an Apply before each of its calls that change a file, and an Undo before
// each of its own. Each path is old or new, what is not old has a record, and then all can be
// taken back exactly: at once, or after the Apply was repeated. What lies beside the workspace
// stays, and nothing is left behind.
func TestCrashes(t *testing.T) {
	from, moved, to, changes := crashTrees()
	shapes := []crashShape{{"all kinds", from, to, changes, moved}, lockedShape()}
	from, contents, renames := renameShapes()
	for _, r := range renames {
		shapes = append(shapes, crashShape{r.name, from, contents, r.changes, nil})
	}
	for _, c := range shapes {
		for _, undo := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/undo=%v", c.name, undo), func(t *testing.T) {
				c.crash(t, undo)
			})
		}
	}
}

func (c *crashShape) crash(t *testing.T, undo bool) {
	step := 1
	if os.Getenv(env.VMVariable) == "" { // each takes a start of the test binary
		step = 5
	}
	_, s := c.session(t)
	if res := s.apply(t); len(res.Conflicts) > 0 {
		t.Fatalf("conflicts: %v", res.Conflicts)
	}
	to := readTree(t, s.dir)
	for p, want := range merged(c.from, c.changes) {
		if want.kind == Dir && to[p].mode != want.mode {
			t.Errorf("applied: %s has the mode %o; want %o", p, to[p].mode, want.mode)
		}
	}
	n := 1
	for killed := true; killed && !t.Failed(); n += step {
		home, s := c.session(t)
		want, beside := exactTree(t, home+"/ws"), exactTree(t, home+"/beside")
		before := modesOfDirs(t, s.dir)
		vars := []string{crashVariable + "=" + home}
		if undo {
			s.apply(t)
			vars = append(vars, crashUndoVariable+"=1")
		}
		killed = crash.Run(t, crash.Command("TestCrashChild", n, vars...))
		for p, g := range readTree(t, s.dir) {
			if c.partly != nil && g != c.from[p] && g != c.partly[p] && g != to[p] && !strings.HasPrefix(filepath.Base(p), tempPrefix) {
				t.Errorf("%s = %v; want %v or %v", p, g, c.from[p], to[p])
			}
		}
		recs, err := UndoRecords(s.app.Undo.Store)
		if err != nil || len(recs) == 0 && fmt.Sprint(map[string]node(readTree(t, s.dir))) != fmt.Sprint(map[string]node(c.from)) {
			t.Errorf("records: %v, %v; want one, since the tree is not the old one", recs, err)
		}
		if !undo && killed && n/step%2 == 0 { // again, as a user may who does not know
			if res := s.apply(t); len(res.Conflicts) > 0 {
				t.Errorf("conflicts of the second: %v", res.Conflicts)
			}
			compare(t, "applied after the kill", readTree(t, s.dir), to)
		}
		if !undo && n/step%4 == 1 { // a clean-up alone leaves no directory open
			if err := CleanJournal(s.app.Journal); err != nil {
				t.Error(err)
			}
			for id, now := range modesOfDirs(t, s.dir) {
				if was, ok := before[id]; ok && now.mode != was.mode && now.mode != to[now.path].mode {
					t.Errorf("after a clean-up %s, which was %s, has the mode %o; want %o", now.path, was.path, now.mode, was.mode)
				}
			}
		}
		if res := s.undo(t); len(res.Conflicts) > 0 {
			t.Errorf("conflicts of the undo: %v", res.Conflicts)
		}
		if err := CleanJournal(s.app.Journal); err != nil {
			t.Error(err)
		}
		got := exactTree(t, s.dir)
		withoutDirTimes(want)
		withoutDirTimes(got)
		sameTree(t, "taken back", got, want)
		sameTree(t, "beside", exactTree(t, home+"/beside"), beside)
		noUndo(t, s.app.Undo.Store)
		if t.Failed() {
			t.Logf("killed before call %d", n)
		}
	}
	t.Logf("%d calls", n-step)
	if n < 15 {
		t.Errorf("%d calls change files; want more", n)
	}
}

// dirMode is where a directory is, and its permissions.
type dirMode struct {
	path string
	mode uint32
}

// dirID tells a directory from one that was made later and has got the number of one that is
// gone.
type dirID struct {
	ino  uint64
	born unix.StatxTimestamp
}

// modesOfDirs returns those of the directories in dir.
func modesOfDirs(t *testing.T, dir string) map[dirID]dirMode {
	t.Helper()
	modes := make(map[dirID]dirMode)
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrPermission) {
			return nil // it was met before it was read
		}
		if err != nil || !d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		var st unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, p, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st); err != nil {
			return err
		}
		modes[dirID{st.Ino, st.Btime}] = dirMode{rel, uint32(st.Mode) & 0o777}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return modes
}

// withoutDirTimes takes out when directories were changed last: one in which a killed Apply
// or Undo has worked keeps its new time.
func withoutDirTimes(tree map[string]string) {
	for p, s := range tree {
		if parts := strings.SplitN(s, " ", 5); parts[0] == Dir.String() {
			parts[3] = ""
			tree[p] = strings.Join(parts, " ")
		}
	}
}
