package template

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/confine"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

const memoryMiB = 40 // more than two segments

// identity returns an identity that differs by name.
func identity(t testing.TB, name string) Identity {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m := plan.Machine{MemoryMiB: memoryMiB, HostCPU: "cpu", Engine: plan.Engine{Build: "10.0.2"}}
	img := image.Image{Key: name, Initramfs: "/boot/initramfs", Layers: []image.Layer{{SHA256: "d1"}, {SHA256: "d2"}}}
	id, err := Identify(m, img, []string{"true"}, "", machine.Command{Path: exe, Args: []string{"-m", "40M"}})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// content is what the guest of a test has in its memory, by offset: at the edges
// of pages and segments.
var content = map[int64]string{
	0:                                 "first",
	3*pageSize + 17:                   "within",
	segment - 3:                       "across two segments",
	2*segment + pageSize*300:          "far",
	int64(memoryMiB)<<20 - 4:          "last",
	int64(memoryMiB)<<20 - 9*pageSize: strings.Repeat("x", 2*pageSize),
}

// save plays the machine that is saved.
func save(_ context.Context, memory machine.SharedMemory) (Saved, error) {
	f, err := os.OpenFile(memory.Path, os.O_RDWR, 0)
	if err != nil {
		return Saved{}, err
	}
	defer f.Close()
	for off, text := range content {
		if _, err := f.WriteAt([]byte(text), off); err != nil {
			return Saved{}, err
		}
	}
	// Pages that were used and are zero again.
	if _, err := f.WriteAt(make([]byte, 64*pageSize), 10<<20); err != nil {
		return Saved{}, err
	}
	return Saved{State: []byte("the state of the devices"), Notes: []string{"a note"}}, nil
}

func newStore(t testing.TB) Store { return Store{filepath.Join(t.TempDir(), "templates")} }

func mustMake(t testing.TB, s Store, id Identity) *Template {
	t.Helper()
	tmpl, err := s.Make(t.Context(), id, memoryMiB, nil, save)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tmpl.Close() })
	return tmpl
}

func checkContent(t testing.TB, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || fi.Size() != memoryMiB<<20 {
		t.Errorf("%s has %d bytes, %v; want %d", path, fi.Size(), err, memoryMiB<<20)
	}
	for off, want := range content {
		got := make([]byte, len(want))
		if _, err := f.ReadAt(got, off); err != nil || string(got) != want {
			t.Errorf("%s at %d: %q, %v; want %q", path, off, got, err, want)
		}
	}
}

func TestMakeAndFind(t *testing.T) {
	s, id := newStore(t), identity(t, "a")
	if _, err := s.Find(id); !errors.Is(err, ErrNone) {
		t.Fatalf("Find() in an empty store: %v; want %v", err, ErrNone)
	}
	mustMake(t, s, id)
	found, err := s.Find(id)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	state, err := io.ReadAll(found.State())
	if err != nil || string(state) != "the state of the devices" {
		t.Errorf("State() = %q, %v", state, err)
	}
	if len(found.Notes) != 1 || found.Notes[0] != "a note" {
		t.Errorf("Notes = %q; want a note", found.Notes)
	}
	checkContent(t, found.Private().Path)
	if _, err := s.Find(identity(t, "b")); !errors.Is(err, ErrNone) {
		t.Errorf("Find() of another identity: %v; want %v", err, ErrNone)
	}
}

// Nobody but the user, and the VMMs of root's, can read what was in a guest's memory,
// and nobody at all write it.
func TestModes(t *testing.T) {
	s := newStore(t)
	tmpl := mustMake(t, s, identity(t, "a"))
	memory := os.FileMode(0o400)
	if os.Geteuid() == 0 {
		memory = 0o440
		fi, err := os.Stat(tmpl.Private().Path)
		if err != nil {
			t.Fatal(err)
		}
		if st := fi.Sys().(*syscall.Stat_t); st.Uid != 0 || st.Gid != confine.Group {
			t.Errorf("the memory is of user %d and group %d; want 0 and %d", st.Uid, st.Gid, confine.Group)
		}
	}
	for path, want := range map[string]os.FileMode{s.Dir: 0o700, filepath.Dir(tmpl.Private().Path): 0o700, tmpl.Private().Path: memory} {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := fi.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o; want %o", path, got, want)
		}
	}
}

// What another user could have put there is not used.
func TestForeignStore(t *testing.T) {
	s, id := newStore(t), identity(t, "a")
	mustMake(t, s, id)
	if err := os.Chmod(s.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find(id); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("Find() in a directory that others can write: %v; want an error", err)
	}
	if _, err := s.Make(t.Context(), identity(t, "b"), memoryMiB, nil, save); err == nil {
		t.Error("Make() in a directory that others can write = nil; want an error")
	}
	if os.Geteuid() != 0 {
		return // cannot give it away
	}
	if err := errors.Join(os.Chmod(s.Dir, 0o700), os.Chown(s.Dir, 12345, 12345)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find(id); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("Find() in another user's directory: %v; want an error", err)
	}
}

func TestCopy(t *testing.T) {
	s := newStore(t)
	tmpl := mustMake(t, s, identity(t, "a"))
	path := filepath.Join(t.TempDir(), "copy")
	memory, err := tmpl.Copy(path)
	if err != nil {
		t.Fatal(err)
	}
	checkContent(t, memory.Path)
	f, err := os.OpenFile(memory.Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("changed"), 0); err != nil {
		t.Fatal(err)
	}
	checkContent(t, tmpl.Private().Path)
	if copied, whole := image.DiskUsage(path), int64(memoryMiB)<<20; copied > whole/2 {
		t.Errorf("the copy takes %d bytes; want only what is used of %d", copied, whole)
	}
}

// However many want a template at the same time, it is made once.
func TestMakeOnce(t *testing.T) {
	s, id := newStore(t), identity(t, "a")
	var made, waited atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			tmpl, err := s.Make(t.Context(), id, memoryMiB, func() { waited.Add(1) }, func(ctx context.Context, m machine.SharedMemory) (Saved, error) {
				made.Add(1)
				for deadline := time.Now().Add(time.Minute); waited.Load() < 7 && time.Now().Before(deadline); {
					time.Sleep(time.Millisecond)
				}
				return save(ctx, m)
			})
			if err != nil {
				t.Error(err)
				return
			}
			defer tmpl.Close()
			checkContent(t, tmpl.Private().Path)
		})
	}
	wg.Wait()
	if made.Load() != 1 || waited.Load() != 7 {
		t.Errorf("made %d times, %d waited; want 1 and 7", made.Load(), waited.Load())
	}
}

func TestMakeFails(t *testing.T) {
	s, id := newStore(t), identity(t, "a")
	broken := errors.New("broken")
	_, err := s.Make(t.Context(), id, memoryMiB, nil, func(ctx context.Context, m machine.SharedMemory) (Saved, error) {
		save(ctx, m)
		return Saved{}, broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("Make() = %v; want %v", err, broken)
	}
	entries, err := os.ReadDir(s.Dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != lockFile {
		t.Errorf("left after a failure: %v, %v; want the lock only", entries, err)
	}
}

// Who waits for another's template can give up.
func TestMakeCanceled(t *testing.T) {
	s, id := newStore(t), identity(t, "a")
	begun, end := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tmpl, err := s.Make(t.Context(), id, memoryMiB, nil, func(ctx context.Context, m machine.SharedMemory) (Saved, error) {
			close(begun)
			<-end
			return save(ctx, m)
		})
		if err != nil {
			t.Error(err)
			return
		}
		tmpl.Close()
	})
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := s.Make(ctx, id, memoryMiB, cancel, save); !errors.Is(err, context.Canceled) {
		t.Errorf("Make() = %v; want %v", err, context.Canceled)
	}
	close(end)
	wg.Wait()
}

// A store that cannot be written is as good for what is in it.
func TestReadOnly(t *testing.T) {
	s, id := newStore(t), identity(t, "a")
	mustMake(t, s, id)
	dir := filepath.Join(s.Dir, id.Key())
	makeReadOnly(t, dir)
	makeReadOnly(t, s.Dir)
	tmpl, err := s.Find(id)
	if err != nil {
		t.Fatalf("Find() in a directory that cannot be written: %v", err)
	}
	tmpl.Close()
	if _, err := s.Make(t.Context(), identity(t, "b"), memoryMiB, nil, save); err == nil && os.Geteuid() != 0 {
		t.Error("Make() in a directory that cannot be written = nil; want an error")
	}
	// Something else has the place of the directory.
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Store{file}).Make(t.Context(), id, memoryMiB, nil, save); err == nil {
		t.Error("Make() in a file = nil; want an error")
	}
}

func makeReadOnly(t *testing.T, dir string) {
	t.Helper()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o700) })
}

func TestFailed(t *testing.T) {
	s, id := newStore(t), identity(t, "a")
	if f := s.Failed(id); f != nil {
		t.Errorf("Failed() = %v; want nil", f)
	}
	mustMake(t, s, id).Close()
	if err := errors.Join(s.SetAside(id), s.Fail(id, errors.New("it did not answer"))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find(id); !errors.Is(err, ErrNone) {
		t.Errorf("Find() of what was set aside: %v; want %v", err, ErrNone)
	}
	if f := s.Failed(id); f == nil || f.Reason != "it did not answer" {
		t.Errorf("Failed() = %v; want the reason", f)
	}
	if f := s.Failed(identity(t, "b")); f != nil {
		t.Errorf("Failed() of another = %v; want nil", f)
	}
	for _, age := range []time.Duration{2 * retryAfter, -2 * time.Hour} { // and a clock that was wrong
		if err := writeJSON(s.failedPath(id.Key()), Failure{time.Now().Add(-age), "old"}); err != nil {
			t.Fatal(err)
		}
		if f := s.Failed(id); f != nil {
			t.Errorf("Failed() after %v = %v; want nil", age, f)
		}
	}
	if err := s.Fail(id, errors.New("again")); err != nil {
		t.Fatal(err)
	}
	mustMake(t, s, id)
	if f := s.Failed(id); f != nil {
		t.Errorf("Failed() after a template was made = %v; want nil", f)
	}
}

// killVariable makes the test binary one that is killed while it makes a template
// in the directory that it names.
const killVariable = "MAYFLY_TEST_TEMPLATE_KILL"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killVariable); dir != "" {
		id := Identity{Version: identityVersion, Image: "killed"}
		Store{dir}.Make(context.Background(), id, memoryMiB, nil, func(ctx context.Context, memory machine.SharedMemory) (Saved, error) {
			save(ctx, memory)
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		})
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// Who is killed while making a template keeps nobody from making it, and what is
// left goes with the next collection.
func TestMakeKilled(t *testing.T) {
	s := newStore(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killVariable+"="+s.Dir)
	err := cmd.Run()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGKILL {
		t.Fatalf("the maker ended otherwise: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(s.Dir, newPrefix+"*"))
	if err != nil || len(left) != 1 {
		t.Fatalf("left: %q, %v; want one directory", left, err)
	}
	id := Identity{Version: identityVersion, Image: "killed"}
	mustMake(t, s, id)
	c, err := s.Collect(Policy{MaxAge: MaxAge, MaxBytes: MaxBytes})
	if err != nil || len(c.Items) != 1 || c.Items[0] != left[0] || c.Bytes == 0 {
		t.Errorf("Collect() = %v, %v; want %s", c, err, left[0])
	}
	if tmpl, err := s.Find(id); err != nil {
		t.Error(err)
	} else {
		tmpl.Close()
	}
}

func TestIdentity(t *testing.T) {
	a, again, b := identity(t, "a"), identity(t, "a"), identity(t, "b")
	if a.Key() != again.Key() || a.Key() == b.Key() || !isKey(a.Key()) {
		t.Errorf("keys %s, %s, %s; want the first two equal and the third another", a.Key(), again.Key(), b.Key())
	}
	if err := a.equal(again); err != nil {
		t.Error(err)
	}
	if err := a.equal(b); err == nil || !strings.Contains(err.Error(), "image") {
		t.Errorf("equal() = %v; want what differs", err)
	}
	if _, err := Identify(plan.Machine{}, image.Image{}, nil, "", machine.Command{Path: "/nonexistent"}); err == nil {
		t.Error("Identify() without a VMM = nil; want an error")
	}
}
