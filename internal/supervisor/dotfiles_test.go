package supervisor

import (
	"os"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// The disks are made again when a template did not work, also where the dotfiles have
// nothing for a home.
func TestPackDotfilesAgain(t *testing.T) {
	m := state.Machine{Name: "m", Dir: t.TempDir()}
	guest := plan.Guest{Dotfiles: []string{t.TempDir()}}
	for range 2 {
		if _, err := packDotfiles(m, guest); err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Stat(m.File(state.DotfilesFile)); err != nil || fi.Size() != plan.DiskSize {
			t.Errorf("the disk: %v, %v; want %d bytes", fi, err, int64(plan.DiskSize))
		}
	}
}
