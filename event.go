package mayfly

import (
	"maps"

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
			return Event{Kind: EventStarted, Start: &s}
		case m.Note != "":
			return Event{Kind: EventNote, Code: "machine", Args: map[string]string{"text": m.Note}}
		}
		return Event{Kind: EventPhase, Code: string(m.Phase)}
	}
	return Event{Kind: EventKind(e.Kind), Code: e.Code, Args: maps.Clone(e.Args)}
}
