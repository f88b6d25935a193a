package cli

import (
	"fmt"
	"time"

	"github.com/mayfly-vm/mayfly"
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
		x.phase(phaseWords(e.Code))
	case mayfly.EventStarted:
		x.start = e.Start
	}
}

func (x *explanation) print(a *app) {
	end := time.Now()
	a.note("%s", describeStart(x.start))
	for i, p := range x.phases {
		until := end
		if i+1 < len(x.phases) {
			until = x.phases[i+1].began
		}
		a.note("%8.3f s  %s", until.Sub(p.began).Seconds(), p.name)
	}
	a.note("%8.3f s  in all", end.Sub(x.began).Seconds())
}

// describeStart says in one line how a machine was started.
func describeStart(s *mayfly.Start) string {
	switch {
	case s == nil:
		return "the machine was not started"
	case s.Template == "":
		return "the machine booted: " + s.Reason
	case s.Made:
		return fmt.Sprintf("the machine began from template %.12s, which was made for it: %s", s.Template, s.Reason)
	}
	return fmt.Sprintf("the machine began from template %.12s", s.Template)
}
