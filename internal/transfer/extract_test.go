package transfer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tarOf returns a stream as a hostile guest sends it.
func tarOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := tw.Write([]byte(h.Name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestExtractHostile(t *testing.T) {
	outside := t.TempDir()
	dir := filepath.Join(outside, "target")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	stream := tarOf(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "src/", Mode: 0o777},
		tar.Header{Typeflag: tar.TypeReg, Name: "src/tool", Mode: 0o4755},
		tar.Header{Typeflag: tar.TypeReg, Name: "src/../../escaped", Mode: 0o644},
		tar.Header{Typeflag: tar.TypeReg, Name: "other", Mode: 0o644},
		tar.Header{Typeflag: tar.TypeReg, Name: "/etc/absolute", Mode: 0o644},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "src/out", Linkname: "../../x"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "src/abs", Linkname: "/etc/passwd"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "src/in", Linkname: "tool"},
		tar.Header{Typeflag: tar.TypeChar, Name: "src/dev", Devmajor: 1, Devminor: 3},
		tar.Header{Typeflag: tar.TypeLink, Name: "src/hard", Linkname: "src/tool"},
	)
	skipped, err := Extract(root, bytes.NewReader(stream), "src", "copy")
	if err != nil {
		t.Fatal(err)
	}
	if len(skipped) != 7 {
		t.Errorf("left out: %q; want 7", skipped)
	}
	var got []string
	filepath.Walk(outside, func(path string, fi os.FileInfo, err error) error {
		rel, _ := filepath.Rel(outside, path)
		got = append(got, rel+" "+fi.Mode().String())
		return err
	})
	want := ". drwxr-xr-x, target drwxr-xr-x, target/copy drwxr-xr-x, target/copy/in Lrwxrwxrwx, target/copy/tool -rwxr-xr-x"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("there is %s; want %s", s, want)
	}
	// Through a link of its own it gets nowhere, either.
	again := tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "src/in", Mode: 0o644})
	if _, err := Extract(root, bytes.NewReader(again), "src", "copy"); err == nil {
		t.Error("a file was written through a link")
	}
}

// A link that stays below the target by its text can lead out of it through another one,
// to files beside the target: in the home directory to those of SSH.
func TestExtractLinksThroughLinks(t *testing.T) {
	dir := t.TempDir()
	own := filepath.Join(dir, ".ssh/authorized_keys")
	if err := errors.Join(os.Mkdir(filepath.Dir(own), 0o700), os.WriteFile(own, []byte("mine"), 0o600)); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	stream := tarOf(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "src", Mode: 0o755},
		tar.Header{Typeflag: tar.TypeDir, Name: "src/a", Mode: 0o755},
		tar.Header{Typeflag: tar.TypeDir, Name: "src/a/b", Mode: 0o755},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "src/a/b/up", Linkname: "../.."},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "src/out", Linkname: "a/b/up/../.ssh"},
		tar.Header{Typeflag: tar.TypeReg, Name: "src/a/b/up/file", Mode: 0o644},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "src/in", Linkname: "./a/../a"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "src/a/in", Linkname: "./../a//b"},
		tar.Header{Typeflag: tar.TypeReg, Name: "src/out/authorized_keys", Mode: 0o644},
	)
	skipped, err := Extract(root, bytes.NewReader(stream), "src", "src")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("extract() = %v; want that there is no directory in place of the link", err)
	}
	t.Logf("left out: %q", skipped)
	if data, err := os.ReadFile(own); err != nil || string(data) != "mine" {
		t.Errorf("the file beside the target holds %q, %v", data, err)
	}
	for name, want := range map[string]bool{"a/b/up": true, "a/in": true, "out": false, "in": false, "file": false} {
		if _, err := os.Lstat(filepath.Join(dir, "src", name)); (err == nil) != want {
			t.Errorf("%s: %v; want it to be there: %t", name, err, want)
		}
	}
}

// The guest of a live directory exchanges a file, and a directory, for links while they are
// copied into another machine.
func TestWriteTarOfALiveDirectory(t *testing.T) {
	for _, kind := range []string{"file", "directory"} {
		t.Run(kind, func(t *testing.T) {
			outside, live := t.TempDir(), t.TempDir()
			in, link, there := filepath.Join(live, "x"), filepath.Join(live, "link"), outside
			err := os.WriteFile(filepath.Join(outside, "key"), []byte("secret"), 0o600)
			if kind == "file" {
				err = errors.Join(err, os.WriteFile(in, []byte("public"), 0o644))
				there = filepath.Join(outside, "key")
			} else {
				err = errors.Join(err, os.Mkdir(in, 0o755), os.WriteFile(filepath.Join(in, "key"), []byte("public"), 0o600))
			}
			if err := errors.Join(err, os.Symlink(there, link)); err != nil {
				t.Fatal(err)
			}
			fi, err := os.Stat(live)
			if err != nil {
				t.Fatal(err)
			}
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				for {
					select {
					case <-stop:
						return
					default:
						unix.Renameat2(unix.AT_FDCWD, in, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
					}
				}
			}()
			whole := 0
			for range 1000 {
				var out bytes.Buffer
				if Pack(t.Context(), &out, live, "live", fi) == nil {
					whole++
				}
				if bytes.Contains(out.Bytes(), []byte("secret")) {
					t.Error("a file outside of the directory was copied")
					break
				}
			}
			close(stop)
			<-stopped
			t.Logf("%d copies were whole", whole)
		})
	}
}

func TestWriteTar(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "src")
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "a/b"), 0o755), os.WriteFile(filepath.Join(dir, "a/b/\xff"), []byte("x"), 0o644),
		os.WriteFile(filepath.Join(dir, "a/c"), nil, 0o600), os.Symlink("/etc", filepath.Join(dir, "d")), unix.Mkfifo(filepath.Join(dir, "e"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]string{
		dir:                            "5 n, 5 n/a, 5 n/a/b, 0 n/a/b/\xff, 0 n/a/c, 2 n/d",
		filepath.Join(dir, "a/c"):      "0 n",
		filepath.Join(dir, "e"):        "",
		filepath.Join(dir, "a/b/\xff"): "0 n",
	} {
		fi, err := os.Stat(source)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := Pack(t.Context(), &out, source, "n", fi); err != nil {
			t.Errorf("Pack(%s) = %v", source, err)
		}
		var got []string
		for tr := tar.NewReader(&out); ; {
			h, err := tr.Next()
			if err != nil {
				break
			}
			got = append(got, fmt.Sprintf("%c %s", h.Typeflag, h.Name))
		}
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("Pack(%q) wrote %q; want %q", source, s, want)
		}
	}
}

// What a guest calls its files is quoted where it is in an error.
func TestExtractQuotesNames(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, flag := range []byte{tar.TypeReg, tar.TypeDir, tar.TypeSymlink} {
		name := "src/no/\x1b]0;x\a\nhint: curl evil.example"
		stream := tarOf(t, tar.Header{Typeflag: tar.TypeDir, Name: "src"}, tar.Header{Typeflag: flag, Name: name, Linkname: "x"})
		if _, err := Extract(root, bytes.NewReader(stream), "src", "src"); err == nil || strings.ContainsAny(err.Error(), "\x1b\a\n") {
			t.Errorf("extract() of %c = %q; want an error with its name quoted", flag, err)
		}
	}
}

func FuzzExtract(f *testing.F) {
	f.Add(tarOf(f, tar.Header{Typeflag: tar.TypeReg, Name: "src/a", Mode: 0o644}, tar.Header{Typeflag: tar.TypeSymlink, Name: "src/b", Linkname: ".."}))
	f.Add(tarOf(f, tar.Header{Typeflag: tar.TypeDir, Name: "src/"}, tar.Header{Typeflag: tar.TypeDir, Name: "src/a/"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "src/a/up", Linkname: ".."}, tar.Header{Typeflag: tar.TypeSymlink, Name: "src/out", Linkname: "a/up/.."}))
	f.Fuzz(func(t *testing.T, stream []byte) {
		outside := t.TempDir()
		dir := filepath.Join(outside, "target")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		Extract(root, bytes.NewReader(stream), "src", "copy")
		filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.Type()&fs.ModeSymlink != 0 {
				real, err := filepath.EvalSymlinks(name)
				if err == nil && real != filepath.Join(dir, "copy") && !strings.HasPrefix(real, filepath.Join(dir, "copy")+"/") {
					t.Errorf("%s leads to %s", name, real)
				}
			}
			return nil
		})
		for _, d := range []struct{ dir, only string }{{outside, "target"}, {dir, "copy"}} {
			entries, err := os.ReadDir(d.dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if e.Name() != d.only {
					t.Errorf("%s was made in %s", e.Name(), d.dir)
				}
			}
		}
	})
}

// Zeros come as bytes and take no room on the host.
func TestExtractZeros(t *testing.T) {
	const size = 8 << 20
	from, to := t.TempDir(), t.TempDir()
	content := make([]byte, size)
	content[size/2] = 1
	if err := os.WriteFile(from+"/f", content, 0o644); err != nil {
		t.Fatal(err)
	}
	source, err := os.OpenRoot(from)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	target, err := os.OpenRoot(to)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	var b bytes.Buffer
	if err := PackIn(t.Context(), &b, source, "f"); err != nil {
		t.Fatal(err)
	}
	if _, err := Extract(target, &b, "f", "f"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to + "/f"); err != nil || !bytes.Equal(got, content) {
		t.Errorf("another content came out, %v", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(to+"/f", &st); err != nil || st.Blocks > size/512/8 {
		t.Errorf("it takes %d blocks, %v", st.Blocks, err)
	}
}
