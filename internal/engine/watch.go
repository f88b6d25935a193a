package engine

import (
	"context"
	"errors"
	"sync"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// Watch calls yield with what happens to the machines with these names, of all that run
// without any, until all have ended or ctx has. One call is made at a time. It reports
// whether there was a machine to watch. Who watches is somebody who can answer questions.
func (e *Engine) Watch(ctx context.Context, names []string, yield func(machine string, ev control.Event) error) (bool, error) {
	machines, err := e.watchable(names)
	if err != nil {
		return false, err
	}
	var telling sync.Mutex
	var watching sync.WaitGroup
	errs := make([]error, len(machines))
	for i, m := range machines {
		watching.Go(func() {
			err := control.Attend(ctx, m, func(ev control.Event) error {
				telling.Lock()
				defer telling.Unlock()
				return yield(m.Name, ev)
			})
			errs[i] = e.aboutVersion(err, m.Name)
		})
	}
	watching.Wait()
	if ctx.Err() != nil {
		return true, nil // asked for
	}
	return len(machines) > 0, errors.Join(errs...)
}

// watchable returns the machines with these names, or all that run.
func (e *Engine) watchable(names []string) ([]state.Machine, error) {
	var list []state.Machine
	for _, name := range names {
		m, err := e.find(name)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	if len(names) > 0 {
		return list, nil
	}
	store := e.machines()
	all, err := store.List()
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if m.Alive() {
			list = append(list, m)
		}
	}
	return list, nil
}
