package image

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/plan"
)

func TestMakeVolume(t *testing.T) {
	path := filepath.Join(t.TempDir(), "var.img")
	if err := os.WriteFile(path+".new", []byte("what a kill has left"), 0o600); err != nil {
		t.Fatal(err)
	}
	const size = 8 << 30
	if err := MakeVolume(t.Context(), path, size); err != nil {
		t.Fatal(err)
	}
	if err := MakeVolume(t.Context(), filepath.Join(t.TempDir(), "whole.img"), plan.DiskSize); err != nil {
		t.Error(err)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Size() != plan.DiskSize {
		t.Fatalf("the disk: %v, %v; want %d bytes", fi, err, int64(plan.DiskSize))
	}
	if used := fi.Sys().(*syscall.Stat_t).Blocks * 512; used > 16<<20 {
		t.Errorf("an empty disk takes %d bytes; want less than 16 MiB", used)
	}
	out, err := exec.Command("dumpe2fs", "-h", path).CombinedOutput()
	if err != nil {
		// Its directory is not in a normal user's path on Debian.
		out, err = exec.Command("/sbin/dumpe2fs", "-h", path).CombinedOutput()
	}
	if err != nil {
		t.Fatalf("dumpe2fs: %v: %s", err, out)
	}
	for _, want := range []string{"has_journal", "resize_inode", "Block count:              2097152\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("dumpe2fs does not say %q:\n%s", want, out)
		}
	}
}
