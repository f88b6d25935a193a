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

// The codes of notes.
const (
	NoteKVMUntested       = "kvm-untested"        // reason
	NoteKVMUnusable       = "kvm-unusable"        // reason
	NoteProfiles          = "profiles-detected"   // profiles
	NoteUntrusted         = "config-untrusted"    // file
	NotePlan              = "plan"                // text
	NoteCodingAgent       = "coding-agent"        // agent
	NoteAgentSettings     = "agent-settings"      // reason
	NoteSettingsAside     = "settings-aside"      // file
	NoteDotfilesNotCloned = "dotfiles-not-cloned" // url
	NoteImageMissing      = "image-not-built"
	NoteRunsAlready       = "machine-runs"     // name
	NoteNotRunning        = "machine-stopped"  // name
	NoteTranscripts       = "transcripts-kept" // path
	NoteClone             = "clone"            // text
	NoteHere              = "machine-here"     // name
	NoteQEMUByPackage     = "qemu-by-package"
	NoteInstall           = "install"           // text
	NoteAttackThrough     = "attack-through"    // host
	NoteAttackTouched     = "attack-touched"    // connections
	NoteGuestSays         = "guest-says"        // text
	DetailAttempt         = "attack-attempt"    // name, outcome
	NoteReleaseName       = "name-not-released" // reason
	DetailAccelerator     = "accelerator"       // accelerator, reason
	DetailClone           = "clone-progress"    // line
	StepImage             = "build-image"       // artifact, phase, text
	StepClone             = "clone"             // url
	StepFetch             = "fetch"             // url
	StepAwaitStart        = "await-start"       // name
	StepAwaitEnd          = "await-end"         // name
)

// The phases of a start, in their order. Those of its supervisor come between
// PhaseSupervisor and the end.
const (
	PhasePlan       = "plan"
	PhaseImage      = "find-image"
	PhaseSupervisor = "start-supervisor"
)

func (e *Engine) note(code string, a args)   { e.opt.Tell(Event{Kind: Note, Code: code, Args: a}) }
func (e *Engine) detail(code string, a args) { e.opt.Tell(Event{Kind: Detail, Code: code, Args: a}) }
func (e *Engine) step(code string, a args)   { e.opt.Tell(Event{Kind: Step, Code: code, Args: a}) }
func (e *Engine) phase(code string)          { e.opt.Tell(Event{Kind: Phase, Code: code}) }
func (e *Engine) done()                      { e.opt.Tell(Event{Kind: Done}) }

// imageStep tells of the steps of building an image.
func (e *Engine) imageStep(ev image.Event) {
	if ev.Phase == image.PhaseDone {
		e.done()
		return
	}
	e.step(StepImage, args{"artifact": ev.Artifact, "phase": string(ev.Phase), "text": ev.Text})
}
