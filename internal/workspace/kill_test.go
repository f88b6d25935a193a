package workspace

import (
	"bufio"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/confine"
	"github.com/mayfly-vm/mayfly/internal/test/env"
)

// childVariable holds the directory with the files of an Apply that is to run
// in a process of its own, so that it can be killed.
const childVariable = "MAYFLY_WORKSPACE_APPLY_CHILD"

// undoVariable has that process take the Apply back in place of carrying it out.
const undoVariable = "MAYFLY_WORKSPACE_UNDO_CHILD"

// TestApplyChild is that process. It says "ready" before it begins and "done"
// when Apply has returned.
func TestApplyChild(t *testing.T) {
	home := os.Getenv(childVariable)
	if home == "" {
		t.Skip("run by TestApplyKilled only")
	}
	s := loadSession(t, home)
	fmt.Println("ready")
	if os.Getenv(undoVariable) != "" {
		s.undo(t)
	} else if _, err := Apply(t.Context(), s.application()); err != nil {
		t.Fatal(err)
	}
	fmt.Println("done")
}

// save writes what loadSession needs to home.
func (s *session) save(t *testing.T, home string) {
	t.Helper()
	f, err := os.Create(home + "/manifest")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := s.app.Manifest.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	g, err := os.Create(home + "/edits")
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := gob.NewEncoder(g).Encode(s.edits); err != nil {
		t.Fatal(err)
	}
}

func loadSession(t *testing.T, home string) *session {
	t.Helper()
	f, err := os.Open(home + "/manifest")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := ReadManifest(f)
	if err != nil {
		t.Fatal(err)
	}
	image, err := os.Open(home + "/image")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { image.Close() })
	im, err := m.OpenImage(image)
	if err != nil {
		t.Fatal(err)
	}
	g, err := os.Open(home + "/edits")
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	s := &session{dir: home + "/ws"}
	if err := gob.NewDecoder(g).Decode(&s.edits); err != nil {
		t.Fatal(err)
	}
	s.app.Dir, s.app.Manifest, s.app.Base = s.dir, m, im
	s.app.Staging = &Staging{dir: home + "/staging"}
	s.app.Journal = home + "/journal"
	s.app.Undo = &UndoOptions{Store: home + "/undo", Name: "m"}
	return s
}

// TestApplyKilled kills an Apply at random moments. Each path must be as
// before or as after; the clean-up must remove what was left, and only that;
// and the next Apply must bring the rest.
func TestApplyKilled(t *testing.T) {
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	from, to := killTrees()
	killed, rounds := 0, 0
	const enough = 8
	for killed < enough && rounds < 5*enough {
		home := t.TempDir()
		s := newKillSession(t, home, from, to)
		for alive := false; !alive; { // until an Apply comes to its end
			rounds++
			// Sooner or later it is given all the time that it needs.
			after := time.Duration(r.IntN(3000*rounds)) * time.Microsecond
			alive = applyAndKill(t, home, after)
			checkOldOrNew(t, s.dir, from, to, true)
			if err := CleanJournal(s.app.Journal); err != nil {
				t.Fatalf("CleanJournal: %v", err)
			}
			if _, err := os.Lstat(s.app.Journal); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("journal after CleanJournal: %v; want none", err)
			}
			checkOldOrNew(t, s.dir, from, to, false)
			if t.Failed() {
				return
			}
			if !alive {
				killed++
			}
		}
		compare(t, "at the end", readTree(t, s.dir), to)
	}
	t.Logf("killed %d of %d", killed, rounds)
	if killed == 0 {
		t.Error("no Apply was killed before its end")
	}
}

// TestUndoKilled kills an Apply at random moments, and then its Undo: what the Apply has done
// so far must be taken back exactly, and an Undo that was killed must come to its end with
// the next one.
func TestUndoKilled(t *testing.T) {
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	from, to := killTrees()
	killed := [2]int{}
	const enough = 6
	for round := 1; min(killed[0], killed[1]) < enough && round < 20*enough; round++ {
		home := t.TempDir()
		reach := 6000 * (1 + round%10) // µs: computers differ in how long it takes
		s := newKillSession(t, home, from, to)
		want := exactTree(t, s.dir)
		applies := 1 + r.IntN(3) // an Apply that was killed may be repeated first
		for range applies {
			if applyAndKill(t, home, time.Duration(r.IntN(reach))*time.Microsecond) {
				break
			}
			killed[0]++
		}
		for tries := 1; !applyAndKill(t, home, time.Duration(r.IntN(reach*tries))*time.Microsecond, undoVariable+"=1"); tries++ {
			killed[1]++
		}
		// A directory that a killed Apply or Undo has worked in keeps its new time.
		for p, w := range want {
			if strings.HasPrefix(w, Dir.String()) {
				if fi, err := os.Lstat(p); err != nil || !fi.IsDir() || uint32(fi.Mode().Perm()) != 0o755 {
					t.Errorf("%s is %v, %v; want a directory of mode 755", p, fi, err)
				}
				delete(want, p)
			}
		}
		got := exactTree(t, s.dir)
		maps.DeleteFunc(got, func(_, g string) bool { return strings.HasPrefix(g, Dir.String()) })
		sameTree(t, "taken back", got, want)
		noUndo(t, s.app.Undo.Store)
		if t.Failed() {
			return
		}
	}
	t.Logf("killed: %d applies, %d undos", killed[0], killed[1])
	if min(killed[0], killed[1]) == 0 {
		t.Error("not one of each was killed before its end")
	}
}

// killTrees returns what is to be applied while it is killed.
func killTrees() (from, to tree) {
	from, to = make(tree), make(tree)
	for i := range 40 {
		dir := fmt.Sprintf("d%d", i%5)
		from[dir] = node{Dir, 0o755, ""}
		to[dir] = from[dir]
		p := fmt.Sprintf("%s/f%d", dir, i)
		from[p] = node{File, 0o644, strings.Repeat("old", 1000)}
		switch i % 4 {
		case 0: // edited
			to[p] = node{File, 0o755, strings.Repeat("new", 2000)}
		case 1: // deleted
		case 2: // another kind
			to[p] = node{Dir, 0o755, ""}
			to[p+"/in"] = node{File, 0o600, "added"}
		case 3:
			to[p] = from[p]
			to[p+"l"] = node{Symlink, 0o777, "f"}
		}
	}
	return from, to
}

func newKillSession(t *testing.T, home string, from, to tree) *session {
	t.Helper()
	if err := os.Mkdir(home+"/ws", 0o755); err != nil {
		t.Fatal(err)
	}
	from.build(t, home+"/ws")
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
	edits, err := diffAll(t.Context(), m, im, sequence(changes(rand.New(rand.NewPCG(1, 1)), from, to)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Stage(t.Context(), home+"/staging", Pointers(edits), to.fetch, StageOptions{}); err != nil {
		t.Fatal(err)
	}
	s := &session{app: Application{Manifest: m}, edits: edits}
	s.save(t, home)
	return loadSession(t, home)
}

// applyAndKill starts an Apply and kills it after a while. It reports whether
// it came to its end before.
func applyAndKill(t *testing.T, home string, after time.Duration, env ...string) bool {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestApplyChild$")
	cmd.Env = append(append(os.Environ(), childVariable+"="+home), env...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && lines.Text() != "ready" {
	}
	timer := time.AfterFunc(after, func() { cmd.Process.Kill() })
	defer timer.Stop()
	done := false
	for !done && lines.Scan() {
		done = lines.Text() == "done"
	}
	cmd.Process.Kill() // the rest of the test binary does not matter
	cmd.Wait()
	return done
}

// checkOldOrNew checks that each path is as in one of two trees. Temporary
// files are accepted where temps is set.
func checkOldOrNew(t *testing.T, dir string, from, to tree, temps bool) {
	t.Helper()
	paths := maps.Clone(from)
	maps.Copy(paths, to)
	got := readTree(t, dir)
	for p := range paths {
		g := got[p]
		if g != from[p] && g != to[p] {
			t.Errorf("%s = %v; want %v or %v", p, g, from[p], to[p])
		}
		delete(got, p)
	}
	for p := range got {
		if !temps || !strings.HasPrefix(filepath.Base(p), tempPrefix) {
			t.Errorf("%s is left over", p)
		}
	}
}

func TestCleanJournal(t *testing.T) {
	dir := t.TempDir()
	ws := dir + "/ws"
	write(t, ws+"/sub/keep", "", 0o644)
	outside := dir + "/outside"
	write(t, outside+"/x", "", 0o644)
	if err := os.Symlink(outside, ws+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := CleanJournal(dir + "/none"); err != nil {
		t.Errorf("CleanJournal of none: %v", err)
	}
	j, err := startJournal(dir+"/journal", ws, []string{".", "sub", "link", "gone"})
	if err != nil {
		t.Fatal(err)
	}
	write(t, ws+"/"+j.temp(1), "", 0o644)
	write(t, ws+"/sub/"+j.temp(2), "", 0o644)
	write(t, outside+"/"+j.temp(3), "", 0o644)
	write(t, ws+"/sub/.mayfly-other-1", "", 0o644)
	if err := os.Mkdir(ws+"/"+j.temp(4), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := CleanJournal(dir + "/journal"); !errors.Is(err, ErrBusy) {
		t.Errorf("CleanJournal while in use = %v; want ErrBusy", err)
	}
	j.f.Close() // as a kill does
	if err := CleanJournal(dir + "/journal"); err != nil {
		t.Errorf("CleanJournal: %v", err)
	}
	got := readTree(t, dir)
	for _, p := range []string{"ws/sub/keep", "ws/link", "ws/sub/.mayfly-other-1", "outside/x", "outside/" + j.temp(3)} {
		if _, ok := got[p]; !ok {
			t.Errorf("CleanJournal removed %s", p)
		}
		delete(got, p)
	}
	for p, n := range got {
		if n.kind != Dir || strings.Contains(p, tempPrefix) {
			t.Errorf("CleanJournal left %s", p)
		}
	}
}

// A supervisor of root's that was taken over may write a journal for root to clean up by. It
// is not heeded.
func TestJournalOfSupervisor(t *testing.T) {
	env.NeedRoot(t)
	dir := t.TempDir()
	ws, path := dir+"/ws", dir+"/journal"
	id := strings.Repeat("a", 16)
	other := ws + "/" + tempPrefix + id + "-1"
	write(t, other, "of another program", 0o644)
	forge := func() {
		t.Helper()
		write(t, path, journalMagic+ws+"\x00"+id+"\x00.\x00\x00", 0o600)
		if err := os.Chown(path, confine.SupervisorUser(5), -1); err != nil {
			t.Fatal(err)
		}
	}
	forge()
	if err := CleanJournal(path); err != nil {
		t.Errorf("CleanJournal() = %v; want nil", err)
	}
	if _, err := os.Lstat(other); err != nil {
		t.Errorf("what the journal named: %v; want it there", err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the journal: %v; want it gone", err)
	}
	forge()
	j, err := startJournal(path, ws, []string{"."})
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := j.f.Stat(); err != nil || fi.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("an apply writes the journal %v, %v; want one of its own", fi, err)
	}
	if err := j.end(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(other); err != nil {
		t.Errorf("what the journal named, after an apply: %v; want it there", err)
	}
}

func FuzzJournal(f *testing.F) {
	id := strings.Repeat("a", 16)
	f.Add(journalMagic + "/ws\x00" + id + "\x00sub\x00\x00")
	f.Add(journalMagic + "/ws\x00" + id + "\x00")
	f.Add(journalMagic + "/ws\x00" + id + "\x00sub\x00\x00555 755 1 2 sub\x000 400 1 3 sub/a b\x00777")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		root, _, dirs, opened, ok := parseJournal(s)
		if !ok {
			return
		}
		for _, o := range opened {
			if o.path != "." && !filepath.IsLocal(o.path) || o.was&^o.now != 0 || o.now&^0o777 != 0 {
				t.Errorf("%+v is accepted", o)
			}
		}
		if !filepath.IsAbs(root) {
			t.Errorf("root %q is accepted", root)
		}
		for _, d := range dirs {
			if d != "." && !filepath.IsLocal(d) {
				t.Errorf("directory %q is accepted", d)
			}
		}
	})
}
