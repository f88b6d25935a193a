package machine

// Event is what a VMM tells of its machine. Its texts are fit to be printed, and short:
// a guest that has taken over its VMM writes them.
type Event struct {
	Kind EventKind
	// Reason says why, in the engine's words: what the host's kernel said of a disk, or
	// one of the Shutdown reasons.
	Reason string
	// Disk is the serial number of the disk of an IOError, "" where it is not known.
	Disk string
	// NoSpace says of an IOError that the host's file system is full.
	NoSpace bool
	// Halts says of an IOError that the VMM stops the guest for it. Paused follows.
	Halts bool
}

// EventKind is what happened.
type EventKind string

// The kinds of events.
const (
	Paused        EventKind = "paused"  // the guest stands still
	Resumed       EventKind = "resumed" // it goes on
	IOError       EventKind = "io-error"
	Panicked      EventKind = "panicked" // the guest's kernel did
	Shutdown      EventKind = "shutdown" // the VMM is about to end
	Reset         EventKind = "reset"
	Watchdog      EventKind = "watchdog"
	MemoryFailure EventKind = "memory-failure" // of the host's hardware
	// UnknownEvent is one of another name, which Reason is.
	UnknownEvent EventKind = "unknown"
)

// The reasons of a Shutdown, beside those of an engine alone.
const (
	ByGuest       = "guest-shutdown"
	ByGuestReset  = "guest-reset"
	ByGuestPanic  = "guest-panic"
	ByHostRequest = "host-qmp-quit"
)

// EventBuffer is the number of events that wait for who takes them. Of more than these
// the oldest are lost: a VMM is never held up.
const EventBuffer = 64

// Post adds e to a channel of EventBuffer events. Only one goroutine may post.
func Post(events chan Event, e Event) {
	for {
		select {
		case events <- e:
			return
		default:
		}
		select {
		case <-events:
		default:
		}
	}
}
