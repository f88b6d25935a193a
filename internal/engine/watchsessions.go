package engine

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// watchTime is how long the sessions of machines are left alone between two looks. What a
// program does lasts for seconds, and a guest that changes it again and again is heard no
// more often.
const watchTime = 2 * time.Second

// SessionChange is a session whose state is new, or a machine that has ended with its
// sessions.
type SessionChange struct {
	Machine string
	Session wire.SessionInfo // without a name if the machine has ended
	First   bool             // it was so when the watch began
}

// Ended reports whether the machine has.
func (c SessionChange) Ended() bool { return c.Session.Name == "" }

// WatchSessions calls yield with the sessions of the machines with these names, of all
// without any, and whenever the state of one is new, until ctx ends or yield fails. Machines
// that begin later are watched as well.
func (e *Engine) WatchSessions(ctx context.Context, names []string, yield func(SessionChange) error) error {
	for _, name := range names {
		if _, err := e.find(name); err != nil && fault.CodeOf(err) != fault.MachineStopped {
			return err
		}
	}
	var w sessionWatch
	for {
		seen, err := e.lookAtSessions(ctx, names)
		if ctx.Err() != nil {
			return nil // asked for
		}
		if err != nil {
			return err
		}
		for _, c := range w.take(seen) {
			if err := yield(c); err != nil {
				return err
			}
		}
		select {
		case <-time.After(watchTime):
		case <-ctx.Done():
			return nil
		}
	}
}

// seenSessions are the sessions of the machines that run, by name; nil of one that did not
// answer.
type seenSessions map[string][]wire.SessionInfo

func (e *Engine) lookAtSessions(ctx context.Context, names []string) (seenSessions, error) {
	all, err := e.machines().List()
	if err != nil {
		return nil, err
	}
	var asked sync.WaitGroup
	var mu sync.Mutex // guards seen
	seen := make(seenSessions)
	for _, m := range all {
		if len(names) > 0 && !slices.Contains(names, m.Name) || m.Status().Phase != state.Running || !m.Alive() {
			continue
		}
		asked.Go(func() {
			sessions, err := Machine{e: e, m: m}.sessions(ctx, glanceTimeout)
			if err != nil {
				sessions = nil
			} else if sessions == nil {
				sessions = []wire.SessionInfo{}
			}
			mu.Lock()
			defer mu.Unlock()
			seen[m.Name] = sessions
		})
	}
	asked.Wait()
	return seen, nil
}

// sessionWatch remembers what was seen last.
type sessionWatch struct {
	begun bool
	known map[string]map[string]wire.SessionInfo // by machine and session
}

// take returns what is new in seen, by machine. A machine that does not answer has nothing new.
func (w *sessionWatch) take(seen seenSessions) []SessionChange {
	if w.known == nil {
		w.known = make(map[string]map[string]wire.SessionInfo)
	}
	var changes []SessionChange
	for machine := range w.known {
		if _, ok := seen[machine]; !ok {
			delete(w.known, machine)
			changes = append(changes, SessionChange{Machine: machine})
		}
	}
	for machine, sessions := range seen {
		if sessions == nil {
			continue
		}
		before, now := w.known[machine], make(map[string]wire.SessionInfo)
		for _, s := range sessions {
			now[s.Name] = s
			if old, ok := before[s.Name]; !ok || old.Started != s.Started || old.State != s.State || old.Since != s.Since && s.State != wire.StateWorks {
				changes = append(changes, SessionChange{machine, s, !w.begun})
			}
		}
		w.known[machine] = now
	}
	w.begun = true
	slices.SortStableFunc(changes, func(a, b SessionChange) int {
		return strings.Compare(a.Machine, b.Machine)
	})
	return changes
}
