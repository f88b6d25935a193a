package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image/debian"
	"github.com/mayfly-vm/mayfly/internal/image/kernel"
	"github.com/mayfly-vm/mayfly/internal/image/tool"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// testProgram is the content of the guest program of stores that a child opens.
const testProgram = "guest program"

func guestProgram(content string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(content), 0, int64(len(content)))
}

func testStore(t *testing.T) *Store {
	t.Helper()
	s, err := Open(Options{Dir: filepath.Join(t.TempDir(), "store"), BuildDir: t.TempDir(), Agent: guestProgram("guest program")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.makeDirs(); err != nil {
		t.Fatal(err)
	}
	return s
}

// writeTar returns the source of a layer with one file.
func writeTar(content string) func(io.Writer) error {
	return func(w io.Writer) error {
		tw := tar.NewWriter(w)
		err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "etc/file", Mode: 0o644, Size: int64(len(content))})
		if err == nil {
			_, err = io.WriteString(tw, content)
		}
		return errors.Join(err, tw.Close())
	}
}

// fakeImage puts a small image into the store, as build does with a real one.
func fakeImage(t *testing.T, s *Store, pi plan.Image) Image {
	t.Helper()
	w, err := s.resolve(pi)
	if err != nil {
		t.Fatal(err)
	}
	b := &builder{Store: s, want: w, report: newReporter(nil)}
	layer := func(r recipe, content string) LayerRef {
		id, err := b.once(t.Context(), r, space{}, func() (string, error) {
			return s.addLayer(t.Context(), r, writeTar(content))
		})
		if err != nil {
			t.Fatal(err)
		}
		return LayerRef{r.Role, id}
	}
	m := Manifest{Version: 1, Key: w.key, Created: now(), Image: w.image, Agents: w.agents}
	base := layer(baseRecipe(w.suite, ""), "base")
	if len(w.image.Packages) > 0 {
		m.Layers = append(m.Layers, layer(packagesRecipe(w.suite, base.DiffID, w.packages()), strings.Join(w.image.Packages, " ")))
	}
	m.Layers = append(m.Layers, base)
	m.Kernel, err = b.once(t.Context(), kernelRecipe(w.suite), space{}, func() (string, error) {
		dir, release, err := s.temp()
		if err != nil {
			return "", err
		}
		defer release()
		k := &kernel.Kernel{Version: "6.12", PVH: true, Image: []byte("vmlinux"), Modules: []kernel.Module{{Name: "virtio_blk", Data: []byte("ko")}}}
		return s.addKernel(k, []byte("tar"), []string{"linux-image 6.12"}, filepath.Join(dir, "kernel"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.writeJSON(s.path(dirImages, m.Key+".json"), m); err != nil {
		t.Fatal(err)
	}
	fakeScratch(t, s)
	im, err := s.Ensure(t.Context(), pi, nil)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// fakeScratch stands in for mkfs.ext4, which not every machine has.
func fakeScratch(t *testing.T, s *Store) {
	t.Helper()
	data := make([]byte, 4096)
	copy(data[1024+0x38:], "\x53\xef")
	if err := os.WriteFile(s.scratchPath(), data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(s.scratchPath(), plan.DiskSize); err != nil {
		t.Fatal(err)
	}
}

var trixie = plan.Image{Base: "debian:trixie"}

func withPackages(names ...string) plan.Image {
	return plan.Image{Base: "debian:trixie", Packages: names}
}

func TestResolve(t *testing.T) {
	s := testStore(t)
	keyOf := func(pi plan.Image) string {
		w, err := s.resolve(pi)
		if err != nil {
			t.Fatal(err)
		}
		return w.key
	}
	if keyOf(withPackages("git", "gcc", "gcc")) == keyOf(trixie) {
		t.Error("packages are not part of the key")
	}
	if keyOf(withPackages("git", "gcc", "gcc")) != keyOf(withPackages("gcc", "git")) {
		t.Error("order or duplicates are part of the key")
	}
	if keyOf(plan.Image{Base: "debian:trixie", Agents: []string{"claude"}}) == keyOf(trixie) {
		t.Error("agents are not part of the key")
	}
	if keyOf(plan.Image{Base: "debian:trixie", Init: plan.InitSystemd}) == keyOf(withPackages(systemdPackages()...)) {
		t.Error("process 1 is not part of the key")
	}
	for _, tt := range []struct {
		image plan.Image
		code  fault.Code
	}{
		{plan.Image{}, fault.ImageBaseUnknown},
		{plan.Image{Base: "debian:potato"}, fault.ImageBaseUnknown},
		{plan.Image{Base: "debian:trixie", Packages: []string{"$(reboot)"}}, fault.PackageNameInvalid},
		{plan.Image{Base: "debian:trixie", Agents: []string{"clippy"}}, fault.AgentNotLocked},
		{plan.Image{Base: "debian:trixie", Init: "runit"}, fault.ImageInitUnknown},
	} {
		if _, err := s.Lookup(tt.image); fault.CodeOf(err) != tt.code {
			t.Errorf("Lookup(%+v) = %v, %q; want %s", tt.image, err, fault.CodeOf(err), tt.code)
		}
	}
}

func TestLayer(t *testing.T) {
	s := testStore(t)
	first, err := s.addLayer(t.Context(), recipe{Role: RoleBase}, writeTar("content"))
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(s.layerPath(first))
	if err != nil {
		t.Fatal(err)
	}
	if fi.Size() != plan.DiskSize || fi.Mode() != 0o444 {
		t.Errorf("layer has %d bytes, mode %v; want %d, read-only", fi.Size(), fi.Mode(), int64(plan.DiskSize))
	}
	again, err := s.addLayer(t.Context(), recipe{Role: RolePackages}, writeTar("content"))
	if err != nil || again != first {
		t.Errorf("the same archive gives layer %s, %v; want %s", again, err, first)
	}
	im, closer, err := s.openLayer(first)
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	r, err := im.Open("etc/file")
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(r); err != nil || string(data) != "content" {
		t.Errorf("etc/file = %q, %v", data, err)
	}
}

// A layer whose source fails, ends early or is interrupted leaves nothing.
func TestLayerErrors(t *testing.T) {
	s := testStore(t)
	broken := errors.New("broken")
	ctx, cancel := context.WithCancel(t.Context())
	tests := map[string]struct {
		write func(io.Writer) error
		want  error
	}{
		"failing": {func(w io.Writer) error { return errors.Join(writeTar("x")(w), broken) }, broken},
		"cut short": {func(w io.Writer) error {
			var buf bytes.Buffer
			if err := writeTar(strings.Repeat("x", 2000))(&buf); err != nil {
				return err
			}
			_, err := w.Write(buf.Bytes()[:1000])
			return err
		}, io.ErrUnexpectedEOF},
		"no archive": {func(w io.Writer) error {
			_, err := w.Write(bytes.Repeat([]byte("x"), 10<<20))
			return err
		}, tar.ErrHeader},
		"interrupted": {func(w io.Writer) error {
			cancel()
			_, err := io.Copy(w, strings.NewReader(strings.Repeat("x", 10<<20)))
			return err
		}, context.Canceled},
	}
	for name, tt := range tests {
		ctx := ctx
		if name != "interrupted" {
			ctx = t.Context()
		}
		if _, err := s.addLayer(ctx, recipe{Role: RoleBase}, tt.write); !errors.Is(err, tt.want) {
			t.Errorf("%s: addLayer() = %v; want %v", name, err, tt.want)
		}
	}
	checkFiles(t, s, nil)
}

// checkFiles compares what is in the store, locks and kernels' files aside.
func checkFiles(t *testing.T, s *Store, want []string) {
	t.Helper()
	var got []string
	for _, dir := range []string{dirLayers, dirKernels, dirBoot, dirScratch, dirImages, dirRecipes, dirTemp} {
		entries, err := os.ReadDir(s.path(dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			got = append(got, s.path(dir, e.Name()))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files in the store (-want +got):\n%s", diff)
	}
}

func TestOnce(t *testing.T) {
	s := testStore(t)
	r := recipe{Role: RoleBase, Suite: "trixie"}
	var mu sync.Mutex
	var made int
	var waited []string
	var ids []string
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			report := newReporter(func(e Event) {
				if e.Phase == PhaseWait {
					mu.Lock()
					defer mu.Unlock()
					waited = append(waited, e.Text)
				}
			})
			// A Store of its own, as in another process.
			s, err := Open(s.opts)
			if err != nil {
				t.Error(err)
				return
			}
			b := &builder{Store: s, report: report}
			id, err := b.once(t.Context(), r, space{}, func() (string, error) {
				mu.Lock()
				made++
				mu.Unlock()
				time.Sleep(200 * time.Millisecond)
				return s.addLayer(t.Context(), r, writeTar(fmt.Sprint(time.Now())))
			})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			ids = append(ids, id)
		})
	}
	wg.Wait()
	slices.Sort(ids)
	if made != 1 || len(slices.Compact(ids)) != 1 {
		t.Errorf("built %d times, layers %q; want once", made, ids)
	}
	if len(waited) == 0 || !strings.Contains(waited[0], "waiting for another mayfly") {
		t.Errorf("waiting was announced by %q", waited)
	}
}

func TestLookup(t *testing.T) {
	s := testStore(t)
	if _, err := s.Lookup(trixie); !errors.Is(err, ErrNotBuilt) || fault.CodeOf(err) != fault.ImageNotBuilt {
		t.Errorf("Lookup(nothing) = %v, %q; want ErrNotBuilt", err, fault.CodeOf(err))
	}
	im := fakeImage(t, s, withPackages("git"))
	got, err := s.Lookup(withPackages("git"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(im, got); diff != "" {
		t.Errorf("Lookup() differs from Ensure() (-ensure +lookup):\n%s", diff)
	}
	if len(got.Layers) != 2 || got.Layers[0].Role != RolePackages || got.Layers[1].Role != RoleBase {
		t.Errorf("layers = %+v; want packages over base", got.Layers)
	}
	for _, path := range got.Files() {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	initramfs, err := os.ReadFile(got.Initramfs)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"guest program", "lib/modules/virtio_blk.ko", "virtio_blk.ko\n", "dev/console"} {
		if !bytes.Contains(initramfs, []byte(want)) {
			t.Errorf("the initramfs has no %q", want)
		}
	}
	// A newer mayfly brings another guest program.
	opts := s.opts
	opts.Agent = guestProgram("newer")
	if s, err = Open(opts); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lookup(withPackages("git")); !errors.Is(err, ErrNotBuilt) {
		t.Errorf("Lookup(with a newer guest program) = %v; want ErrNotBuilt", err)
	}
	newer, err := s.Ensure(t.Context(), withPackages("git"), nil)
	if err != nil || newer.Initramfs == im.Initramfs {
		t.Errorf("Ensure() = initramfs %s, %v; want a new one", newer.Initramfs, err)
	}
}

// A layer that was cut short is found at every start.
func TestLookupDamaged(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"truncated":  func(path string) error { return os.Truncate(path, 100<<10) },
		"empty":      func(path string) error { return os.Truncate(path, 0) },
		"removed":    os.Remove,
		"superblock": func(path string) error { return writeAt(path, 1024, "xxxx") },
	} {
		s := testStore(t)
		im := fakeImage(t, s, trixie)
		if err := os.Chmod(im.Layers[0].Path, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := damage(im.Layers[0].Path); err != nil {
			t.Fatal(err)
		}
		for call, fn := range map[string]func() (Image, error){
			"Lookup": func() (Image, error) { return s.Lookup(trixie) },
			"Ensure": func() (Image, error) { return s.Ensure(t.Context(), trixie, nil) },
		} {
			_, err := fn()
			if err == nil || !strings.Contains(err.Error(), im.Layers[0].DiffID[:12]) || fault.CodeOf(err) != fault.ImageDamaged {
				t.Errorf("%s: %s() = %v, %q; want an error that names the layer", name, call, err, fault.CodeOf(err))
			}
		}
	}
}

func writeAt(path string, off int64, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(text), off)
	return errors.Join(err, f.Close())
}

func TestListFindRemove(t *testing.T) {
	s := testStore(t)
	a := fakeImage(t, s, trixie)
	b := fakeImage(t, s, withPackages("git"))
	list, err := s.List()
	if err != nil || len(list) != 2 {
		t.Fatalf("List() = %d images, %v; want 2", len(list), err)
	}
	for _, im := range []Image{a, b} {
		d, err := s.Inspect(im.Key[:12])
		if err != nil || d.Key != im.Key || len(d.Sidecars) != len(im.Layers) || d.KernelInfo.ID != im.Kernel.ID {
			t.Errorf("Inspect(%.12s) = %+v, %v", im.Key, d, err)
		}
	}
	for _, prefix := range []string{"", "nothing"} {
		if _, err := s.Remove(t.Context(), prefix); fault.CodeOf(err) != fault.ImageKeyUnclear {
			t.Errorf("Remove(%q) = %v, %q; want %s", prefix, err, fault.CodeOf(err), fault.ImageKeyUnclear)
		}
	}
	if _, err := s.Remove(t.Context(), a.Key[:12]); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lookup(trixie); !errors.Is(err, ErrNotBuilt) {
		t.Errorf("Lookup(removed) = %v; want ErrNotBuilt", err)
	}
	if _, err := s.Lookup(withPackages("git")); err != nil {
		t.Errorf("Lookup(the other) = %v", err)
	}
}

func TestNoSpace(t *testing.T) {
	s := testStore(t)
	err := s.checkSpace(space{store: 1 << 60})
	full, ok := errors.AsType[*NoSpaceError](err)
	if !ok || full.Need != 1<<60 || full.Available == 0 || fault.CodeOf(err) != fault.NoSpaceForImage {
		t.Errorf("checkSpace(2^60) = %v, %q; want what is needed and available", err, fault.CodeOf(err))
	}
	if err := s.checkSpace(space{store: 1, build: 1}); err != nil {
		t.Errorf("checkSpace(1) = %v", err)
	}
	for _, err := range []error{
		fmt.Errorf("write: %w", &fs.PathError{Op: "write", Path: "x", Err: unix.ENOSPC}),
		fmt.Errorf("base: %w", &tool.Error{Name: "mmdebstrap", Tail: "dpkg: error: cannot copy\nNo space left on device", Err: errors.New("exit status 2")}),
	} {
		explained := s.explainSpace(err, space{store: 1, build: 1})
		if _, ok := errors.AsType[*NoSpaceError](explained); !ok || fault.CodeOf(explained) != fault.NoSpaceForImage {
			t.Errorf("explainSpace(%v) = %v; want a *NoSpaceError", err, explained)
		}
	}
	other := &debian.UnknownPackageError{Names: []string{"x"}}
	if err := s.explainSpace(other, space{}); err != error(other) {
		t.Errorf("explainSpace(another error) = %v", err)
	}
}
