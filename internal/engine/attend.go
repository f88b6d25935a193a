package engine

import (
	"context"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
)

// reasonTimeout bounds the wait for a supervisor to say why a command broke off.
const reasonTimeout = 2 * time.Second

// attendance hears what becomes of a machine while a command waits for its guest.
type attendance struct {
	cancel context.CancelFunc
	done   chan struct{}         // closed when nothing more is heard
	reason atomic.Pointer[error] // why nothing can be had of the machine
	known  chan struct{}         // closed when reason is set
	killed atomic.Bool           // the guest's kernel killed a program for want of memory
}

// attend tells of what keeps the machine from answering, until end.
func (m Machine) attend(ctx context.Context) *attendance {
	ctx, cancel := context.WithCancel(ctx)
	a := &attendance{cancel: cancel, done: make(chan struct{}), known: make(chan struct{})}
	set := func(err error) {
		if a.reason.CompareAndSwap(nil, &err) {
			close(a.known)
		}
	}
	go func() {
		defer close(a.done)
		control.Watch(ctx, m.m, func(ev control.Event) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := ev.Err(); err != nil {
				set(err)
			} else if ev.Ended {
				set(fault.New(fault.MachineLost, nil, "another command ended the machine"))
			}
			if c := ev.Condition; c != nil && c.Health == control.Unreachable {
				set(c.Err())
			}
			if ev.Code == control.NoteOutOfMemory {
				a.killed.Store(true)
			}
			if ev.Note != "" && (tellsOfGuest(ev) || m.answers && tellsOfConnections(ev)) {
				m.e.opt.Tell(Event{Kind: FromMachine, Machine: &ev})
			}
			return nil
		})
	}()
	return a
}

// tellsOfGuest reports whether who waits for a guest is to hear of ev.
func tellsOfGuest(ev control.Event) bool {
	return ev.Condition != nil || ev.Code == control.NoteOutOfMemory || ev.Code == control.NoteShareUnguarded
}

// tellsOfConnections reports whether whoever shows a guest on a terminal is to hear of ev.
func tellsOfConnections(ev control.Event) bool {
	return ev.Code == control.NoteQuestion || ev.Code == control.NoteListening || ev.Code == control.NoteForwarded
}

func (a *attendance) end() { a.cancel() }

// killedTimeout is the time by which the reason of a kill may come after it.
const killedTimeout = 500 * time.Millisecond

// ended waits until it is told why a command with this exit code was killed, if that is
// what happened to it.
func (a *attendance) ended(code int) {
	const killed = 128 + int(syscall.SIGKILL)
	for deadline := time.Now().Add(killedTimeout); code == killed && !a.killed.Load() && time.Now().Before(deadline); {
		select {
		case <-a.done:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// explain replaces the error of a conversation that broke off by the reason for that, if
// the supervisor has one.
func (a *attendance) explain(err error) error {
	if fault.CodeOf(err) != fault.MachineLost {
		return err
	}
	select {
	case <-a.known:
	case <-a.done:
	case <-time.After(reasonTimeout):
	}
	if reason := a.reason.Load(); reason != nil {
		return *reason
	}
	return err
}
