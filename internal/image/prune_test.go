package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// filesOf lists what an image has in the store, recipes aside.
func filesOf(s *Store, im Image) []string {
	files := []string{filepath.Dir(im.Kernel.Path), filepath.Dir(im.Initramfs), im.Scratch, s.path(dirImages, im.Key+".json")}
	for _, l := range im.Layers {
		files = append(files, l.Path, s.sidecarPath(l.DiffID))
	}
	return files
}

func TestPrune(t *testing.T) {
	s := testStore(t)
	base := fakeImage(t, s, trixie)
	git := fakeImage(t, s, withPackages("git"))
	want := append(filesOf(s, base), s.layerPath(git.Layers[0].DiffID), s.sidecarPath(git.Layers[0].DiffID), s.path(dirImages, git.Key+".json"))

	prune := func(inUse []string, dry bool) Removed {
		t.Helper()
		r, err := s.Prune(t.Context(), inUse, dry)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	withRecipes := func(n int) []string {
		t.Helper()
		recipes, err := s.names(dirRecipes, ".json")
		if err != nil || len(recipes) != n {
			t.Errorf("%d recipes, %v; want %d", len(recipes), err, n)
		}
		all := slices.Clone(want)
		for _, k := range recipes {
			all = append(all, s.path(dirRecipes, k+".json"))
		}
		return all
	}
	if r := prune(nil, false); len(r.Items) != 0 {
		t.Errorf("Prune() removed %q; want nothing", r.Items)
	}
	checkFiles(t, s, withRecipes(3))

	// What belongs to nothing any more: a layer without a record, a newer and
	// an older initramfs, an older scratch disk.
	for _, junk := range []string{s.layerPath(strings.Repeat("0", 64)), s.path(dirScratch, "v0.ext4")} {
		if err := os.WriteFile(junk, make([]byte, 8192), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(s.path(dirBoot, "old"), 0o755); err != nil {
		t.Fatal(err)
	}
	if r := prune(nil, true); len(r.Items) != 3 || r.Bytes == 0 {
		t.Errorf("Prune(dry) = %+v; want 3 items and their size", r)
	}
	if r := prune(nil, false); len(r.Items) != 3 {
		t.Errorf("Prune() = %+v; want 3 items", r)
	}
	checkFiles(t, s, withRecipes(3))

	// An image that was removed stays as long as a machine has it.
	if _, err := s.Remove(t.Context(), git.Key); err != nil {
		t.Fatal(err)
	}
	want = slices.DeleteFunc(want, func(p string) bool { return p == s.path(dirImages, git.Key+".json") })
	if r := prune(git.Files(), false); len(r.Items) != 0 {
		t.Errorf("Prune(in use) removed %q; want nothing", r.Items)
	}
	checkFiles(t, s, withRecipes(3))
	if r := prune(nil, false); len(r.Items) != 2 {
		t.Errorf("Prune() removed %q; want the layer and its record", r.Items)
	}
	want = filesOf(s, base)
	checkFiles(t, s, withRecipes(2))

	if _, err := s.Remove(t.Context(), base.Key); err != nil {
		t.Fatal(err)
	}
	prune(nil, false)
	want = []string{s.scratchPath()}
	checkFiles(t, s, withRecipes(0))
}

// The remains of a build that died go; those of one that lives stay.
func TestPruneTemps(t *testing.T) {
	s := testStore(t)
	building, err := s.acquire(t.Context(), storeLock, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer building()
	living, release, err := s.temp()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	dead := s.path(dirTemp, "dead")
	tree := filepath.Join(s.opts.BuildDir, buildPrefix+"0-dead")
	precious := filepath.Join(s.opts.BuildDir, "precious")
	for _, dir := range []string{dead, s.path(dirTemp, "odd"), filepath.Join(tree, "etc"), precious} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for file, content := range map[string]string{
		filepath.Join(dead, buildDirFile):                   tree,
		filepath.Join(s.path(dirTemp, "odd"), buildDirFile): precious,
	} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Prune(t.Context(), nil, false); !errors.Is(err, ErrBusy) {
		t.Errorf("Prune(while building) = %v; want ErrBusy", err)
	}
	checkFiles(t, s, []string{living})
	if _, err := os.Stat(tree); !os.IsNotExist(err) {
		t.Errorf("Stat(tree of a dead build) = %v; want not exist", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("Prune() removed a directory that is not a build's: %v", err)
	}
}

// What a killed build has started may still be cleaning up.
func TestPruneWaits(t *testing.T) {
	s := testStore(t)
	_, release, err := s.temp()
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(200*time.Millisecond, release)
	if _, err := s.Prune(t.Context(), nil, false); err != nil {
		t.Fatal(err)
	}
	checkFiles(t, s, nil)
}

func TestPruneBusy(t *testing.T) {
	s := testStore(t)
	release, err := s.acquire(t.Context(), storeLock, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	junk := s.layerPath(strings.Repeat("0", 64))
	if err := os.WriteFile(junk, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prune(t.Context(), nil, false); !errors.Is(err, ErrBusy) || fault.CodeOf(err) != fault.ImageBusy {
		t.Errorf("Prune(while building) = %v, %q; want ErrBusy", err, fault.CodeOf(err))
	}
	if _, err := os.Stat(junk); err != nil {
		t.Errorf("Prune() removed what a build may just have made: %v", err)
	}
}

func TestCheckRepair(t *testing.T) {
	s := testStore(t)
	base := fakeImage(t, s, trixie)
	git := fakeImage(t, s, withPackages("git"))
	check := func() []Problem {
		t.Helper()
		p, err := s.Check(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := check(); len(p) != 0 {
		t.Errorf("Check() = %v; want nothing", p)
	}

	flip := func(path string, off int64) {
		t.Helper()
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := writeAt(path, off, "!"); err != nil {
			t.Fatal(err)
		}
	}
	// One byte in the middle of a layer, which no start of a machine sees.
	flip(git.Layers[0].Path, git.Layers[0].Bytes-1)
	if _, err := s.Lookup(withPackages("git")); err != nil {
		t.Fatalf("Lookup() = %v; the damage was to be a small one", err)
	}
	p := check()
	if len(p) != 1 || p[0].Path != git.Layers[0].Path || !slices.Equal(p[0].Images, []string{git.Key}) {
		t.Fatalf("Check() = %+v; want the layer of one image", p)
	}
	if err := s.Repair(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if p := check(); len(p) != 0 {
		t.Errorf("Check() after Repair() = %v", p)
	}
	if _, err := s.Lookup(withPackages("git")); !errors.Is(err, ErrNotBuilt) {
		t.Errorf("Lookup() after Repair() = %v; want ErrNotBuilt", err)
	}
	if _, err := s.Lookup(trixie); err != nil {
		t.Errorf("Lookup(another image) after Repair() = %v", err)
	}
	git = fakeImage(t, s, withPackages("git"))

	// Everything else at once.
	flip(filepath.Join(filepath.Dir(base.Kernel.Path), "modules", "virtio_blk.ko"), 0)
	flip(base.Scratch, 1024+0x38)
	flip(s.path(dirImages, git.Key+".json"), 0)
	if err := os.Remove(base.Layers[0].Path); err != nil {
		t.Fatal(err)
	}
	p = check()
	if len(p) != 4 {
		t.Errorf("Check() = %v; want kernel, scratch disk, manifest and layer", p)
	}
	if err := s.Repair(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if p := check(); len(p) != 0 {
		t.Errorf("Check() after Repair() = %v", p)
	}
	fakeImage(t, s, trixie)
}

func TestCheckInitramfs(t *testing.T) {
	s := testStore(t)
	im := fakeImage(t, s, trixie)
	if err := os.Chmod(im.Initramfs, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeAt(im.Initramfs, 300, "!"); err != nil {
		t.Fatal(err)
	}
	p, err := s.Check(t.Context(), nil)
	if err != nil || len(p) != 1 {
		t.Fatalf("Check() = %v, %v; want one problem", p, err)
	}
	if err := s.Repair(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ensure(t.Context(), trixie, nil); err != nil {
		t.Error(err)
	}
}

func TestRepairOutside(t *testing.T) {
	s := testStore(t)
	outside := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(outside, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{outside, s.opts.Dir, filepath.Dir(s.opts.Dir)} {
		if err := s.Repair(t.Context(), []Problem{{Path: path}}); err == nil {
			t.Errorf("Repair(%s) succeeded", path)
		}
	}
}

func TestAcquireCancelled(t *testing.T) {
	s := testStore(t)
	release, err := s.acquire(t.Context(), "x", true, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	waited := false
	if _, err := s.acquire(ctx, "x", true, func() { waited = true; cancel() }); !errors.Is(err, context.Canceled) || !waited {
		t.Errorf("acquire(held) = %v, waited %v; want context.Canceled after waiting", err, waited)
	}
}

func TestCopySparse(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	f, err := os.Create(src)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := map[int64]string{0: "start", 1 << 30: "middle", plan.DiskSize - 3: "end"}
	for off, text := range data {
		if _, err := f.WriteAt([]byte(text), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := CopySparse(dst, src); err != nil {
		t.Fatal(err)
	}
	g, err := os.Open(dst)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for off, text := range data {
		got := make([]byte, len(text))
		if _, err := g.ReadAt(got, off); err != nil || string(got) != text {
			t.Errorf("at %d: %q, %v; want %q", off, got, err, text)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(g.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if st.Size != plan.DiskSize || st.Blocks*512 > 1<<20 {
		t.Errorf("the copy has %d bytes, %d on the disk; want %d and little", st.Size, st.Blocks*512, int64(plan.DiskSize))
	}
	if err := CopySparse(dst, src); !os.IsExist(errors.Unwrap(err)) && !errors.Is(err, os.ErrExist) {
		t.Errorf("CopySparse(over a file) = %v; want os.ErrExist", err)
	}
}
