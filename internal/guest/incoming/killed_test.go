package incoming

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/test/crash"
)

// killedVariable holds the directory in which a process takes items that is killed.
const killedVariable = "MAYFLY_INCOMING_KILLED"

// TestTakeKilledChild is that process. The host is at its descriptor 3.
func TestTakeKilledChild(t *testing.T) {
	if !crash.Child() {
		t.Skip("run by TestTakeKilled only")
	}
	stream, err := net.FileConn(os.NewFile(3, "host"))
	if err != nil {
		t.Fatal(err)
	}
	crash.Arm(t)
	if err := Take(stream, &wire.Sync{Dir: os.Getenv(killedVariable)}); err != nil {
		t.Fatal(err)
	}
}

// sent is what the host of TestTakeKilled sends: all kinds of changes.
type sent struct {
	item wire.SyncItem
	text string
}

func killedItems() []sent {
	dir := wire.SyncState{Kind: wire.KindDir, Mode: 0o755}
	link := func(to string) wire.SyncState { return wire.SyncState{Kind: wire.KindSymlink, Target: []byte(to)} }
	old := file("old", 0o644)
	long := strings.Repeat("new", 500)
	var all []sent
	add := func(path string, old, to wire.SyncState, text string) {
		all = append(all, sent{wire.SyncItem{Path: []byte(path), Old: []wire.SyncState{old}, New: to}, text})
	}
	add("gone", old, wire.SyncState{}, "")
	add("full/x", old, wire.SyncState{}, "")
	add("full", dir, file(long, 0o644), long)
	add("empty", dir, wire.SyncState{}, "")
	add("edited", old, file(long, 0o755), long)
	add("mode", old, file("old", 0o600), "old")
	add("link", link("a"), link("b"), "")
	add("tolink", old, link("edited"), "")
	add("todir", old, dir, "")
	add("todir/in", wire.SyncState{}, file(long, 0o644), long)
	add("linkdir", link("a"), dir, "")
	add("new", wire.SyncState{}, wire.SyncState{Kind: wire.KindDir, Mode: 0o775}, "")
	add("new/in", wire.SyncState{}, file("new", 0o644), "new")
	add("dirmode", dir, wire.SyncState{Kind: wire.KindDir, Mode: 0o700}, "")
	return all
}

// killedTree makes what is there before.
func killedTree(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, d := range []string{"full", "empty", "dirmode"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"gone", "full/x", "edited", "mode", "tolink", "todir", "agents"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range []string{"link", "linkdir"} {
		if err := os.Symlink("a", filepath.Join(dir, l)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tree returns what is in a directory, but for that in which new files are made.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel := strings.TrimPrefix(path, dir+"/")
		fi, err := d.Info()
		if err != nil {
			return err
		}
		if wire.IsSyncScratch(rel) {
			return fs.SkipDir
		}
		text := ""
		switch {
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text = string(data)
		case d.Type() == fs.ModeSymlink:
			if text, err = os.Readlink(path); err != nil {
				return err
			}
		}
		all[rel] = fmt.Sprintf("%v %.100q", fi.Mode(), text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// sendAll sends items and reads answers, until the end or until the guest is gone.
func sendAll(stream net.Conn, items []sent) (answers []wire.SyncAnswer) {
	go func() {
		frames := wire.NewFrameWriter(stream)
		for _, it := range items {
			wire.WriteMessage(stream, it.item)
			if it.item.New.Kind == wire.KindFile {
				for part := range slices.Chunk([]byte(it.text), 600) {
					frames.Write(wire.FrameStdin, part)
				}
				frames.Write(wire.FrameStdinEOF, nil)
			}
		}
		wire.WriteMessage(stream, wire.SyncItem{End: true})
	}()
	for {
		var a wire.SyncAnswer
		if wire.ReadMessage(stream, &a) != nil {
			return answers
		}
		answers = append(answers, a)
	}
}

// TestTakeKilled kills who takes items before each of its calls that change something. Each
// path is old or new as a whole. The same items bring the rest, none of them is a conflict,
// and nothing is left beside them.
func TestTakeKilled(t *testing.T) {
	items := killedItems()
	before := tree(t, killedTree(t))
	var after map[string]string
	n := 1
	for killed := true; killed && !t.Failed(); n++ {
		dir := killedTree(t)
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		theirs := os.NewFile(uintptr(fds[1]), "guest")
		ours, err := net.FileConn(os.NewFile(uintptr(fds[0]), "host"))
		if err != nil {
			t.Fatal(err)
		}
		cmd := crash.Command("TestTakeKilledChild", n, killedVariable+"="+dir)
		cmd.ExtraFiles = []*os.File{theirs}
		done := make(chan []wire.SyncAnswer)
		go func() { done <- sendAll(ours, items) }()
		killed = crash.Run(t, cmd)
		theirs.Close()
		answers := <-done
		ours.Close()
		got := tree(t, dir)
		if after == nil { // what they make, told by one that comes to its end
			whole := killedTree(t)
			takeAgain(t, whole, items)
			after = tree(t, whole)
		}
		for path := range merged(before, after, got) {
			if got[path] != before[path] && got[path] != after[path] {
				t.Errorf("%s is %s; want %s or %s", path, got[path], before[path], after[path])
			}
		}
		for i, a := range answers {
			if i < len(items) && a.Result != wire.SyncDone {
				t.Errorf("%s: %+v", items[i].item.Path, a)
			}
		}
		takeAgain(t, dir, items)
		got = tree(t, dir)
		for path := range merged(after, got) {
			if got[path] != after[path] {
				t.Errorf("%s is %s in the end; want %s", path, got[path], after[path])
			}
		}
		if left, _ := filepath.Glob(filepath.Join(dir, wire.SyncScratch+"*")); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
		if t.Failed() {
			t.Logf("killed before call %d", n)
		}
	}
	t.Logf("%d calls", n-1)
	if n < 40 {
		t.Errorf("%d calls change something; want more", n-1)
	}
}

func merged(all ...map[string]string) map[string]bool {
	out := make(map[string]bool)
	for _, m := range all {
		for path := range m {
			out[path] = true
		}
	}
	return out
}

// takeAgain has items taken to their end.
func takeAgain(t *testing.T, dir string, items []sent) {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		Take(theirs, &wire.Sync{Dir: dir})
		theirs.Close()
	}()
	answers := sendAll(ours, items)
	if len(answers) != len(items)+1 {
		t.Fatalf("%d answers; want %d", len(answers), len(items)+1)
	}
	for i, a := range answers[:len(items)] {
		if a.Result != wire.SyncDone && a.Result != wire.SyncSame {
			t.Errorf("%s: %+v", items[i].item.Path, a)
		}
	}
}

// What is being made for a conversation that goes on is not swept away, and what the guest's
// own programs have by a similar name stays.
func TestSweep(t *testing.T) {
	h := newHost(t)
	if err := os.MkdirAll(filepath.Join(h.dir, ".mayfly-sync-mine"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.dir, ".mayfly-sync-ABCDEFGHIJKL"), nil, 0o644); err != nil { // no directory
		t.Fatal(err)
	}
	if err := wire.WriteMessage(h.stream, wire.SyncItem{Path: []byte("a"), Old: []wire.SyncState{{}}, New: file("1", 0o644)}); err != nil {
		t.Fatal(err)
	}
	if err := h.frames.Write(wire.FrameStdin, []byte("1")); err != nil { // it is being made by now
		t.Fatal(err)
	}
	root, err := unix.Open(h.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	sweep(root)
	if err := h.frames.Write(wire.FrameStdinEOF, nil); err != nil {
		t.Fatal(err)
	}
	var a wire.SyncAnswer
	if err := wire.ReadMessage(h.stream, &a); err != nil || a.Result != wire.SyncDone {
		t.Errorf("answer %+v, %v", a, err)
	}
	h.stream.Close()
	<-h.ended
	left, _ := filepath.Glob(filepath.Join(h.dir, ".mayfly-sync-*"))
	if len(left) != 2 {
		t.Errorf("left: %q; want what is the guest's own", left)
	}
}
