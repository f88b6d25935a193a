package control

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// How long who removes a machine waits for the end of an apply, which needs its files.
const (
	endingWait = 10 * time.Minute // in the supervisor: the machine is being stopped so long
	removeWait = 5 * time.Second
)

// Clean removes everything that machine m left, wherever a kill -9 hit its
// processes. The caller holds m's lock. What its changes are being applied from stays until
// that is done.
func Clean(m state.Machine) error { return clean(m, endingWait) }

func clean(m state.Machine, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	pid := 0
	release, err := m.LockApply(ctx, func(by int) { pid = by })
	if err != nil && ctx.Err() != nil {
		return fault.New(fault.MachineApplying, fault.Args{"name": m.Name, "pid": strconv.Itoa(pid)},
			"machine %s is not removed: its changes are being applied by process %d", m.Name, pid)
	}
	if err == nil {
		defer release()
	} else if !errors.Is(err, state.ErrNotFound) {
		return err
	}
	// The VMM dies with the supervisor; this is for the kernel's exceptions
	// to that.
	m.Status().VMM.Kill()
	if err := m.SaveTranscripts(); err != nil {
		return err
	}
	// The journal names temporary files in the user's own directory, so it
	// goes last.
	if err := workspace.CleanJournal(m.File(state.JournalFile)); err != nil {
		return fmt.Errorf("remove temporary files of %s: %w", m.Name, err)
	}
	return m.Remove()
}

// Remove removes the dead machine m. The error wraps state.ErrAlive when it
// lives, and state.ErrNotFound when it is gone already.
func Remove(m state.Machine) error { return remove(m, removeWait) }

func remove(m state.Machine, wait time.Duration) error {
	lock, err := m.TryLock()
	if err != nil {
		return err
	}
	defer lock.Release()
	return clean(m, wait)
}

// finish removes what the supervisor of m, which has ended, could not: what a killed apply
// left in the workspace, and the directory of a machine of root's. Another may have the name
// by now.
func finish(m state.Machine) error {
	err := remove(m, endingWait)
	if errors.Is(err, state.ErrAlive) || errors.Is(err, state.ErrNotFound) {
		return nil
	}
	return err
}

// Kill ends the machine m without asking it: its supervisor is killed, and the
// VMM with it.
func Kill(m state.Machine) {
	m.Status().Supervisor.Kill()
}

// Collect removes every dead machine of store and what was left half made. It
// returns the names of what it removed.
func Collect(store state.Store) (removed []string, err error) {
	machines, err := store.List()
	if err != nil {
		return nil, err
	}
	leftovers, err := store.Leftovers()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, m := range append(machines, leftovers...) {
		switch err := Remove(m); {
		case errors.Is(err, state.ErrAlive), errors.Is(err, state.ErrNotFound):
		case err != nil:
			errs = append(errs, err)
		default:
			removed = append(removed, m.Name)
		}
	}
	return removed, errors.Join(errs...)
}
