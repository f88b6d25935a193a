package cpio

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// member is what the test's parser finds in an archive.
type member struct {
	name, content            string
	ino, mode, nlink, mtime  uint64
	rdevmajor, rdevminor     uint64
	uid, gid, major, minor   uint64
	headerOffset, dataOffset int
}

// parse reads a newc archive as the kernel does.
func parse(t *testing.T, b []byte) []member {
	t.Helper()
	var members []member
	for off := 0; ; {
		if off%4 != 0 || len(b) < off+110 || string(b[off:off+6]) != "070701" {
			t.Fatalf("no header at offset %d", off)
		}
		var n [13]uint64
		for i := range n {
			v, err := strconv.ParseUint(string(b[off+6+8*i:off+14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			n[i] = v
		}
		name := b[off+110 : off+110+int(n[11])]
		if name[len(name)-1] != 0 {
			t.Fatalf("name %q has no zero byte", name)
		}
		data := (off + 110 + int(n[11]) + 3) &^ 3
		end := data + int(n[6])
		m := member{
			name: string(name[:len(name)-1]), content: string(b[data:end]),
			ino: n[0], mode: n[1], uid: n[2], gid: n[3], nlink: n[4], mtime: n[5],
			major: n[7], minor: n[8], rdevmajor: n[9], rdevminor: n[10],
			headerOffset: off, dataOffset: data,
		}
		off = (end + 3) &^ 3
		if m.name == "TRAILER!!!" {
			if off != len(b) {
				t.Fatalf("%d bytes behind the trailer", len(b)-off)
			}
			return members
		}
		members = append(members, m)
	}
}

func write(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	steps := []error{
		w.Mkdir("dev", 0o755),
		w.Mknod("dev/console", 0o600, 5, 1),
		w.WriteFile("init", 0o755, []byte("#!/bin/sh\n")),
		w.WriteFile("empty", 0o644, nil),
		w.WriteFileFrom("stream", 0o4711, strings.NewReader("12345 and more"), 5),
		w.Symlink("bin", "usr/bin"),
		w.Close(),
	}
	for i, err := range steps {
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	return b.Bytes()
}

func TestWriter(t *testing.T) {
	b := write(t)
	if again := write(t); !bytes.Equal(b, again) {
		t.Error("the same members gave other bytes the second time")
	}
	var got []string
	for i, m := range parse(t, b) {
		if m.ino != uint64(i+1) || m.uid != 0 || m.gid != 0 || m.mtime != 0 || m.major != 0 || m.minor != 0 {
			t.Errorf("member %q: ino %d uid %d gid %d mtime %d", m.name, m.ino, m.uid, m.gid, m.mtime)
		}
		got = append(got, fmt.Sprintf("%06o %d %d,%d %s %q", m.mode, m.nlink, m.rdevmajor, m.rdevminor, m.name, m.content))
	}
	want := []string{
		`040755 2 0,0 dev ""`,
		`020600 1 5,1 dev/console ""`,
		`100755 1 0,0 init "#!/bin/sh\n"`,
		`100644 1 0,0 empty ""`,
		`104711 1 0,0 stream "12345"`,
		`120777 1 0,0 bin "usr/bin"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("archive holds\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestCPIO(t *testing.T) {
	path, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("cpio is not installed; make test installs it")
	}
	cmd := exec.Command(path, "-t", "--quiet")
	cmd.Stdin = bytes.NewReader(write(t))
	out, err := cmd.CombinedOutput()
	want := "dev\ndev/console\ninit\nempty\nstream\nbin\n"
	if err != nil || string(out) != want {
		t.Errorf("cpio -t = %q, %v; want %q", out, err, want)
	}
}

func TestErrors(t *testing.T) {
	for name, add := range map[string]func(w *Writer) error{
		"empty name":    func(w *Writer) error { return w.Mkdir("", 0o755) },
		"absolute name": func(w *Writer) error { return w.Mkdir("/dev", 0o755) },
		"zero byte":     func(w *Writer) error { return w.Mkdir("a\x00b", 0o755) },
		"trailer":       func(w *Writer) error { return w.WriteFile("TRAILER!!!", 0o644, nil) },
		"short content": func(w *Writer) error { return w.WriteFileFrom("a", 0o644, strings.NewReader("x"), 2) },
		"large size":    func(w *Writer) error { return w.WriteFileFrom("a", 0o644, strings.NewReader(""), 1<<32) },
		"negative size": func(w *Writer) error { return w.WriteFileFrom("a", 0o644, strings.NewReader(""), -1) },
	} {
		w := NewWriter(io.Discard)
		first := add(w)
		if first == nil {
			t.Errorf("%s: got no error", name)
		}
		if err := w.Close(); err != first {
			t.Errorf("%s: Close() = %v; want the first error, %v", name, err, first)
		}
	}
	w := NewWriter(io.Discard)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Mkdir("late", 0o755); err == nil {
		t.Error("Mkdir after Close: got no error")
	}
}
