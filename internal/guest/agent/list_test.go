package agent

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/sparse"
)

// extent records what comes of a content.
type extent struct{ data, holes int64 }

func (e *extent) Write(p []byte) (int, error) { e.data += int64(len(p)); return len(p), nil }
func (e *extent) Hole(n int64) error          { e.holes += n; return nil }

// A terabyte of holes is listed and sent in no time.
func TestChangesSparse(t *testing.T) {
	const size = 1 << 40
	upper := t.TempDir()
	f, err := os.Create(upper + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), size/2); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Skipf("no such files here: %v", err)
	}
	begun := time.Now()
	g := startGuest(t, "UPPER="+upper)
	got := changesOf(t, g)["f"]
	want, err := sparse.SumOf(t.Context(), f, size)
	if err != nil || got.Size != size || string(got.Sum) != string(want[:]) {
		t.Errorf("listed with %d bytes and the sum %x, %v; want %d and %x", got.Size, got.Sum, err, int64(size), want)
	}
	var sent extent
	open := func() (io.ReadWriteCloser, error) { return g.open(t), nil }
	err = client.Fetch(open, []string{"f"}, func(_ string, content io.Reader) error {
		_, err := io.Copy(&sent, content)
		return err
	})
	if err != nil || sent.data+sent.holes != size || sent.data > 1<<20 {
		t.Errorf("%d bytes and %d of holes came, %v; want %d, nearly all holes", sent.data, sent.holes, err, int64(size))
	}
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("it took %v", took)
	}
}

// A file with several names is read once, and each name says which file it is.
func TestChangesLinks(t *testing.T) {
	upper := t.TempDir()
	writeFile(t, upper+"/a", "x", 0o644)
	writeFile(t, upper+"/d/own", "x", 0o644)
	for _, name := range []string{"d/b", "c"} {
		if err := os.Link(upper+"/a", filepath.Join(upper, name)); err != nil {
			t.Fatal(err)
		}
	}
	got := changesOf(t, startGuest(t, "UPPER="+upper))
	first, links := "", 0
	for _, name := range []string{"a", "d/b", "c"} {
		if c := got[name]; len(c.Link) == 0 {
			first += name
		} else {
			links++
		}
	}
	for _, name := range []string{"a", "d/b", "c"} {
		if link := string(got[name].Link); link != "" && link != first {
			t.Errorf("%s is listed as %s; want %s", name, link, first)
		}
	}
	if links != 2 || len(got["d/own"].Link) > 0 {
		t.Errorf("%d names are links, and a file with one is one to %q", links, got["d/own"].Link)
	}
}

func TestChangesAttributes(t *testing.T) {
	upper := t.TempDir()
	writeFile(t, upper+"/with", "x", 0o644)
	writeFile(t, upper+"/without", "x", 0o644)
	if err := unix.Setxattr(upper+"/with", "user.note", []byte("y"), 0); err != nil {
		t.Skipf("no extended attributes here: %v", err)
	}
	got := changesOf(t, startGuest(t, "UPPER="+upper))
	if !got["with"].Attributes || got["without"].Attributes {
		t.Errorf("listed are %+v; want that one has attributes", got)
	}
}

// The number of entries comes before the first of them.
func TestChangesCounted(t *testing.T) {
	const dirs, files = 30, 100
	upper := t.TempDir()
	names := int64(0)
	for i := range dirs {
		dir := fmt.Sprintf("d%02d", i)
		names += int64(len(dir))
		for j := range files {
			name := fmt.Sprintf("%s/f%03d", dir, j)
			writeFile(t, filepath.Join(upper, name), "", 0o644)
			names += int64(len(name))
		}
	}
	var first *wire.Progress
	n := 0
	err := client.Changes(startGuest(t, "UPPER="+upper).open(t), wire.Changes{}, func(p wire.Progress) error {
		if n == 0 {
			first = &p
		}
		return nil
	}, func(wire.Change) error { n++; return nil })
	if err != nil || n != dirs*(files+1) {
		t.Fatalf("%d entries, %v; want %d", n, err, dirs*(files+1))
	}
	if want := (wire.Progress{Counted: int64(n), Names: names}); first == nil || *first != want {
		t.Errorf("before the first came %+v; want %+v", first, want)
	}
}

// What reads a file for the host ends when that closes its stream.
func TestChangesEndsWithHost(t *testing.T) {
	host, guest := net.Pipe()
	defer guest.Close()
	done := make(chan error, 1)
	go func() {
		ctx, cancel := whileHeard(guest)
		defer cancel()
		_, err := sparse.Copy(ctx, &extent{}, slow{}, 1<<60)
		done <- err
	}()
	host.Close()
	select {
	case err := <-done:
		if err != errHostLeft {
			t.Errorf("it ended with %v; want %v", err, errHostLeft)
		}
	case <-time.After(time.Minute):
		t.Error("it goes on")
	}
}

// slow is a content that has no end.
type slow struct{}

func (slow) ReadAt(p []byte, _ int64) (int, error) {
	time.Sleep(time.Millisecond)
	return len(p), nil
}
