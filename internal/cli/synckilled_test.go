package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/guest/incoming"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/test/crash"
	"github.com/mayfly-vm/mayfly/internal/test/env"
)

// syncKilledVariable holds the home of a user whose sync is killed.
const syncKilledVariable = "MAYFLY_CLI_SYNC_KILLED"

// TestSyncKilledChild is the process that TestSyncKilled kills.
func TestSyncKilledChild(t *testing.T) {
	if !crash.Child() {
		t.Skip("run by TestSyncKilled only")
	}
	a := userOf(t, os.Getenv(syncKilledVariable), nil)
	crash.Arm(t)
	if err := a.command("sync", "m"); err != nil {
		t.Fatal(err)
	}
}

// brokenSync is a sync that does not come to its end. User and machine have changed different
// things before.
type brokenSync struct {
	*committer
	before, after map[string]string // trees of the guest, without and with what is sent
}

func newBrokenSync(t *testing.T) *brokenSync {
	t.Helper()
	s := newSyncer(t, map[string]string{
		"edited": "1", "gone": "1", "mode": "1", "dir/a": "1", "tofile/x": "1", "todir": "1", "tolink": "1", "agent": "1", "applied": "1",
	})
	s.write(s.guest, "applied", "agent\n")
	_, err := s.mayfly("apply", "m")
	s.must(err)
	s.write(s.guest, "agent", "agent\n")
	s.write(s.guest, "agents/new", "agent\n")
	before := lines(s.tree(s.guest))
	in := func(name string) string { return filepath.Join(s.dir, name) }
	s.write(s.dir, "edited", strings.Repeat("22", 1000))
	s.write(s.dir, "applied", "user\n")
	s.write(s.dir, "new/deep/er", "new")
	s.must(os.Remove(in("gone")), os.Chmod(in("mode"), 0o750), os.RemoveAll(in("dir")))
	s.must(os.RemoveAll(in("tofile")), os.Remove(in("todir")), os.Remove(in("tolink")))
	s.write(s.dir, "tofile", "file")
	s.write(s.dir, "todir/y", "y")
	s.must(os.Symlink("../../outside", in("tolink")))
	after := lines(s.tree(s.dir))
	for path, line := range before {
		if strings.HasPrefix(path, "agent") {
			after[path] = line
		}
	}
	return &brokenSync{s, before, after}
}

func lines(tree string) map[string]string {
	out := make(map[string]string)
	for line := range strings.SplitSeq(tree, "\n") {
		path, _, _ := strings.Cut(line, " ")
		if !wire.IsSyncScratch(path) {
			out[path] = line
		}
	}
	return out
}

// check looks at what there is after it was broken off, and what becomes of it.
func (s *brokenSync) check(variant int) {
	s.t.Helper()
	for path, line := range lines(s.tree(s.guest)) {
		if line != s.before[path] && line != s.after[path] {
			s.t.Errorf("in the guest: %s; want %s or %s", line, s.before[path], s.after[path])
		}
	}
	diff := func(when string) {
		s.t.Helper()
		out, err := s.mayfly("diff", "m", "--name-only")
		s.must(err)
		if when != "in the end" { // before it is sent, it is neither what was applied nor what was packed
			out = strings.Replace(out, "applied\n", "", 1)
		}
		s.is("diff "+when, out, "agent\nagents/new\n")
	}
	switch variant % 3 {
	case 1: // the user goes on, and what was sent is not the last that there is to send
		s.write(s.dir, "edited", "333")
		s.write(s.dir, "applied", "user again\n")
		s.write(s.dir, "new/deep/er", "newer")
		s.must(os.Remove(filepath.Join(s.dir, "tofile")), os.Chmod(filepath.Join(s.dir, "mode"), 0o700), os.RemoveAll(filepath.Join(s.dir, "todir")))
		diff("after more edits")
	case 2: // takes everything back
		s.must(os.RemoveAll(filepath.Join(s.dir, "new")), os.WriteFile(filepath.Join(s.dir, "edited"), []byte("1"), 0o644))
	default:
		diff("at once")
	}
	if out, err := s.mayfly("sync", "m"); err != nil {
		s.t.Errorf("sync = %v, printed %q", err, out)
	}
	want := lines(s.tree(s.dir))
	for path, line := range s.before {
		if strings.HasPrefix(path, "agent") {
			want[path] = line
		}
	}
	got := lines(s.tree(s.guest))
	for path := range got {
		if got[path] != want[path] {
			s.t.Errorf("in the guest in the end: %s; want %s", got[path], want[path])
		}
		delete(want, path)
	}
	for _, line := range want {
		s.t.Errorf("not in the guest in the end: %s", line)
	}
	diff("in the end")
	for _, pattern := range []string{filepath.Join(s.guest, ".mayfly-*"), s.File(state.SendingFile), filepath.Join(s.File(state.SentDir), "new-*")} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			s.t.Errorf("left: %q", left)
		}
	}
}

// TestSyncKilled kills a sync before each of its calls that change something, in files or by
// a message. What the machine's programs wrote stays, what was sent is no change of theirs, and the
// next sync goes on from there.
func TestSyncKilled(t *testing.T) {
	step := 1
	if os.Getenv(env.VMVariable) == "" { // each takes a start of the test binary
		step = 7
	}
	n := 1
	for killed := true; killed && !t.Failed(); n += step {
		s := newBrokenSync(t)
		killed = crash.Run(t, crash.Command("TestSyncKilledChild", n, syncKilledVariable+"="+s.home))
		if s.check(n / step); t.Failed() {
			t.Logf("killed before call %d", n)
		}
	}
	t.Logf("%d calls", n-step)
	if n < 40 {
		t.Errorf("%d calls change something; want more", n-step)
	}
}

// breaking is a conversation that ends after some reads and writes.
type breaking struct {
	io.ReadWriter
	left *atomic.Int64
}

var errBroken = errors.New("broken")

func (b breaking) Read(p []byte) (int, error) {
	if b.left.Add(-1) < 0 {
		return 0, errBroken
	}
	return b.ReadWriter.Read(p[:min(len(p), 300)])
}

func (b breaking) Write(p []byte) (int, error) {
	if b.left.Add(-1) < 0 {
		return 0, errBroken
	}
	return b.ReadWriter.Write(p)
}

// TestSyncConnectionBroken breaks the connection at each step: the guest took something, and
// its answer may be lost.
func TestSyncConnectionBroken(t *testing.T) {
	step := 1
	if os.Getenv(env.VMVariable) == "" { // each waits for a sign of what became of the machine
		step = 25
	}
	n := 0
	for broken := true; broken && !t.Failed(); n += step {
		s := newBrokenSync(t)
		var left atomic.Int64
		left.Store(int64(n))
		take := func(conn io.ReadWriter) { incoming.Take(breaking{conn, &left}, &wire.Sync{Dir: s.guest}) }
		s.sync.Store(&take)
		out, err := s.mayfly("sync", "m")
		if broken = err != nil; !broken && left.Load() < 0 {
			t.Errorf("sync of a broken connection says nothing: %q", out)
		}
		s.sync.Store(nil)
		if s.check(n / step); t.Failed() {
			t.Logf("broken after %d", n)
		}
	}
	if n < 30 {
		t.Errorf("%d steps; want more", n)
	}
}
