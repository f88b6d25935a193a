package diff_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/image/diff"
	"github.com/mayfly-vm/mayfly/internal/image/erofs"
)

// file is one entry of an archive.
type file struct {
	tar.Header
	content string
}

func dir(name string) file {
	return file{Header: tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}}
}

func reg(name, content string) file {
	return file{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, content}
}

func link(name, target string) file {
	return file{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}}
}

func symlink(name, target string) file {
	return file{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

func archive(t testing.TB, files []file) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		f.Size = int64(len(f.content))
		if f.ModTime.IsZero() {
			f.ModTime = time.Unix(1000, 0)
		}
		if err := w.WriteHeader(&f.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func image(t testing.TB, archive []byte) *erofs.Image {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	w, err := erofs.NewWriter(f, erofs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := erofs.FromTar(w, bytes.NewReader(archive), erofs.TarOptions{OCI: true}); err != nil {
		t.Fatal(err)
	}
	stats, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	im, err := erofs.Open(f, stats.Size)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// contents lists an archive, one line per entry.
func contents(t *testing.T, r io.Reader) []string {
	t.Helper()
	var out []string
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		line := string(h.Typeflag) + " " + h.Name
		if h.Linkname != "" {
			line += " -> " + h.Linkname
		}
		if len(data) > 20 {
			data = append(data[:17], "..."...)
		}
		out = append(out, strings.TrimSpace(line+" "+string(data)))
	}
}

func TestWrite(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 5000) // more than one buffer
	base := []file{
		dir("./etc"), reg("./etc/same", "same"), reg("./etc/gone", "x"), reg("./etc/edited", "old!"), reg("./etc/mode", "m"),
		dir("./usr"), dir("./usr/bin"), reg("./usr/bin/a", "tool"), link("./usr/bin/b", "./usr/bin/a"), symlink("./usr/bin/s", "a"),
		dir("./usr/old"), reg("./usr/old/1", "1"), dir("./usr/old/sub"), reg("./usr/old/sub/2", "2"),
		reg("./usr/long", long), dir("./usr/todir"), reg("./usr/tofile", "f"), dir("./dev"), reg("./dev/null", ""),
	}
	later := time.Unix(2000, 0)
	again := func(f file) file { f.ModTime = later; return f }
	executable := func(f file) file { f.Mode = 0o755; return f }
	tests := []struct {
		name string
		new  []file
		want []string
	}{
		{"nothing", base, nil},
		{
			"times",
			[]file{
				again(dir("./etc")), again(reg("./etc/same", "same")), reg("./etc/gone", "x"), reg("./etc/edited", "old!"), reg("./etc/mode", "m"),
				dir("./usr"), dir("./usr/bin"), reg("./usr/bin/a", "tool"), link("./usr/bin/b", "./usr/bin/a"), symlink("./usr/bin/s", "a"),
				dir("./usr/old"), reg("./usr/old/1", "1"), dir("./usr/old/sub"), reg("./usr/old/sub/2", "2"),
				reg("./usr/long", long), dir("./usr/todir"), reg("./usr/tofile", "f"), dir("./dev"),
			},
			nil,
		},
		{
			"changes",
			[]file{
				dir("./etc"), reg("./etc/same", "same"), reg("./etc/edited", "new!"), executable(reg("./etc/mode", "m")), reg("./etc/added", "more"),
				dir("./usr"), dir("./usr/bin"), reg("./usr/bin/a", "tool"), link("./usr/bin/b", "./usr/bin/a"), symlink("./usr/bin/s", "b"),
				reg("./usr/long", long[:len(long)-1]+"!"), reg("./usr/todir", "a file now"), dir("./usr/tofile"), reg("./usr/tofile/in", "in"),
				dir("./dev"), reg("./dev/zero", ""),
			},
			[]string{
				"5 etc/", "0 etc/edited new!", "0 etc/mode m", "0 etc/added more",
				"5 usr/", "5 usr/bin/", "2 usr/bin/s -> b",
				"0 usr/long 0123456789abcdef0...", "0 usr/todir a file now", "5 usr/tofile/", "0 usr/tofile/in in",
				"0 etc/.wh.gone", "0 usr/.wh.old",
			},
		},
		{
			"links",
			append(append([]file(nil), base[:6]...), []file{
				// The first name is as it was, and the others are new.
				dir("./usr/bin"), reg("./usr/bin/a", "tool"), link("./usr/bin/b", "./usr/bin/a"), link("./usr/bin/c", "./usr/bin/a"),
				reg("./usr/bin/n", "new"), link("./usr/bin/o", "./usr/bin/n"), symlink("./usr/bin/s", "a"),
				dir("./usr/old"), reg("./usr/old/1", "1"), dir("./usr/old/sub"), reg("./usr/old/sub/2", "2"),
				reg("./usr/long", long), dir("./usr/todir"), reg("./usr/tofile", "f"),
			}...),
			[]string{"5 usr/", "5 usr/bin/", "0 usr/bin/c tool", "0 usr/bin/n new", "1 usr/bin/o -> usr/bin/n"},
		},
	}
	old := image(t, archive(t, base))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			new := archive(t, tt.new)
			var layer bytes.Buffer
			if err := diff.Write(&layer, old, bytes.NewReader(new)); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, contents(t, bytes.NewReader(layer.Bytes()))); d != "" {
				t.Errorf("Write() (-want +got):\n%s", d)
			}
			image(t, layer.Bytes()) // is a layer that can be stored
		})
	}
}

// A long file must come out whole, wherever its first difference is.
func TestWriteContents(t *testing.T) {
	long := []byte(strings.Repeat("0123456789abcdef", 10000))
	old := image(t, archive(t, []file{reg("f", string(long))}))
	for _, at := range []int{0, 1, 32<<10 - 1, 32 << 10, 100000, len(long) - 1} {
		changed := bytes.Clone(long)
		changed[at] = '!'
		var layer bytes.Buffer
		if err := diff.Write(&layer, old, bytes.NewReader(archive(t, []file{reg("f", string(changed))}))); err != nil {
			t.Fatal(err)
		}
		got, err := image(t, layer.Bytes()).Open("f")
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(got)
		if err != nil || !bytes.Equal(data, changed) {
			t.Errorf("with a change at %d: %d bytes that differ from what was written, %v", at, len(data), err)
		}
	}
}

func TestWriteErrors(t *testing.T) {
	old := image(t, archive(t, []file{reg("f", "content")}))
	whole := archive(t, []file{reg("f", strings.Repeat("x", 10000))})
	for name, new := range map[string][]byte{
		"cut short": whole[:5000],
		"twice":     archive(t, []file{reg("a", ""), reg("./a", "")}),
		"bad link":  archive(t, []file{link("a", "nowhere")}),
	} {
		if err := diff.Write(io.Discard, old, bytes.NewReader(new)); err == nil {
			t.Errorf("Write(%s) succeeded", name)
		}
	}
}
