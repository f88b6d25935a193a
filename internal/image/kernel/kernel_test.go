package kernel_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"

	"github.com/mayfly-vm/mayfly/internal/image/kernel"
)

// elfFile returns an ELF file with one section and, if notes is not empty, one
// note segment.
func elfFile(section string, data, notes []byte) []byte {
	const ehdr, phdr, shdr = 64, 56, 64
	le := binary.LittleEndian
	names := []byte("\x00" + section + "\x00.shstrtab\x00")
	var out []byte
	phnum := 0
	if len(notes) > 0 {
		phnum = 1
	}
	dataAt := uint64(ehdr + phnum*phdr)
	notesAt := dataAt + uint64(len(data))
	namesAt := notesAt + uint64(len(notes))
	shAt := namesAt + uint64(len(names))

	out = append(out, "\x7fELF\x02\x01\x01"...)
	out = append(out, make([]byte, 9)...)
	out = le.AppendUint16(out, 2)  // executable
	out = le.AppendUint16(out, 62) // x86-64
	out = le.AppendUint32(out, 1)
	out = le.AppendUint64(out, 0)
	out = le.AppendUint64(out, ehdr)
	out = le.AppendUint64(out, shAt)
	out = le.AppendUint32(out, 0)
	for _, v := range []int{ehdr, phdr, phnum, shdr, 3, 2} {
		out = le.AppendUint16(out, uint16(v))
	}
	if phnum == 1 {
		out = le.AppendUint32(out, 4) // PT_NOTE
		out = le.AppendUint32(out, 4)
		for _, v := range []uint64{notesAt, 0, 0, uint64(len(notes)), uint64(len(notes)), 4} {
			out = le.AppendUint64(out, v)
		}
	}
	out = append(out, data...)
	out = append(out, notes...)
	out = append(out, names...)
	header := func(name, kind uint32, offset, size uint64) {
		out = le.AppendUint32(out, name)
		out = le.AppendUint32(out, kind)
		for _, v := range []uint64{0, 0, offset, size, 0, 1, 0} {
			out = le.AppendUint64(out, v)
		}
	}
	header(0, 0, 0, 0)
	header(1, 1, dataAt, uint64(len(data)))
	header(uint32(2+len(section)), 3, namesAt, uint64(len(names)))
	return out
}

func note(kind uint32, name string) []byte {
	var out []byte
	for _, v := range []uint32{uint32(len(name)), 4, kind} {
		out = binary.LittleEndian.AppendUint32(out, v)
	}
	return append(append(out, name...), 1, 2, 3, 4)
}

func vmlinux() []byte {
	notes := append(note(3, "GNU\x00"), note(18, "Xen\x00")...)
	return elfFile(".text", bytes.Repeat([]byte("kernel"), 1000), notes)
}

func module(modinfo string) []byte { return elfFile(".modinfo", []byte(modinfo), nil) }

// bzImage wraps a payload as the kernel's build does: appended to it is the
// size of its contents.
func bzImage(payload []byte, size int, ownSize bool) []byte {
	if !ownSize {
		payload = binary.LittleEndian.AppendUint32(bytes.Clone(payload), uint32(size))
	}
	out := make([]byte, 2*512+16)
	out[0x1f1] = 1
	copy(out[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(out[0x206:], 0x20f)
	binary.LittleEndian.PutUint32(out[0x248:], 16)
	binary.LittleEndian.PutUint32(out[0x24c:], uint32(len(payload)))
	return append(append(out, payload...), "trailer"...)
}

func pack(t testing.TB, format string, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	var err error
	switch format {
	case "gzip":
		w := gzip.NewWriter(&buf)
		_, err = w.Write(data)
		err = errors.Join(err, w.Close())
	case "lz4":
		w := lz4.NewWriter(&buf)
		err = w.Apply(lz4.LegacyOption(true))
		if err == nil {
			_, err = w.Write(data)
		}
		err = errors.Join(err, w.Close())
	case "xz":
		var w *xz.Writer
		if w, err = xz.NewWriter(&buf); err == nil {
			_, err = w.Write(data)
			err = errors.Join(err, w.Close())
		}
	case "zstd":
		var w *zstd.Encoder
		if w, err = zstd.NewWriter(&buf); err == nil {
			_, err = w.Write(data)
			err = errors.Join(err, w.Close())
		}
	}
	if err != nil {
		t.Fatalf("pack %s: %v", format, err)
	}
	return buf.Bytes()
}

func TestDecompress(t *testing.T) {
	want := vmlinux()
	for _, format := range []string{"gzip", "lz4", "xz", "zstd"} {
		image := bzImage(pack(t, format, want), len(want), format == "gzip")
		got, err := kernel.Decompress(image)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("Decompress(%s) = %d bytes, %v; want %d bytes", format, len(got), err, len(want))
		}
		if _, err := kernel.Decompress(image[:len(image)/2]); err == nil {
			t.Errorf("Decompress(half a %s image) succeeded", format)
		}
	}
	for _, image := range [][]byte{nil, make([]byte, 4096), bzImage([]byte("unknown format"), 7, false)} {
		if _, err := kernel.Decompress(image); err == nil {
			t.Errorf("Decompress(%d bytes) succeeded", len(image))
		}
	}
}

func TestHasPVH(t *testing.T) {
	if !kernel.HasPVH(vmlinux()) {
		t.Error("HasPVH(kernel with the note) = false")
	}
	if kernel.HasPVH(elfFile(".text", []byte("x"), note(18, "GNU\x00"))) {
		t.Error("HasPVH(kernel without the note) = true")
	}
	if kernel.HasPVH([]byte("no ELF")) {
		t.Error("HasPVH(no ELF) = true")
	}
}

func TestDependencies(t *testing.T) {
	got, err := kernel.Dependencies(module("license=GPL\x00depends=net-failover,failover\x00softdep=pre: crc32c crc-x post: foo\x00depends="))
	want := kernel.Deps{Hard: []string{"net_failover", "failover"}, Soft: []string{"crc32c", "crc_x"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Dependencies() = %v, difference (-want +got):\n%s", err, diff)
	}
	if _, err := kernel.Dependencies(elfFile(".text", nil, nil)); err == nil {
		t.Error("Dependencies(no .modinfo) succeeded")
	}
}

// tree makes an unpacked kernel package.
func tree(t *testing.T, modules map[string]string) string {
	t.Helper()
	root := t.TempDir()
	image := vmlinux()
	dir := "usr/lib/modules/6.12.1-cloud/"
	files := map[string][]byte{
		"boot/vmlinuz-6.12.1-cloud": bzImage(pack(t, "zstd", image), len(image), false),
		dir + "modules.builtin":     []byte("kernel/fs/ext4/ext4.ko\nkernel/drivers/char/virtio-console.ko\n"),
	}
	for name, modinfo := range modules {
		files[dir+"kernel/"+name+".ko.xz"] = pack(t, "xz", module(modinfo))
	}
	for name, data := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestLoad(t *testing.T) {
	root := tree(t, map[string]string{
		"fs/erofs/erofs":       "depends=libcrc32c",
		"lib/libcrc32c":        "softdep=pre: crc32c",
		"net/virtio-net":       "depends=net_failover,failover",
		"net/net_failover":     "depends=failover",
		"net/failover":         "depends=",
		"net/never_asked_for":  "depends=",
		"drivers/not_a_module": "",
	})
	k, err := kernel.Load(root, []string{"virtio_console", "virtio_net", "erofs", "ext4"})
	if err != nil {
		t.Fatal(err)
	}
	if k.Version != "6.12.1-cloud" || !k.PVH || !bytes.Equal(k.Image, vmlinux()) {
		t.Errorf("Load() = version %q, PVH %v, %d bytes", k.Version, k.PVH, len(k.Image))
	}
	var names []string
	for _, m := range k.Modules {
		names = append(names, m.Name)
	}
	if diff := cmp.Diff([]string{"failover", "net_failover", "virtio_net", "libcrc32c", "erofs"}, names); diff != "" {
		t.Errorf("modules (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"ext4", "virtio_console"}, k.Builtin); diff != "" {
		t.Errorf("built in (-want +got):\n%s", diff)
	}
	if _, err := kernel.Load(root, []string{"overlay"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load(missing module) = %v; want fs.ErrNotExist", err)
	}
	root = tree(t, map[string]string{"a": "depends=b", "b": "depends=a"})
	if _, err := kernel.Load(root, []string{"a"}); err == nil {
		t.Error("Load(modules in a circle) succeeded")
	}
}

func TestWriteTree(t *testing.T) {
	root := tree(t, map[string]string{"net/failover": "depends=", "fs/erofs/erofs": "depends=libcrc32c"})
	lib := filepath.Join(root, "usr/lib/modules/6.12.1-cloud")
	if err := os.Symlink("/usr/src/linux", filepath.Join(lib, "build")); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := kernel.WriteTree(&out, root, "6.12.1-cloud"); err != nil {
		t.Fatal(err)
	}
	files := make(map[string]int64)
	for tr := tar.NewReader(&out); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			files[h.Name] = h.Size
		} else if h.Typeflag != tar.TypeDir {
			t.Errorf("%s has type %c", h.Name, h.Typeflag)
		}
	}
	for _, name := range []string{"modules.builtin", "kernel/net/failover.ko.xz", "kernel/fs/erofs/erofs.ko.xz"} {
		fi, err := os.Stat(filepath.Join(lib, name))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := files["usr/lib/modules/6.12.1-cloud/"+name]; !ok || got != fi.Size() {
			t.Errorf("%s has %d bytes in the archive, which holds %v", name, got, files)
		}
	}
	if err := kernel.WriteTree(io.Discard, root, "6.13"); err == nil {
		t.Error("WriteTree(another version) = nil; want an error")
	}
}

func FuzzDecompress(f *testing.F) {
	image := vmlinux()
	for _, format := range []string{"gzip", "lz4", "xz", "zstd"} {
		f.Add(bzImage(pack(f, format, image), len(image), format == "gzip"))
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		if vmlinux, err := kernel.Decompress(image); err == nil {
			kernel.HasPVH(vmlinux)
		}
	})
}

func FuzzDependencies(f *testing.F) {
	f.Add(module("depends=a,b\x00softdep=pre: c post: d"))
	f.Add(vmlinux())
	f.Fuzz(func(t *testing.T, ko []byte) {
		kernel.HasPVH(ko)
		deps, err := kernel.Dependencies(ko)
		if err == nil && len(deps.Hard)+len(deps.Soft) > len(ko) {
			t.Errorf("more dependencies than bytes")
		}
	})
}
