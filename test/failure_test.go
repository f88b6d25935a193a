package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/test/env"
	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// wantError fails t unless stderr holds an error that matches, and a hint if
// one is wanted.
func wantError(t *testing.T, stderr, expr, hint string) {
	t.Helper()
	if !regexp.MustCompile(`(?m)^mayfly: error: .*` + expr).MatchString(stderr) {
		t.Errorf("stderr = %q; want an error that matches %q", stderr, expr)
	}
	if hint != "" && !strings.Contains(stderr, "mayfly: hint: "+hint) {
		t.Errorf("stderr = %q; want the hint %q", stderr, hint)
	}
}

func TestPanic(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	r := h.Run(125, "run", "--no-detect", "--", "sudo", "sh", "-c", "echo c > /proc/sysrq-trigger; sleep 1000")
	wantError(t, r.Stderr, "the machine ended", "")
	if !strings.Contains(r.Stderr, "Kernel panic") {
		t.Errorf("stderr = %q; want the end of the console with the panic", r.Stderr)
	}
	if left := h.Lasting(); left != "" {
		t.Errorf("left:\n%s", left)
	}
	// A guest that powers itself off is lost, too, but says so.
	r = h.Run(125, "run", "--no-detect", "--", "sudo", "sh", "-c", "echo o > /proc/sysrq-trigger; sleep 1000")
	wantError(t, r.Stderr, "the machine ended", "")
}

func TestBootDeadline(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	r := h.Run(1, "run", "--no-detect", "--cold", "--boot-timeout", "1s", "--", "true")
	if facts := r.Stderr; strings.Contains(facts, "did not answer") {
		wantError(t, r.Stderr, "the guest did not answer within 1s", "")
	} else {
		t.Errorf("stderr = %q", r.Stderr)
	}
	if left := h.Lasting(); left != "" {
		t.Errorf("left:\n%s", left)
	}
}

func TestUnknownPackage(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	r := h.Run(1, "run", "--no-detect", "--package", "no-such-package-anywhere", "--", "true")
	wantError(t, r.Stderr, "no-such-package-anywhere", "")
	if left := h.Lasting(); left != "" {
		t.Errorf("left:\n%s", left)
	}
}

// smallDisk mounts a file system of size bytes for t.
func smallDisk(t *testing.T, size int64) string {
	t.Helper()
	env.NeedRoot(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=755", size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// qemuPath returns the QEMU that mayfly chooses here.
func qemuPath(t *testing.T, h *vm.Host) string { return dryRun(t, h).Machine.Engine.Path }

// dryRun returns the plan of a machine.
func dryRun(t *testing.T, h *vm.Host, flags ...string) plan.Plan {
	t.Helper()
	var dry struct{ Plan plan.Plan }
	out := h.Run(0, append([]string{"run", "--dry-run", "--no-detect"}, flags...)...).Stdout
	if err := json.Unmarshal([]byte(out), &dry); err != nil || dry.Plan.Machine.Engine.Path == "" {
		t.Fatalf("%v in %s", err, out)
	}
	return dry.Plan
}

func TestFullDisk(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	t.Run("state", func(t *testing.T) {
		h := h.For(t)
		h.Env = append(slices.Clone(h.Env), "XDG_STATE_HOME="+smallDisk(t, 16<<20))
		r := h.Run(1, "run", "--no-detect", "--", "true")
		wantError(t, r.Stderr, "free", "mayfly gc")
	})
	t.Run("images", func(t *testing.T) {
		h := h.For(t)
		qemu := qemuPath(t, h)
		h.Env = append(slices.Clone(h.Env), "XDG_DATA_HOME="+smallDisk(t, 64<<20), "MAYFLY_QEMU="+qemu)
		r := h.Run(1, "run", "--no-detect", "--", "true")
		wantError(t, r.Stderr, "(free|space|room)", "")
		if strings.Contains(r.Stderr, "mayfly: base: build") {
			t.Errorf("the build began on a disk that is too small: %s", r.Stderr)
		}
	})
}

// storeCopy returns a data directory with the same images as h's, which costs
// no space: files that nobody changes in place.
func storeCopy(t *testing.T, h *vm.Host) string {
	t.Helper()
	data := h.Variable("XDG_DATA_HOME")
	// Beside the original: hard links do not cross file systems.
	dir, err := os.MkdirTemp(data, "mayfly-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if out, err := exec.Command("cp", "-al", filepath.Join(data, "mayfly"), dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// ownCopy replaces a hard link by a file that may be changed.
func ownCopy(t *testing.T, name string) {
	t.Helper()
	if out, err := exec.Command("cp", "--sparse=always", "--remove-destination", name, name+".copy").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Rename(name+".copy", name); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Damage to an image is found: a flipped byte when one looks for it, a file
// that is too short at the start.
func TestDamagedImage(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	h.Run(0, "image", "build", "--no-detect")
	var image struct {
		Layers []struct {
			Path   string
			DiffID string `json:"diff_id"`
		}
	}
	if err := json.Unmarshal([]byte(h.Run(0, "image", "build", "--no-detect", "--json").Stdout), &image); err != nil || len(image.Layers) == 0 {
		t.Fatalf("%v, %d layers", err, len(image.Layers))
	}
	original := image.Layers[0].Path
	dir := storeCopy(t, h)
	h.Env = append(slices.Clone(h.Env), "XDG_DATA_HOME="+dir, "MAYFLY_QEMU="+qemuPath(t, h))
	_, rest, ok := strings.Cut(original, "/mayfly/store/")
	if !ok {
		t.Fatalf("the layer is %s", original)
	}
	layer := filepath.Join(dir, "mayfly/store", rest)
	saved := h.OwnCache()
	explained(t, h, forIt)
	ownCopy(t, layer)

	f, err := os.OpenFile(layer, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	const at = 20<<20 + 123
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	r := h.Run(1, "image", "check")
	if id := strings.TrimPrefix(image.Layers[0].DiffID, "sha256:")[:12]; !strings.Contains(r.Stdout+r.Stderr, id) {
		t.Errorf("image check does not name the layer %s: %s%s", id, r.Stdout, r.Stderr)
	}

	if err := f.Truncate(100 << 20); err != nil {
		t.Fatal(err)
	}
	r = h.Run(1, "run", "--no-detect", "--", "true")
	wantError(t, r.Stderr, "(layer|image)", "mayfly image")
	h.Run(0, "image", "check", "--repair")
	if keys := templates(t, saved); len(keys) > 0 {
		t.Errorf("templates %q hold pages of a layer that was damaged", keys)
	}
	if _, err := os.Stat(original); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(original); err != nil || fi.Mode()&0o222 != 0 {
		t.Fatalf("the original was touched: %v %v", fi.Mode(), err)
	}
}
