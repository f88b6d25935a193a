package template

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/machine"
)

// flip changes one bit of a file, and its times to what they were.
func flip(t testing.TB, path string, off int64) {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(path, 0o600)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b[:], off); err != nil {
		t.Fatal(err)
	}
	os.Chmod(path, fi.Mode())
	if err := os.Chtimes(path, fi.ModTime(), fi.ModTime()); err != nil {
		t.Fatal(err)
	}
}

func rewrite(t testing.TB, path, old, new string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte(old)) {
		t.Fatalf("%s has no %q", path, old)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(data, []byte(old), []byte(new)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// resize changes the size of a file that its user may not write.
func resize(t *testing.T, path string, size int64) {
	t.Helper()
	if err := errors.Join(os.Chmod(path, 0o600), os.Truncate(path, size)); err != nil {
		t.Fatal(err)
	}
}

// Nothing that was changed is ever used, and the next Make replaces it.
func TestDamage(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"a bit of the memory":         func(t *testing.T, dir string) { flip(t, dir+"/memory", 3*pageSize+17) },
		"a bit of a page that was 0":  func(t *testing.T, dir string) { flip(t, dir+"/memory", 5<<20) },
		"the last byte of the memory": func(t *testing.T, dir string) { flip(t, dir+"/memory", memoryMiB<<20-1) },
		"a shorter memory":            func(t *testing.T, dir string) { resize(t, dir+"/memory", memoryMiB<<20-pageSize) },
		"a longer memory":             func(t *testing.T, dir string) { resize(t, dir+"/memory", memoryMiB<<20+pageSize) },
		"no memory":                   func(t *testing.T, dir string) { os.Remove(dir + "/memory") },
		"a bit of the state":          func(t *testing.T, dir string) { flip(t, dir+"/state", 5) },
		"a shorter state":             func(t *testing.T, dir string) { resize(t, dir+"/state", 3) },
		"no state":                    func(t *testing.T, dir string) { os.Remove(dir + "/state") },
		"no record":                   func(t *testing.T, dir string) { os.Remove(dir + "/template.json") },
		"half a record":               func(t *testing.T, dir string) { os.Truncate(dir+"/template.json", 100) },
		"an empty record":             func(t *testing.T, dir string) { os.Truncate(dir+"/template.json", 0) },
		"another memory size": func(t *testing.T, dir string) {
			rewrite(t, dir+"/template.json", `"memory_mib": 40`, `"memory_mib": 41`)
		},
		"another CPU":                func(t *testing.T, dir string) { rewrite(t, dir+"/template.json", `"cpu"`, `"another"`) },
		"another version of the VMM": func(t *testing.T, dir string) { rewrite(t, dir+"/template.json", `10.0.2`, `10.0.3`) },
		"a link for the memory": func(t *testing.T, dir string) {
			if err := errors.Join(os.Rename(dir+"/memory", dir+"/there"), os.Symlink("there", dir+"/memory")); err != nil {
				t.Fatal(err)
			}
		},
		"a bit of the memory, before the host started": func(t *testing.T, dir string) {
			// As on a disk that forgets: no time says it.
			flip(t, dir+"/memory", 3*pageSize+17)
			f, err := os.Open(dir + "/memory")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			st, err := stampOf(f)
			if err != nil {
				t.Fatal(err)
			}
			st.Boot = "an earlier one"
			if err := writeJSON(dir+"/verified.json", st); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, id := newStore(t), identity(t, "a")
			tmpl, err := s.Make(t.Context(), id, memoryMiB, nil, save)
			if err != nil {
				t.Fatal(err)
			}
			tmpl.Close()
			damage(t, filepath.Join(s.Dir, id.Key()))
			_, err = s.Find(id)
			if _, ok := errors.AsType[*DamagedError](err); !ok {
				t.Fatalf("Find() = %v; want a DamagedError", err)
			}
			tmpl, err = s.Make(t.Context(), id, memoryMiB, nil, save)
			if err != nil {
				t.Fatal(err)
			}
			defer tmpl.Close()
			checkContent(t, tmpl.Private().Path)
			if _, err := os.Stat(filepath.Join(s.Dir, asidePrefix+id.Key())); err != nil {
				t.Errorf("the damaged one was not set aside: %v", err)
			}
		})
	}
}

// What says that the memory was compared may be missing or old: then it is
// compared, and found good.
func TestVerifiedAgain(t *testing.T) {
	s, id := newStore(t), identity(t, "a")
	mustMake(t, s, id)
	stamp := filepath.Join(s.Dir, id.Key(), verifiedFile)
	for name, spoil := range map[string]func() error{
		"missing":      func() error { return os.Remove(stamp) },
		"empty":        func() error { return os.Truncate(stamp, 0) },
		"another boot": func() error { return os.WriteFile(stamp, []byte(`{"boot": "x"}`), 0o600) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		tmpl, err := s.Find(id)
		if err != nil {
			t.Errorf("%s: Find() = %v; want the template", name, err)
			continue
		}
		tmpl.Close()
		if data, err := os.ReadFile(stamp); err != nil || !bytes.Contains(data, []byte("ctime")) {
			t.Errorf("%s: the stamp was not written again: %q, %v", name, data, err)
		}
	}
}

// The digest is of what is read, however the holes lie.
func TestDigest(t *testing.T) {
	dir := t.TempDir()
	var sums []Sum
	for _, name := range []string{"sparse", "dense", "punched"} {
		path := filepath.Join(dir, name)
		if err := makeMemory(path, memoryMiB<<20); err != nil {
			t.Fatal(err)
		}
		if name != "sparse" {
			if err := os.WriteFile(path, make([]byte, memoryMiB<<20), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := save(t.Context(), machine.SharedMemory{Path: path}); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		sum, err := digest(f, name == "punched")
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sum)
		checkContent(t, path)
	}
	if sums[0] != sums[1] || sums[0] != sums[2] {
		t.Errorf("digests differ: %v", sums)
	}
	if dense, punched := image.DiskUsage(filepath.Join(dir, "dense")), image.DiskUsage(filepath.Join(dir, "punched")); punched > dense/4 {
		t.Errorf("with holes punched it takes %d bytes; want much less than %d", punched, dense)
	}
}

func FuzzRecord(f *testing.F) {
	dir := f.TempDir()
	id := Identity{Version: identityVersion, Image: "fuzzed"}
	s := Store{dir}
	tmpl, err := s.Make(context.Background(), id, 1, nil, func(context.Context, machine.SharedMemory) (Saved, error) {
		return Saved{State: []byte("state")}, nil
	})
	if err != nil {
		f.Fatal(err)
	}
	tmpl.Close()
	path := filepath.Join(dir, id.Key(), recordFile)
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		// Whatever the record says: what is used is what was made.
		tmpl, err := s.Find(id)
		if err != nil {
			return
		}
		defer tmpl.Close()
		if state, _ := io.ReadAll(tmpl.State()); string(state) != "state" || tmpl.Identity.equal(id) != nil {
			t.Errorf("a record %q was believed", data)
		}
	})
}
