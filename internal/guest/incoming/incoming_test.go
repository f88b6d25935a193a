package incoming

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/sparse"
)

// host is the host's end of a conversation about a directory.
type host struct {
	t      *testing.T
	dir    string
	stream net.Conn
	frames *wire.FrameWriter
	ended  chan error
}

func newHost(t *testing.T) *host {
	t.Helper()
	ours, theirs := net.Pipe()
	h := &host{t, t.TempDir(), ours, wire.NewFrameWriter(ours), make(chan error, 1)}
	go func() {
		h.ended <- Take(theirs, &wire.Sync{Dir: h.dir, Durable: true})
		theirs.Close()
	}()
	t.Cleanup(func() { ours.Close() })
	return h
}

func file(text string, mode uint32) wire.SyncState {
	s := sparse.NewSum()
	s.Write([]byte(text))
	sum := s.Sum()
	return wire.SyncState{Kind: wire.KindFile, Mode: mode, Size: int64(len(text)), Sum: sum[:]}
}

// sends sends one item, with a content if it has one, and wants a result.
func (h *host) sends(path string, to wire.SyncState, text string, want wire.SyncResult, old ...wire.SyncState) wire.SyncAnswer {
	h.t.Helper()
	if err := wire.WriteMessage(h.stream, wire.SyncItem{Path: []byte(path), Old: old, New: to}); err != nil {
		h.t.Fatal(err)
	}
	if to.Kind == wire.KindFile {
		h.frames.Write(wire.FrameStdin, []byte(text))
		h.frames.Write(wire.FrameStdinEOF, nil)
	}
	var a wire.SyncAnswer
	if err := wire.ReadMessage(h.stream, &a); err != nil {
		h.t.Fatal(err)
	}
	if a.Result != want {
		h.t.Errorf("%s: answer %+v; want %s", path, a, want)
	}
	return a
}

func (h *host) has(path, want string) {
	h.t.Helper()
	if text, err := os.ReadFile(filepath.Join(h.dir, path)); err != nil || string(text) != want {
		h.t.Errorf("%s holds %q, %v; want %q", path, text, err, want)
	}
}

// A path changes only where what is there is expected, and nothing is left beside it.
func TestTake(t *testing.T) {
	h := newHost(t)
	nothing := wire.SyncState{}
	h.sends("a", file("1", 0o640), "1", wire.SyncDone, nothing)
	h.has("a", "1")
	h.sends("a", file("1", 0o640), "1", wire.SyncSame, nothing)
	h.sends("a", file("22", 0o640), "22", wire.SyncConflict, nothing)
	h.sends("a", file("22", 0o640), "22", wire.SyncConflict, file("1", 0o644))
	any := file("1", 0o644)
	any.AnyMode = true
	h.sends("a", file("22", 0o640), "22", wire.SyncDone, nothing, any)
	h.has("a", "22")
	if a := h.sends("none/b", file("1", 0o644), "1", wire.SyncConflict, nothing); a.Now.Kind != "" {
		t.Errorf("in no directory: %+v", a)
	}
	h.sends("d", wire.SyncState{Kind: wire.KindDir, Mode: 0o755}, "", wire.SyncDone, nothing)
	h.sends("d", wire.SyncState{Kind: wire.KindDir, Mode: 0o700}, "", wire.SyncSame, nothing)
	h.sends("d/f", file("1", 0o600), "1", wire.SyncDone, nothing)
	if a := h.sends("d", nothing, "", wire.SyncConflict, wire.SyncState{Kind: wire.KindDir, Mode: 0o755}); !a.Full {
		t.Errorf("a directory that is not empty: %+v", a)
	}
	h.sends("d/f", nothing, "", wire.SyncDone, file("1", 0o600))
	h.sends("d", file("1", 0o600), "1", wire.SyncDone, wire.SyncState{Kind: wire.KindDir, Mode: 0o755})
	h.sends("d", wire.SyncState{Kind: wire.KindSymlink, Target: []byte("/etc")}, "", wire.SyncDone, file("1", 0o600))
	h.sends("d/passwd", file("1", 0o600), "1", wire.SyncConflict, nothing)
	h.sends("d/passwd", nothing, "", wire.SyncSame, file("1", 0o600))
	h.sends("gone/x", nothing, "", wire.SyncSame, file("1", 0o600))
	h.sends("../outside", file("1", 0o600), "1", wire.SyncFailed, nothing)
	if err := wire.WriteMessage(h.stream, wire.SyncItem{End: true}); err != nil {
		t.Fatal(err)
	}
	var a wire.SyncAnswer
	if err := wire.ReadMessage(h.stream, &a); err != nil || a.Result != wire.SyncDone {
		t.Errorf("end: %+v, %v", a, err)
	}
	if err := <-h.ended; err != nil {
		t.Error(err)
	}
	names, err := os.ReadDir(h.dir)
	if err != nil || len(names) != 2 {
		t.Errorf("in the directory: %v, %v", names, err)
	}
	if _, err := os.Lstat(filepath.Join(filepath.Dir(h.dir), "outside")); err == nil {
		t.Error("it wrote outside of the directory")
	}
}

// A program that removes what it does not know, as git clean does, or moves it, does not end a
// sync.
func TestTakeAfterClean(t *testing.T) {
	h := newHost(t)
	scratch := func() string {
		found, err := filepath.Glob(filepath.Join(h.dir, wire.SyncScratch+"*"))
		if err != nil || len(found) != 1 {
			t.Fatalf("new files are made in %q, %v; want one directory", found, err)
		}
		return found[0]
	}
	nothing := wire.SyncState{}
	h.sends("a", file("1", 0o644), "1", wire.SyncDone, nothing)
	if err := os.Remove(scratch()); err != nil {
		t.Fatal(err)
	}
	h.sends("b", file("2", 0o644), "2", wire.SyncDone, nothing)
	was := scratch()
	if err := os.Rename(was, filepath.Join(h.dir, "moved")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(was, 0o755); err != nil {
		t.Fatal(err)
	}
	h.sends("b", file("3", 0o644), "3", wire.SyncDone, file("2", 0o644))
	h.has("a", "1")
	h.has("b", "3")
	if err := wire.WriteMessage(h.stream, wire.SyncItem{End: true}); err != nil {
		t.Fatal(err)
	}
	var a wire.SyncAnswer
	if err := wire.ReadMessage(h.stream, &a); err != nil || a.Result != wire.SyncDone {
		t.Errorf("end: %+v, %v", a, err)
	}
	if err := <-h.ended; err != nil {
		t.Error(err)
	}
	if scratch() != was {
		t.Error("what took the place of the directory is gone, too")
	}
}

// Who writes to a file while its new content comes is not overwritten.
func TestTakeRace(t *testing.T) {
	h := newHost(t)
	path := filepath.Join(h.dir, "a")
	if err := os.WriteFile(path, []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := wire.WriteMessage(h.stream, wire.SyncItem{Path: []byte("a"), Old: []wire.SyncState{file("1", 0o644)}, New: file("22", 0o644)}); err != nil {
		t.Fatal(err)
	}
	if err := h.frames.Write(wire.FrameStdin, []byte("22")); err != nil { // it has looked by now
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.frames.Write(wire.FrameStdinEOF, nil)
	var a wire.SyncAnswer
	if err := wire.ReadMessage(h.stream, &a); err != nil || a.Result != wire.SyncConflict {
		t.Errorf("answer %+v, %v; want a conflict", a, err)
	}
	h.has("a", "x")
}

// A host that ends in the middle leaves what was there, and nothing beside it.
func TestTakeBrokenOff(t *testing.T) {
	h := newHost(t)
	h.sends("a", file("1", 0o644), "1", wire.SyncDone, wire.SyncState{})
	if err := wire.WriteMessage(h.stream, wire.SyncItem{Path: []byte("a"), Old: []wire.SyncState{file("1", 0o644)}, New: file(strings.Repeat("2", 100), 0o644)}); err != nil {
		t.Fatal(err)
	}
	h.frames.Write(wire.FrameStdin, []byte("22"))
	h.stream.Close()
	if err := <-h.ended; err == nil {
		t.Error("Take() = nil; want an error")
	}
	h.has("a", "1")
	if names, err := os.ReadDir(h.dir); err != nil || len(names) != 1 {
		t.Errorf("in the directory: %v, %v", names, err)
	}
}
