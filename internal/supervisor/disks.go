package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// disks are the machine's own disks, as files.
type disks struct {
	copy     string   // the name of a kept copy of the workspace; "" for one to be packed
	dotfiles []string // what of the user's own files is shown in the home
}

// makeDisks makes the disks of this machine alone, and those of what it keeps.
func (s *supervisor) makeDisks(ctx context.Context) (d disks, err error) {
	if err := s.makeKept(ctx); err != nil {
		return d, err
	}
	if d.copy, err = s.keptCopy(); err != nil {
		return d, err
	}
	if d.dotfiles, err = packDotfiles(s.machine, s.plan); err != nil {
		return d, err
	}
	return d, s.makeWritable(d)
}

// makeWritable makes the disks that a guest writes, or sees written, anew if they are
// there.
func (s *supervisor) makeWritable(d disks) error {
	scratch := s.machine.File(state.ScratchFile)
	if err := os.Remove(scratch); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("make the scratch disk: %w", err)
	}
	if err := image.CopySparse(scratch, s.image.Scratch); err != nil {
		return fmt.Errorf("make the scratch disk: %w", err)
	}
	if err := image.LimitScratch(scratch, s.diskBound()); err != nil {
		return err
	}
	if !s.plan.Workspace.Copied() || d.copy != "" {
		return nil
	}
	packed, _ := s.machine.WorkspaceFiles(s.plan)
	// The VMM opens the file now and the guest reads it only once it is
	// configured: in between it is filled.
	f, err := os.OpenFile(packed, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("make the workspace disk: %w", err)
	}
	return errors.Join(f.Truncate(plan.DiskSize), f.Close())
}

// Of the file system with the machine's disk, the larger of these stays free, whatever its
// guest writes.
const (
	spareBytes = 5 << 30
	sparePart  = 10
)

// diskBound returns how much the guest can write to its scratch disk, in bytes. It says so
// if that is less than what is asked for.
func (s *supervisor) diskBound() int64 {
	want := cmp.Or(s.plan.Disk, int64(plan.DefaultDisk))
	u, err := s.measure(s.machine.Dir)
	if err != nil {
		return want
	}
	fits := u.Free - max(spareBytes, u.Total/sparePart)
	fits = max(plan.MinDisk, fits-fits%plan.DiskStep)
	if fits >= want {
		return want
	}
	args := fault.Args{"bytes": strconv.FormatInt(fits, 10), "dir": s.machine.Dir, "free": strconv.FormatInt(u.Free, 10)}
	s.note(control.NoteDiskLess, args, "the machine can write %d MiB to its disk, not %d: the file system of %s has %d MiB free",
		fits>>20, want>>20, s.machine.Dir, u.Free>>20)
	return fits
}
