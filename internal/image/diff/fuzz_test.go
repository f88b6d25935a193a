package diff_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/image/diff"
)

// FuzzWrite checks that a layer, laid over the old system, gives the new one: the same
// names, and nothing outside. Each line of spec is a file of the new system: its kind, its
// name and, behind a tab, its content or target.
func FuzzWrite(f *testing.F) {
	old := []file{
		dir("etc"), reg("etc/same", "same"), reg("etc/gone", "x"), dir("usr"), dir("usr/bin"), reg("usr/bin/a", "tool"),
		link("usr/bin/b", "usr/bin/a"), symlink("usr/bin/s", "a"), dir("usr/old"), reg("usr/old/1", "1"), dir("dev"), reg("dev/null", ""),
	}
	im := image(f, archive(f, old))
	for _, spec := range []string{
		"d etc\nf etc/same\tsame\nd usr\nd usr/bin\nf usr/bin/a\ttool\nh usr/bin/b\tusr/bin/a\ns usr/bin/s\ta\nd usr/old\nf usr/old/1\t1",
		"d etc\nf etc/same\tother\nf etc/new\t1\nd usr\nf usr/old\tnow a file",
		"s etc\tusr\nf usr/bin\tx\nd dev\nf dev/sda\t",
		"d ../etc\nf ../../etc/same\tx\nf /etc/passwd\ty\nf ./a/../b\tz",
		"f a\t1\nh b\ta\nh c\tb\nh d\tnowhere",
		"f .wh.etc\tx\nd etc\nf etc/.wh..wh..opq\t",
		"f a\t\nf a\t",
	} {
		f.Add(spec)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		list, names := parse(spec)
		var layer bytes.Buffer
		if diff.Write(&limited{&layer, 1 << 20}, im, bytes.NewReader(archive(t, list))) != nil {
			return
		}
		got := make(map[string]bool)
		for _, o := range old {
			if name := path.Clean(o.Name); name != "dev" && !strings.HasPrefix(name, "dev/") {
				got[name] = true
			}
		}
		without := func(name string) {
			maps.DeleteFunc(got, func(n string, _ bool) bool { return n == name || strings.HasPrefix(n, name+"/") })
		}
		seen := make(map[string]bool)
		var added []string
		for r := tar.NewReader(&layer); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			name := strings.TrimSuffix(h.Name, "/")
			if name != path.Clean(name) || path.IsAbs(name) || name == ".." || strings.HasPrefix(name, "../") || strings.HasPrefix(name, "dev/") {
				t.Errorf("the layer has %q", h.Name)
			}
			if seen[name] {
				t.Errorf("the layer has %q twice", name)
			}
			seen[name] = true
			if base, ok := strings.CutPrefix(path.Base(name), ".wh."); ok {
				without(path.Join(path.Dir(name), base))
				continue
			}
			if h.Typeflag != tar.TypeDir {
				without(name)
			}
			added = append(added, name)
		}
		for _, name := range added {
			got[name] = true
		}
		if d := cmp.Diff(names, slices.Sorted(maps.Keys(got))); d != "" {
			t.Errorf("the old system and the layer (-want +got):\n%s", d)
		}
	})
}

// parse returns the files of spec and their names. No system has what is written as a
// whiteout is, or is in no directory; the archive of one has a directory before what it holds.
func parse(spec string) (list []file, names []string) {
	kinds := map[string]func(name, rest string) file{
		"d": func(name, _ string) file { return dir(name) }, "f": reg, "h": link, "s": symlink,
	}
	dirs := make(map[string]bool)
	for line := range strings.Lines(spec) {
		kind, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		name, content, _ := strings.Cut(rest, "\t")
		clean := strings.TrimPrefix(path.Clean("/"+name), "/")
		make, ok := kinds[kind]
		if !ok || clean == "" || len(clean) > 80 || len(content) > 80 || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' || r > '~' }) {
			continue
		}
		if strings.Contains("/"+clean, "/.wh.") || strings.HasSuffix(name, "/") || path.Dir(clean) != "." && !dirs[path.Dir(clean)] {
			continue
		}
		if slices.ContainsFunc(list, func(o file) bool { return kind != "d" && strings.HasPrefix(path.Join("/", o.Name), "/"+clean+"/") }) {
			continue
		}
		if kind == "d" {
			dirs[clean] = true
		}
		list = append(list, make(name, content))
		if clean != "dev" && !strings.HasPrefix(clean, "dev/") {
			names = append(names, clean)
		}
	}
	slices.Sort(names)
	return list, slices.Compact(names)
}

// limited takes as much as n bytes.
type limited struct {
	io.Writer
	n int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.n -= len(p); l.n < 0 {
		return 0, errors.New("too much")
	}
	return l.Writer.Write(p)
}
