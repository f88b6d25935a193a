package image

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/plan"
)

// A scratch disk that was made smaller is a file system of that size to ext4's own tools.
func TestLimitScratch(t *testing.T) {
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip(err)
	}
	whole := filepath.Join(t.TempDir(), "whole")
	if err := mkfs(t.Context(), whole); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{plan.MinDisk, 3*plan.DiskStep + plan.MinDisk, 32 << 30, plan.DiskSize} {
		path := filepath.Join(t.TempDir(), "scratch")
		if err := CopySparse(path, whole); err != nil {
			t.Fatal(err)
		}
		if err := LimitScratch(path, size); err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Stat(path); err != nil || fi.Size() != size {
			t.Errorf("the file has %d bytes, %v; want %d", fi.Size(), err, size)
		}
		// Read only: the blocks that described what is gone are found to be lost, and
		// that alone.
		out, _ := exec.Command("e2fsck", "-fn", path).CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if !knownFindings.MatchString(strings.TrimSpace(line)) {
				t.Errorf("%d bytes: e2fsck says %q", size, line)
			}
		}
	}
	for _, size := range []int64{0, -1, plan.MinDisk - plan.DiskStep, plan.MinDisk + 1} {
		if err := LimitScratch(whole, size); err == nil {
			t.Errorf("LimitScratch(%d) = nil; want an error", size)
		}
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := LimitScratch(other, plan.MinDisk); err == nil {
		t.Error("LimitScratch() of no file system = nil; want an error")
	}
}

// knownFindings are what e2fsck says of a file system that is whole but for lost blocks.
var knownFindings = regexp.MustCompile(`^$|^e2fsck |^Pass [1-5]: |^Block bitmap differences: |^Fix\? no$|^Padding at end of |: \*+ WARNING: Filesystem still has errors \*+$|: 11/\d+ files .*blocks$`)
