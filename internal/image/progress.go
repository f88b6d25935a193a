package image

import "sync"

// Phase is what a builder is busy with.
type Phase string

// The phases of an artifact. Each starts with PhaseWait or with another one and
// ends with PhaseDone, unless it was there already.
const (
	PhaseWait     Phase = "wait"     // for another process
	PhaseDownload Phase = "download" // from a mirror or registry
	PhaseBuild    Phase = "build"
	PhaseWrite    Phase = "write" // into the store
	PhaseDone     Phase = "done"
	// PhaseAsRoot is none: packages are installed by root of the host, with all its rights.
	// The text says why.
	PhaseAsRoot Phase = "as-root"
)

// Event is one step of a build.
type Event struct {
	Phase    Phase
	Artifact string // base, packages, agents, kernel, initramfs, scratch or store
	Text     string // a few words for people
}

// Progress is told what a build does. Calls come from several goroutines, one
// at a time; nil is allowed.
type Progress func(Event)

// reporter is a Progress that can be called by anybody.
type reporter struct {
	mu sync.Mutex
	to Progress // guarded by mu
}

func newReporter(to Progress) *reporter { return &reporter{to: to} }

func (r *reporter) event(phase Phase, artifact, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.to != nil {
		r.to(Event{phase, artifact, text})
	}
}

// waiting returns a function for acquire.
func (r *reporter) waiting(artifact string) func() {
	return r.waitingFor(artifact, "waiting for another mayfly that builds it")
}

func (r *reporter) waitingFor(artifact, text string) func() {
	return func() { r.event(PhaseWait, artifact, text) }
}
