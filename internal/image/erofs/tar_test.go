package erofs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tarItem is a member of an archive.
type tarItem struct {
	tar.Header
	content string
}

func tarReg(name, content string) tarItem {
	return tarItem{tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o644, ModTime: time.Unix(1, 0)}, content}
}

func tarDir(name string) tarItem {
	return tarItem{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: time.Unix(1, 0)}, ""}
}

func tarLink(flag byte, name, target string) tarItem {
	return tarItem{tar.Header{Typeflag: flag, Name: name, Linkname: target, Mode: 0o777, ModTime: time.Unix(1, 0)}, ""}
}

// makeTar makes an archive.
func makeTar(t testing.TB, items ...tarItem) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, it := range items {
		if err := tw.WriteHeader(&it.Header); err != nil {
			t.Fatalf("%q: %v", it.Name, err)
		}
		if _, err := tw.Write([]byte(it.content)); err != nil {
			t.Fatalf("%q: %v", it.Name, err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// fromTar makes an image of an archive.
func fromTar(t testing.TB, r io.Reader, o TarOptions) *os.File {
	t.Helper()
	f, w := create(t, Options{})
	if err := FromTar(w, r, o); err != nil {
		t.Fatalf("FromTar() = %v", err)
	}
	finish(t, w)
	fsck(t, f)
	return f
}

// summary describes an image in one line for each file.
func summary(t testing.TB, f *os.File) []string {
	t.Helper()
	var lines []string
	for _, it := range readAll(t, open(t, f)) {
		line := fmt.Sprintf("%s %06o", it.Path, it.Mode)
		switch {
		case it.Link != "":
			line += " link " + it.Link
		case it.Mode&unix.S_IFMT == unix.S_IFLNK:
			line += " -> " + it.Target
		case it.Mode&unix.S_IFMT == unix.S_IFCHR, it.Mode&unix.S_IFMT == unix.S_IFBLK:
			line += fmt.Sprintf(" %d,%d", unix.Major(it.Rdev), unix.Minor(it.Rdev))
		}
		if it.content != "" {
			line += fmt.Sprintf(" %.20q", it.content)
		}
		if it.UID|it.GID != 0 {
			line += fmt.Sprintf(" %d:%d", it.UID, it.GID)
		}
		if n := it.MTime.Nanosecond(); n != 0 {
			line += fmt.Sprintf(" %dns", n)
		}
		for k, v := range it.Xattrs {
			line += fmt.Sprintf(" %s=%q", k, v)
		}
		lines = append(lines, line)
	}
	return lines
}

func TestFromTar(t *testing.T) {
	long := strings.Repeat("long/", 50) + strings.Repeat("x", 200)
	gnu := tarReg(long+"g", "gnu")
	gnu.Format = tar.FormatGNU
	pax := tarReg(long+"p", "pax")
	pax.PAXRecords = map[string]string{
		"SCHILY.xattr.user.zero":            "a\x00b",
		"SCHILY.xattr.com.apple.quarantine": "not of Linux",
	}
	owner := tarReg("owner", "")
	owner.Uid, owner.Gid, owner.ModTime, owner.Format = 1<<31, 1<<32-2, time.Unix(1, 987654321), tar.FormatPAX
	null := tarItem{tar.Header{Typeflag: tar.TypeChar, Name: "null", Mode: 0o666, Devmajor: 1, Devminor: 3}, ""}
	disk := tarItem{tar.Header{Typeflag: tar.TypeBlock, Name: "disk", Mode: 0o660, Devmajor: 259, Devminor: 300}, ""}
	late := tarDir("implied")
	late.Mode = 0o1777
	root := tarDir("./")
	root.Mode = 0o700
	setuid := tarReg("setuid", "")
	setuid.Mode = 0o4755 | unix.S_IFREG // some archives hold the type as well

	for _, tc := range []struct {
		name  string
		items []tarItem
		oci   bool
		want  []string
	}{
		{"files", []tarItem{
			root, null, disk, owner, setuid, gnu, pax,
			tarReg("./dot", "1"), tarReg("/absolute", "2"), tarReg("a//b/./c", "3"),
			tarReg("implied/first", ""), late,
			tarLink(tar.TypeSymlink, "symlink", "../anywhere"),
			tarItem{tar.Header{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o600}, ""},
			tarReg(".wh.plain", ""), tarReg("\xff\xfe", ""),
		}, false, slices.Concat([]string{
			". 040700",
			".wh.plain 100644",
			"a 040755", "a/b 040755", `a/b/c 100644 "3"`,
			`absolute 100644 "2"`,
			"disk 060660 259,300",
			`dot 100644 "1"`,
			"fifo 010600",
			"implied 041777", "implied/first 100644",
		}, longDirs(50), []string{
			long + `g 100644 "gnu"`,
			long + `p 100644 "pax" user.zero="a\x00b"`,
			"null 020666 1,3",
			"owner 100644 2147483648:4294967294 987654321ns",
			"setuid 104755",
			"symlink 120777 -> ../anywhere",
			"\xff\xfe 100644",
		})},
		{"replaced", []tarItem{
			tarReg("twice", "old"), tarReg("twice", "new"),
			tarReg("dir/a", ""), tarDir("dir"), tarReg("dir/b", ""),
			tarReg("gone/a", "1"), tarLink(tar.TypeLink, "saved", "gone/a"), tarReg("gone", "file"),
			tarReg("other", "file"), tarDir("other"),
		}, false, []string{
			". 040755", "dir 040755", "dir/a 100644", "dir/b 100644", `gone 100644 "file"`, "other 040755",
			`saved 100644 "1"`, `twice 100644 "new"`,
		}},
		{"links", []tarItem{
			tarReg("a", "content"), tarLink(tar.TypeLink, "b", "a"), tarLink(tar.TypeLink, "c", "/b"), tarLink(tar.TypeLink, "a", "a"),
			tarLink(tar.TypeSymlink, "s", "a"), tarLink(tar.TypeLink, "t", "./s"),
		}, false, []string{
			". 040755", `a 100644 "content"`, `b 100644 link a "content"`, `c 100644 link a "content"`,
			"s 120777 -> a", "t 120777 link s",
		}},
		{"below symbolic links", []tarItem{
			tarDir("usr/lib/"), tarLink(tar.TypeSymlink, "lib", "usr/lib"), tarReg("lib/x", "1"),
			tarLink(tar.TypeSymlink, "abs", "/usr/../lib"), tarReg("abs/y", "2"), tarLink(tar.TypeLink, "abs/z", "lib/x"),
			tarLink(tar.TypeSymlink, "out", "../../.."), tarReg("out/root", "3"),
			tarLink(tar.TypeSymlink, "dangling", "not/there"), tarReg("dangling/w", "4"),
			tarDir("dangling/"),
		}, false, []string{
			". 040755", "abs 120777 -> /usr/../lib", "dangling 040755", "lib 120777 -> usr/lib",
			"not 040755", "not/there 040755", `not/there/w 100644 "4"`, "out 120777 -> ../../..", `root 100644 "3"`,
			"usr 040755", "usr/lib 040755", `usr/lib/x 100644 "1"`, `usr/lib/y 100644 "2"`, `usr/lib/z 100644 link usr/lib/x "1"`,
		}},
		{"whiteouts", []tarItem{
			tarReg("dir/.wh.gone", ""), tarReg(".wh.file", ""), tarReg("file", "back"),
			tarReg("sub/new", ""), tarReg(".wh.sub", ""),
			tarReg("opaque/.wh..wh..opq", ""), tarReg(".wh..wh.plnk", ""), tarReg(".wh.gone", ""), tarReg(".wh.gone", ""),
		}, true, []string{
			". 040755", "dir 040755", "dir/gone 020000 0,0", `file 100644 "back"`, "gone 020000 0,0",
			`opaque 040755 trusted.overlay.opaque="y"`, `sub 040755 trusted.overlay.opaque="y"`, "sub/new 100644",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := fromTar(t, makeTar(t, tc.items...), TarOptions{OCI: tc.oci})
			if got := summary(t, f); !slices.Equal(got, tc.want) {
				t.Errorf("image holds\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
			}
		})
	}
}

// longDirs are the directories long, long/long and so on.
func longDirs(n int) []string {
	var lines []string
	for i := range n {
		lines = append(lines, strings.TrimSuffix(strings.Repeat("long/", i+1), "/")+" 040755")
	}
	return lines
}

func TestFromTarErrors(t *testing.T) {
	device := tarItem{tar.Header{Typeflag: tar.TypeChar, Name: "d", Devmajor: 1 << 12}, ""}
	multi := tarItem{tar.Header{Typeflag: 'V', Name: "volume"}, ""}
	for _, tc := range []struct {
		name  string
		items []tarItem
		want  string
	}{
		{"name leads out", []tarItem{tarReg("a/../../b", "")}, `".."`},
		{"link leads out", []tarItem{tarLink(tar.TypeLink, "a", "../../etc/passwd")}, `".."`},
		{"link to nothing", []tarItem{tarLink(tar.TypeLink, "a", "b")}, "does not exist"},
		{"link to directory", []tarItem{tarDir("b"), tarLink(tar.TypeLink, "a", "b")}, "no hard links of directories"},
		{"below a file", []tarItem{tarReg("a", ""), tarReg("a/b", "")}, "not a directory"},
		{"loop", []tarItem{tarLink(tar.TypeSymlink, "a", "b"), tarLink(tar.TypeSymlink, "b", "a"), tarReg("a/c", "")}, "too many levels"},
		{"long name", []tarItem{tarReg(strings.Repeat("n", 256), "")}, "256 bytes"},
		{"long path", []tarItem{tarReg(strings.Repeat("n/", 2048)+"x", "")}, "4097 bytes"},
		{"root is a file", []tarItem{tarReg("./.", "")}, "must be a directory"},
		{"empty target", []tarItem{tarLink(tar.TypeSymlink, "a", "")}, "bad target"},
		{"device", []tarItem{device}, "out of range"},
		{"type", []tarItem{multi}, "not supported"},
		{"whiteout of nothing", []tarItem{tarReg(".wh.", "")}, "empty name"},
		{"whiteout of ..", []tarItem{tarReg("a/.wh...", "")}, `".."`},
		{"opaque file", []tarItem{tarReg("a", ""), tarReg("a/.wh..wh..opq", "")}, "not a directory"},
		{"too large", []tarItem{tarReg("a", random(600)), tarReg("b", random(600))}, "may hold 1000 bytes"},
	} {
		_, w := create(t, Options{MaxSize: 1000})
		err := FromTar(w, makeTar(t, tc.items...), TarOptions{OCI: true})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: FromTar() = %v; want an error with %q", tc.name, err, tc.want)
		}
	}
	// The root's xattrs fit, and the mark comes on top.
	root := tarDir("./")
	root.PAXRecords = map[string]string{"SCHILY.xattr.user.large": random(2850)}
	_, w := create(t, Options{})
	if err := FromTar(w, makeTar(t, root, tarReg(".wh..wh..opq", "")), TarOptions{OCI: true}); err != nil {
		t.Error(err)
	}
	if _, err := w.Finish(); err == nil {
		t.Error("Finish with too many xattrs of the root: got no error")
	}
	_, w = create(t, Options{})
	whole := makeTar(t, tarReg("a", random(5000))).Bytes()
	if err := FromTar(w, bytes.NewReader(whole[:3000]), TarOptions{}); err == nil {
		t.Error("FromTar of a truncated archive: got no error")
	}
}

// TestSparseTar reads what GNU tar makes of sparse files, in all its formats.
func TestSparseTar(t *testing.T) {
	gnutar, err := exec.LookPath("tar")
	if err != nil {
		t.Skip("tar is not installed")
	}
	dir := t.TempDir()
	src, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	data := random(10000)
	if _, err := src.WriteAt([]byte(data), 8<<20); err != nil {
		t.Fatal(err)
	}
	if err := src.Truncate(16 << 20); err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("\x00", 8<<20) + data + strings.Repeat("\x00", 8<<20-len(data))
	for _, args := range [][]string{{"--format=gnu"}, {"--format=pax", "--sparse-version=0.1"}, {"--format=pax", "--sparse-version=1.0"}} {
		cmd := exec.Command(gnutar, append(args, "--sparse", "-cf", "-", "-C", dir, "sparse")...)
		archive, err := cmd.Output()
		if err != nil {
			t.Skipf("tar %q: %v; this is not GNU tar", args, err)
		}
		f := fromTar(t, bytes.NewReader(archive), TarOptions{})
		got := readAll(t, open(t, f))
		if len(got) != 2 || got[1].content != want {
			t.Errorf("tar %q: the content differs", args)
		}
		if fi, err := f.Stat(); err != nil || fi.Size() > 1<<20 {
			t.Errorf("tar %q: image has %d bytes, %v; want few", args, fi.Size(), err)
		}
	}
}

// TestToTar turns an image into an archive and back.
func TestToTar(t *testing.T) {
	items := nasty()
	items = slices.DeleteFunc(items, func(it item) bool { return it.Mode&unix.S_IFMT == unix.S_IFSOCK })
	im := open(t, build(t, items))
	var a, b bytes.Buffer
	for _, w := range []io.Writer{&a, &b} {
		if err := ToTar(im, w, TarOptions{}); err != nil {
			t.Fatalf("ToTar() = %v", err)
		}
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("ToTar gave other bytes the second time")
	}
	got := readAll(t, open(t, fromTar(t, &a, TarOptions{})))
	slices.SortFunc(items, func(a, b item) int { return comparePaths(a.Path, b.Path) })
	compare(t, got, items)

	if err := ToTar(im, io.Discard, TarOptions{MaxSize: 1000}); err == nil {
		t.Error("ToTar of more than MaxSize: got no error")
	}
}

func TestToTarOCI(t *testing.T) {
	im := func(items ...tarItem) *Image {
		return open(t, fromTar(t, makeTar(t, items...), TarOptions{OCI: true}))
	}
	layer := []tarItem{
		tarDir("./"), tarReg(".wh.gone", ""), tarDir("dir/"), tarReg("dir/.wh..wh..opq", ""), tarReg("dir/file", "x"),
		tarLink(tar.TypeLink, "link", "dir/file"),
	}
	var b bytes.Buffer
	if err := ToTar(im(layer...), &b, TarOptions{OCI: true}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for tr := tar.NewReader(&b); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%c %s %d", h.Typeflag, h.Name+h.Linkname, len(h.PAXRecords)))
	}
	want := []string{"5 ./ 0", "5 dir/ 0", "0 dir/.wh..wh..opq 0", "0 dir/file 0", "0 .wh.gone 0", "1 linkdir/file 0"}
	if !slices.Equal(got, want) {
		t.Errorf("layer holds %q; want %q", got, want)
	}
	named := open(t, build(t, []item{reg(".wh.x", "")}))
	if err := ToTar(named, io.Discard, TarOptions{OCI: true}); err == nil {
		t.Error("ToTar of a file named as a whiteout: got no error")
	}
}

// FuzzFromTar checks that whatever archive is taken gives a good image, and
// that the image's own archive gives the same one again.
func FuzzFromTar(f *testing.F) {
	f.Add(makeTar(f, tarReg("a", "x"), tarDir("d/"), tarLink(tar.TypeLink, "d/l", "a"), tarLink(tar.TypeSymlink, "s", "d"),
		tarReg("s/.wh.y", ""), tarReg("d/.wh..wh..opq", "")).Bytes(), true)
	x := tarReg("x", random(5000))
	x.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "b"}
	f.Add(makeTar(f, x, tarItem{tar.Header{Typeflag: tar.TypeChar, Name: "c", Devmajor: 5, Devminor: 1}, ""}).Bytes(), false)
	f.Fuzz(func(t *testing.T, archive []byte, oci bool) {
		archive = fixChecksums(archive)
		first := fuzzTar(t, archive, TarOptions{OCI: oci})
		if first == nil {
			return
		}
		second := fuzzTar(t, first, TarOptions{})
		if !bytes.Equal(first, second) {
			t.Error("the image's archive gives another image")
		}
	})
}

// fixChecksums makes the headers of a mutated archive valid again, for most
// mutations would get no further than that.
func fixChecksums(archive []byte) []byte {
	b := slices.Clone(archive)
	for off := 0; off+512 <= len(b); off += 512 {
		h := b[off : off+512]
		if isZero(h) {
			continue
		}
		copy(h[148:156], "        ")
		sum := 0
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
		size, err := strconv.ParseInt(strings.Trim(string(h[124:136]), " \x00"), 8, 32)
		if err == nil && size > 0 {
			off += int(alignUp(size, 512))
		}
	}
	return b
}

// fuzzTar makes an image of an archive and an archive of the image.
func fuzzTar(t *testing.T, archive []byte, o TarOptions) []byte {
	f := memFile(t)
	w, err := NewWriter(f, Options{MaxSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := FromTar(w, bytes.NewReader(archive), o); err != nil {
		return nil
	}
	s := finish(t, w)
	im, err := Open(f, s.Size)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := ToTar(im, &b, TarOptions{}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// memFile is an empty file that is nowhere on disk.
func memFile(t testing.TB) *os.File {
	fd, err := unix.MemfdCreate("erofs", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	t.Cleanup(func() { f.Close() })
	return f
}
