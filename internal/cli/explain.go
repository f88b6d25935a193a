package cli

import (
	"time"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
)

// explanation is what --explain prints: how a machine was started and why, and
// how long each phase took.
type explanation struct {
	began  time.Time
	phases []phase
	start  *mayfly.Start
}

type phase struct {
	name  string
	began time.Time
}

func newExplanation() *explanation { return &explanation{began: time.Now()} }

// phase ends the phase before and begins the next.
func (x *explanation) phase(name string) {
	x.phases = append(x.phases, phase{name, time.Now()})
}

// take takes what the engine says.
func (x *explanation) take(e mayfly.Event) {
	switch e.Kind {
	case mayfly.EventPhase:
		x.phase(words.Phase(e.Code))
	case mayfly.EventStarted:
		x.start = e.Start
	}
}

// print says nothing of a machine that was only planned: the error says why.
func (x *explanation) print(a *app) {
	if len(x.phases) < 2 {
		return
	}
	end := time.Now()
	a.note("%s", words.Start(x.start))
	for i, p := range x.phases {
		until := end
		if i+1 < len(x.phases) {
			until = x.phases[i+1].began
		}
		a.note("%8.3f s  %s", until.Sub(p.began).Seconds(), p.name)
	}
	a.note("%8.3f s  in all", end.Sub(x.began).Seconds())
}
