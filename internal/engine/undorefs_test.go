package engine

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/commits"
)

// An apply that brings commits puts its record in the place of the one before, which is there
// until then: a kill between the two loses neither.
func TestRecordMovesKilled(t *testing.T) {
	c := packedChanges(t, map[string]string{"a": "1"})
	e, root := c.machine.e, c.manifest.Root
	e.dirs.State = t.TempDir()
	before := movedRefs{
		Name: c.machine.Name(), Root: root, Time: time.Now(), Begun: []string{"begun"}, Tips: []string{"begun"},
		Moves: []movedIn{{root, commits.Moved{Ref: "refs/heads/main", Old: "old", New: "begun"}}},
	}
	if err := e.writeMovedRefs(before); err != nil {
		t.Fatal(err)
	}
	name := e.movedRefsFile(root)
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, filepath.Dir(name), unix.IN_DELETE); err != nil {
		t.Fatal(err)
	}
	c.Commits = true
	c.Committed = []*Committed{{repo: &commits.Repository{}, Branches: []commits.Branch{{Name: "main", Tip: "new", Sent: "new"}}}}
	if _, err := c.recordMoves(); err != nil {
		t.Fatal(err)
	}
	events := make([]byte, 64<<10)
	if n, _ := unix.Read(watch, events); n > 0 && bytes.Contains(events[:n], []byte(filepath.Base(name))) {
		t.Error("the record was away for a while")
	}
	if r, err := e.movedRefs(root); err != nil || !slices.Equal(r.Begun, []string{"begun", "new"}) || len(r.Moves) != 1 {
		t.Errorf("record %+v, %v", r, err)
	}
}
