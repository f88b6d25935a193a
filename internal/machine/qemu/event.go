package qemu

import (
	"encoding/json"

	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// kinds are the events of QMP that say what a machine is, qapi/run-state.json and
// qapi/block-core.json of QEMU.
var kinds = map[string]machine.EventKind{
	"STOP":              machine.Paused,
	"RESUME":            machine.Resumed,
	"BLOCK_IO_ERROR":    machine.IOError,
	"GUEST_PANICKED":    machine.Panicked,
	"GUEST_CRASHLOADED": machine.Panicked,
	"SHUTDOWN":          machine.Shutdown,
	"RESET":             machine.Reset,
	"WATCHDOG":          machine.Watchdog,
	"MEMORY_FAILURE":    machine.MemoryFailure,
}

// maxText bounds the texts of an event in bytes.
const maxText = 200

// parseEvent reads an event. What it lacks, or has of another type, stays empty.
func parseEvent(name string, data json.RawMessage) machine.Event {
	kind, ok := kinds[name]
	if !ok {
		return machine.Event{Kind: machine.UnknownEvent, Reason: clip(name)}
	}
	var d struct {
		Reason  string `json:"reason"` // BLOCK_IO_ERROR, SHUTDOWN
		Action  string `json:"action"` // BLOCK_IO_ERROR, GUEST_PANICKED, WATCHDOG, MEMORY_FAILURE
		NoSpace bool   `json:"nospace"`
		Node    string `json:"node-name"`
	}
	if json.Unmarshal(data, &d) != nil {
		return machine.Event{Kind: kind}
	}
	e := machine.Event{Kind: kind, Reason: clip(d.Reason), Disk: clip(d.Node)}
	if kind == machine.IOError {
		e.NoSpace, e.Halts = d.NoSpace, d.Action == "stop"
	} else if e.Reason == "" {
		e.Reason = clip(d.Action)
	}
	return e
}

// clip makes a text of QEMU's fit to be shown.
func clip(text string) string {
	if len(text) > maxText {
		text = text[:maxText]
	}
	return termsafe.Line(text)
}
