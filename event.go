package mayfly

import (
	"cmp"
	"context"
	"maps"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/engine"
)

// EventKind is what an [Event] is.
type EventKind string

const (
	// EventNote is a remark for the user.
	EventNote EventKind = EventKind(engine.Note)
	// EventDetail is a remark for a user who asked to be told more.
	EventDetail EventKind = EventKind(engine.Detail)
	// EventStep begins what may take its time, and ends the step before.
	EventStep EventKind = EventKind(engine.Step)
	// EventProgress says how far something is that takes its time.
	EventProgress EventKind = EventKind(engine.Progress)
	// EventDone ends the last step.
	EventDone EventKind = EventKind(engine.Done)
	// EventPhase begins a part of a machine's start.
	EventPhase EventKind = EventKind(engine.Phase)
	// EventStarted says how a machine was started: Start is set.
	EventStarted EventKind = "started"
)

// Event is something that happens while a method of this package works, or in the life of
// a machine. docs/reference/events.md lists the codes and their arguments.
type Event struct {
	Kind  EventKind         `json:"kind"`
	Code  string            `json:"code,omitempty"`
	Args  map[string]string `json:"args,omitempty"`
	Start *Start            `json:"start,omitempty"`
	// Nanos is the time since the machine's supervisor began, for what it tells.
	Nanos int64 `json:"nanos,omitempty"`
}

// Start is how a machine was started.
type Start struct {
	// Template is the key of the template that the machine began from, empty when it
	// booted.
	Template string `json:"template,omitempty"`
	// Made says that this start made the template.
	Made bool `json:"made,omitempty"`
	// Reason says why there was no template to begin from.
	Reason string `json:"reason,omitempty"`
}

func newEvent(e engine.Event) Event {
	if m := e.Machine; m != nil {
		switch {
		case m.Start != nil:
			s := Start(*m.Start)
			return Event{Kind: EventStarted, Start: &s, Nanos: m.Nanos}
		case m.Note != "":
			args := map[string]string{"text": m.Note}
			maps.Copy(args, m.Args)
			return Event{Kind: EventNote, Code: cmp.Or(string(m.Code), engine.NoteMachine), Args: args, Nanos: m.Nanos}
		}
		return Event{Kind: EventPhase, Code: string(m.Phase), Nanos: m.Nanos}
	}
	return Event{Kind: EventKind(e.Kind), Code: e.Code, Args: maps.Clone(e.Args)}
}

// MachineEvent is something that happens in the life of a machine. Its fields are set
// where they apply.
type MachineEvent struct {
	Machine string `json:"machine"`
	Nanos   int64  `json:"nanos"`           // since the machine's supervisor began
	Phase   string `json:"phase,omitempty"` // what begins now
	Note    string `json:"note,omitempty"`  // a remark for the user; parts can be the guest's words
	Ready   bool   `json:"ready,omitempty"` // the machine can be used
	Start   *Start `json:"start,omitempty"` // how it was started, when it is ready

	// Error says why the machine ended, or never came to be. Code and Args are those
	// of an [Error], or of Note. Console is the end of what the kernel has printed.
	Error   string            `json:"error,omitempty"`
	Code    string            `json:"code,omitempty"`
	Args    map[string]string `json:"args,omitempty"`
	Console string            `json:"console,omitempty"`

	Ended bool `json:"ended,omitempty"` // nothing of the machine runs any more; nothing follows
	Lost  bool `json:"lost,omitempty"`  // the caller was too slow and missed what followed
}

// Watch calls yield with what happens to the machines with these names, of all that run
// without any, until all of them have ended or ctx has. The first events say how a machine
// is now. It reports whether there was a machine to watch.
func (c *Client) Watch(ctx context.Context, names []string, yield func(MachineEvent) error) (bool, error) {
	any, err := c.e.Watch(ctx, names, func(machine string, e control.Event) error {
		return yield(MachineEvent{
			machine, e.Nanos, string(e.Phase), e.Note, e.Ready, (*Start)(e.Start),
			e.Error, string(e.Code), e.Args, e.Console, e.Ended, e.Lost,
		})
	})
	return any, public(err)
}

// SessionChange is a session whose state is new, or a machine that has ended.
type SessionChange struct {
	Machine string   `json:"machine"`
	Session *Session `json:"session,omitempty"` // nil if the machine has ended
	// First says that it was so when the watch began.
	First bool `json:"first,omitempty"`
}

// WatchSessions calls yield with the sessions of the machines with these names, of all
// without any, and whenever the state of one is new, until ctx ends or yield fails. It waits
// for machines that begin later.
func (c *Client) WatchSessions(ctx context.Context, names []string, yield func(SessionChange) error) error {
	return public(c.e.WatchSessions(ctx, names, func(change engine.SessionChange) error {
		out := SessionChange{Machine: change.Machine, First: change.First}
		if !change.Ended() {
			s := newSession(change.Session)
			out.Session = &s
		}
		return yield(out)
	}))
}
