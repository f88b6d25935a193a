package engine

import (
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image"
)

// args are the arguments of errors and events.
type args = fault.Args

// Kind is what an event is.
type Kind string

const (
	// Note is a remark for the user. Code and Args say what about.
	Note Kind = "note"
	// Detail is a remark for who asked to be told more.
	Detail Kind = "detail"
	// Step begins what may take its time, and ends the step before.
	Step Kind = "step"
	// Progress says how far something is that takes its time, a few times a second. It is
	// a step of its own if there was none.
	Progress Kind = "progress"
	// Done ends the last step. The next event may be much later.
	Done Kind = "done"
	// Phase begins a part of a start that a front end may want to time.
	Phase Kind = "phase"
	// FromMachine is what a supervisor says of the start of its machine: Machine is set.
	FromMachine Kind = "machine"
)

// Event is something that happens while an engine works.
type Event struct {
	Kind    Kind
	Code    string // of the table of events; stable
	Args    args
	Machine *control.Event
}

func (e *Engine) note(code string, a args)   { e.opt.Tell(Event{Kind: Note, Code: code, Args: a}) }
func (e *Engine) detail(code string, a args) { e.opt.Tell(Event{Kind: Detail, Code: code, Args: a}) }
func (e *Engine) step(code string, a args)   { e.opt.Tell(Event{Kind: Step, Code: code, Args: a}) }
func (e *Engine) progress(code string, a args) {
	e.opt.Tell(Event{Kind: Progress, Code: code, Args: a})
}
func (e *Engine) phase(code string) { e.opt.Tell(Event{Kind: Phase, Code: code}) }
func (e *Engine) done()             { e.opt.Tell(Event{Kind: Done}) }

// imageStep tells of the steps of building an image.
func (e *Engine) imageStep(ev image.Event) {
	if ev.Phase == image.PhaseDone {
		e.done()
		return
	}
	if ev.Phase == image.PhaseAsRoot {
		e.note(NoteBuildAsRoot, args{"reason": ev.Text})
		return
	}
	e.step(StepImage, args{"artifact": ev.Artifact, "phase": string(ev.Phase), "text": ev.Text})
}
