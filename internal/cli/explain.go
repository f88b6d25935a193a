package cli

import (
	"fmt"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
)

// explanation is what --explain prints: how a machine was started and why, and
// how long each phase took.
type explanation struct {
	began  time.Time
	phases []phase
	start  *control.Start
}

type phase struct {
	name  string
	began time.Time
}

func newExplanation(first string) *explanation {
	now := time.Now()
	return &explanation{began: now, phases: []phase{{first, now}}}
}

// phase ends the phase before and begins the next.
func (x *explanation) phase(name string) {
	x.phases = append(x.phases, phase{name, time.Now()})
}

// machine takes what a supervisor says.
func (x *explanation) machine(e control.Event) {
	if e.Phase != "" {
		x.phase(phaseWords(e.Phase))
	}
	if e.Start != nil {
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
func describeStart(s *control.Start) string {
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

// phaseWords says in a few words what a phase does.
func phaseWords(p control.Phase) string {
	switch p {
	case control.PhaseFindTemplate:
		return "find the template"
	case control.PhaseAwaitTemplate:
		return "wait for a template that is being made"
	case control.PhaseMakeTemplate:
		return "boot a template"
	case control.PhaseSystemd:
		return "start systemd"
	case control.PhaseStop:
		return "end the machine"
	}
	return string(p)
}
