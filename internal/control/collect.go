package control

import (
	"errors"
	"fmt"

	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// Clean removes everything that machine m left, wherever a kill -9 hit its
// processes. The caller holds m's lock.
func Clean(m state.Machine) error {
	// The VMM dies with the supervisor; this is for the kernel's exceptions
	// to that.
	var st state.Status
	if state.ReadJSON(m.File(state.StatusFile), &st) == nil {
		st.VMM.Kill()
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
func Remove(m state.Machine) error {
	lock, err := m.TryLock()
	if err != nil {
		return err
	}
	defer lock.Release()
	return Clean(m)
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
