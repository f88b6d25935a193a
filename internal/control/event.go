package control

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"io"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// Event is one line of JSON that a supervisor writes for who started it, and for all
// who watch the machine. Fields and phases are only added.
type Event struct {
	// Nanos is the time since the supervisor began.
	Nanos int64 `json:"nanos"`
	// Phase is what begins now.
	Phase Phase `json:"phase,omitempty"`
	// Note is a remark for the user. Code and Args say what about, where it is not
	// the guest's.
	Note string `json:"note,omitempty"`
	// Ready says that the machine can be used.
	Ready bool `json:"ready,omitempty"`
	// Start says how the machine was started, when it is ready.
	Start *Start `json:"start,omitempty"`
	// Condition says how the machine does from now on, where that changes.
	Condition *Condition `json:"condition,omitempty"`
	// Error says why the machine ended, or never came to be. Code and Args say
	// what kind of failure it is, where that is known. Console, the end of what the
	// kernel printed, belongs to it, too.
	Error   string     `json:"error,omitempty"`
	Code    fault.Code `json:"code,omitempty"`
	Args    fault.Args `json:"args,omitempty"`
	Console string     `json:"console,omitempty"`
	// Ended says that nothing of the machine runs any more. Nothing follows.
	Ended bool `json:"ended,omitempty"`
	// Lost says that the watcher was too slow and missed what followed.
	Lost bool `json:"lost,omitempty"`
}

// maxEvent bounds an event in bytes: a supervisor that a guest has taken over must not fill
// the memory of those who listen.
const maxEvent = 1 << 20

// eventReader reads events, a line of JSON each.
type eventReader struct{ lines *bufio.Scanner }

func readEvents(r io.Reader) eventReader {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEvent)
	return eventReader{lines}
}

// next returns the next event, or io.EOF.
func (r eventReader) next() (e Event, err error) {
	if !r.lines.Scan() {
		return e, cmp.Or(r.lines.Err(), io.EOF)
	}
	return e, json.Unmarshal(r.lines.Bytes(), &e)
}

// Phase names a part of a machine's life.
type Phase string

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

// The phases of a start, in their order. The workspace is packed beside those before
// PhaseConfigure.
const (
	PhaseFindTemplate  Phase = "find-template"
	PhaseAwaitTemplate Phase = "await-template" // another supervisor makes it
	PhaseMakeTemplate  Phase = "make-template"
	PhasePrewarm       Phase = "prewarm"
	PhaseSave          Phase = "save"
	PhaseRestore       Phase = "restore"
	PhaseBoot          Phase = "boot"
	PhasePrepare       Phase = "prepare"
	PhaseConfigure     Phase = "configure"
	PhaseSystemd       Phase = "start-systemd"
)

// PhaseStop begins the end of a machine that was ready.
const PhaseStop Phase = "stop"

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

// Unwrap returns the error with its code.
func (e *Error) Unwrap() error {
	err := errors.New(e.Event.Error)
	if e.Event.Code != "" {
		err = fault.Wrap(err, e.Event.Code, e.Event.Args)
	}
	return err
}

// SetError makes e the event of an error.
func (e *Event) SetError(err error) {
	e.Error = err.Error()
	if f, ok := fault.Of(err); ok {
		e.Code, e.Args = f.Code, f.Args
	}
}
