package atomicfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// writers are the three ways to write, which differ only in what they promise.
var writers = map[string]func(string, []byte, fs.FileMode) error{
	"Write": Write, "WriteNew": WriteNew, "WriteUnsynced": WriteUnsynced,
}

// only fails the test unless dir holds exactly these names.
func only(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(names) {
		t.Errorf("%s holds %v; want %q", dir, entries, names)
		return
	}
	for i, e := range entries {
		if e.Name() != names[i] {
			t.Errorf("%s holds %v; want %q", dir, entries, names)
		}
	}
}

func content(t *testing.T, name, want string) {
	t.Helper()
	if got, err := os.ReadFile(name); err != nil || string(got) != want {
		t.Errorf("%s holds %q, %v; want %q", name, got, err, want)
	}
}

func TestWrite(t *testing.T) {
	for way, write := range writers {
		for _, perm := range []fs.FileMode{0o600, 0o644, 0o400, 0o755, 0o666} {
			dir := t.TempDir()
			name := filepath.Join(dir, "f")
			if err := write(name, []byte("new"), perm); err != nil {
				t.Fatal(err)
			}
			content(t, name, "new")
			if fi, err := os.Stat(name); err != nil || fi.Mode() != perm {
				t.Errorf("%s made a file of mode %v, %v; want %v", way, fi.Mode(), err, perm)
			}
			only(t, dir, "f")
		}
	}
}

func TestReplace(t *testing.T) {
	for way, write := range writers {
		dir := t.TempDir()
		name := filepath.Join(dir, "f")
		if err := os.WriteFile(name, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		open, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer open.Close()
		err = write(name, []byte("new"), 0o644)
		if way == "WriteNew" {
			if !errors.Is(err, fs.ErrExist) {
				t.Errorf("WriteNew() of a file that exists = %v; want %v", err, fs.ErrExist)
			}
			content(t, name, "old")
		} else {
			if err != nil {
				t.Errorf("%s() = %v", way, err)
			}
			content(t, name, "new")
		}
		// A reader of the old file goes on with it.
		var old bytes.Buffer
		if _, err := old.ReadFrom(open); err != nil || old.String() != "old" {
			t.Errorf("a reader of the old file has %q, %v; want old", old.String(), err)
		}
		only(t, dir, "f")
	}
}

// Links are neither followed where the file is to be nor where it is made.
func TestLinks(t *testing.T) {
	dir := t.TempDir()
	victim, name := filepath.Join(dir, "victim"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(victim, []byte("old"), 0o600), os.Symlink("victim", name)); err != nil {
		t.Fatal(err)
	}
	if err := Write(name, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	content(t, victim, "old")
	if fi, err := os.Lstat(name); err != nil || !fi.Mode().IsRegular() {
		t.Errorf("the link is %v, %v; want a regular file", fi.Mode(), err)
	}

	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := os.Symlink(t.TempDir(), filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	if f, err := CreateIn(root, "out/f", 0o600); err == nil {
		f.Close()
		t.Error("CreateIn() followed a link out of its root")
	}
}

func TestWriteIn(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, text := range []string{"one", "two"} {
		if err := WriteIn(root, "sub/f", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		content(t, filepath.Join(dir, "sub/f"), text)
		only(t, filepath.Join(dir, "sub"), "f")
	}
}

func TestClose(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	f, err := Create(name, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, Leftovers)); len(left) != 1 || err != nil {
		t.Errorf("a file in the making matches Leftovers %d times, %v; want once", len(left), err)
	}
	f.Write([]byte("half"))
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Errorf("Close() twice = %v", err)
	}
	only(t, dir)
	if err := f.Commit(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Commit() after Close() = %v; want %v", err, os.ErrClosed)
	}
	if _, err := f.Write(nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Write() after Close() = %v; want %v", err, os.ErrClosed)
	}
	only(t, dir)
}

// Whichever step fails, the old file stays and nothing else.
func TestFailures(t *testing.T) {
	steps := map[string]func(dir string, f *File) error{
		"sync": func(dir string, f *File) error {
			f.file.Close()
			return f.Commit()
		},
		"close": func(dir string, f *File) error {
			f.file.Close()
			return f.CommitUnsynced()
		},
		"rename": func(dir string, f *File) error {
			os.Mkdir(filepath.Join(dir, "f.d"), 0o700)
			f.name = filepath.Join(dir, "f.d")
			return errors.Join(f.Commit(), os.Remove(filepath.Join(dir, "f.d")))
		},
		"link": func(dir string, f *File) error { return f.CommitNew() },
	}
	for step, fail := range steps {
		dir := t.TempDir()
		name := filepath.Join(dir, "f")
		if err := os.WriteFile(name, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Create(name, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		f.Write([]byte("new"))
		if err := fail(dir, f); err == nil {
			t.Errorf("a failed %s is no error", step)
		}
		if err := f.Close(); err != nil {
			t.Errorf("Close() after a failed %s = %v", step, err)
		}
		content(t, name, "old")
		only(t, dir, "f")
	}
	for way, write := range writers {
		dir := t.TempDir()
		for _, name := range []string{"no/f", "", "."} {
			if err := write(filepath.Join(dir, name), nil, 0o600); err == nil {
				t.Errorf("%s(%q) is no error", way, name)
			}
		}
		only(t, dir)
	}
}

// The disk is full: a limit on the size of files stands for it.
func TestFailedWrite(t *testing.T) {
	const variable = "MAYFLY_TEST_FULL"
	dir := os.Getenv(variable)
	if dir == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFailedWrite$")
		cmd.Env = append(os.Environ(), variable+"="+t.TempDir())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	name := filepath.Join(dir, "f")
	if err := os.WriteFile(name, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 10, Max: 10}); err != nil {
		t.Fatal(err)
	}
	for way, write := range writers {
		if err := write(name, make([]byte, 100), 0o600); !errors.Is(err, syscall.EFBIG) {
			t.Errorf("%s() = %v; want %v", way, err, syscall.EFBIG)
		}
		content(t, name, "old")
		only(t, dir, "f")
	}
}

// Several writers of one name do not mix what they write, and only one makes it.
func TestConcurrentWriters(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	made := make(chan bool, 8)
	for i := range 8 {
		wg.Go(func() {
			data := bytes.Repeat([]byte{'a' + byte(i)}, 50_000)
			if err := WriteUnsynced(filepath.Join(dir, "f"), data, 0o600); err != nil {
				t.Error(err)
			}
			if WriteNew(filepath.Join(dir, "new"), data, 0o600) == nil {
				made <- true
			}
		})
	}
	wg.Wait()
	if len(made) != 1 {
		t.Errorf("%d of 8 writers made the file; want 1", len(made))
	}
	for _, name := range []string{"f", "new"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || len(data) != 50_000 || bytes.Count(data, data[:1]) != 50_000 {
			t.Errorf("%s has %d bytes, %v; want one writer's 50000", name, len(data), err)
		}
	}
	only(t, dir, "f", "new")
}

func TestPublish(t *testing.T) {
	dir := t.TempDir()
	file, tree := filepath.Join(dir, "file"), filepath.Join(dir, "tree")
	if err := errors.Join(os.WriteFile(file+".new", []byte("x"), 0o400), os.Mkdir(tree+".new", 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(Publish(file+".new", file), Publish(tree+".new", tree)); err != nil {
		t.Fatal(err)
	}
	only(t, dir, "file", "tree")
	if err := Publish(file+".new", file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Publish() of no file = %v; want %v", err, fs.ErrNotExist)
	}
	content(t, file, "x")
}

// An error names the file that was to be written, and not the temporary one.
func TestErrorName(t *testing.T) {
	name := filepath.Join(t.TempDir(), "missing", "f")
	for way, write := range writers {
		err := write(name, nil, 0o600)
		if want := "write " + name + ": no such file or directory"; err == nil || err.Error() != want || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s() = %v; want %s", way, err, want)
		}
	}
}
