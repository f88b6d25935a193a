package control

import "github.com/mayfly-vm/mayfly/internal/hint"

// Event is one line of JSON that a supervisor writes for who started it.
// Fields are only added.
type Event struct {
	// Nanos is the time since the supervisor began.
	Nanos int64 `json:"nanos"`
	// Phase is what begins now, in a few words for the user.
	Phase string `json:"phase,omitempty"`
	// Note is a remark for the user.
	Note string `json:"note,omitempty"`
	// Ready says that the machine can be used.
	Ready bool `json:"ready,omitempty"`
	// Start says how the machine was started, when it is ready.
	Start *Start `json:"start,omitempty"`
	// Error says that the machine ended, or never came to be; Hint and
	// Console, the end of what the kernel printed, belong to it.
	Error   string `json:"error,omitempty"`
	Hint    string `json:"hint,omitempty"`
	Console string `json:"console,omitempty"`
}

// Start says how a machine was started.
type Start struct {
	// Template is the key of the saved boot that the machine began from,
	// empty when it booted.
	Template string `json:"template,omitempty"`
	// Made says that this start made the template.
	Made bool `json:"made,omitempty"`
	// Reason says why there was no template to begin from: why it was made,
	// or why the machine booted.
	Reason string `json:"reason,omitempty"`
}

// The phases of a start that somebody asks for by name. The workspace is packed
// beside those before PhaseConfigure.
const (
	PhaseMakeTemplate = "boot a template"
	PhasePrewarm      = "prewarm"
	PhaseSave         = "save"
	PhaseRestore      = "restore"
	PhaseBoot         = "boot"
	PhasePrepare      = "prepare"
	PhaseConfigure    = "configure"
	PhaseSystemd      = "start systemd"
)

// Err returns the event's error, or nil.
func (e Event) Err() error {
	if e.Error == "" {
		return nil
	}
	return &Error{e}
}

// Error is an error that a supervisor reported.
type Error struct{ Event Event }

func (e *Error) Error() string { return e.Event.Error }

// Unwrap lets package hint find the event's hint.
func (e *Error) Unwrap() error {
	if e.Event.Hint == "" {
		return nil
	}
	return hint.Errorf(e.Event.Hint, "%s", e.Event.Error)
}
