package cli

import (
	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

// tell shows what the engine does.
func (a *app) tell(e mayfly.Event) {
	if a.explain != nil {
		a.explain.take(e)
	}
	if a.listen != nil {
		a.listen(e)
	}
	switch e.Code {
	case "machine-paused", "machine-unreachable":
		a.stuck.Store(true)
	case "machine-goes-on":
		a.stuck.Store(false)
	}
	switch g := a.drawn.Load(); {
	case e.Code == "egress-question" && g != nil:
		g.Notice("mayfly: " + words.Event(e))
		return
	case (e.Code == "port-listening" || e.Code == "port-forwarded") && g != nil:
		g.Title("mayfly: " + words.Event(e))
		return
	case e.Code == "port-listening" && e.Args["why"] == "":
		return // tests listen on many ports; mayfly ls names them
	case e.Code == "egress-answered":
		return // whoever answered was told
	}
	switch e.Kind {
	case mayfly.EventNote:
		a.note("%s", words.Event(e))
	case mayfly.EventDetail:
		a.debug("%s", words.Event(e))
	case mayfly.EventStep:
		a.steps().Step(words.Event(e), true)
	case mayfly.EventProgress:
		a.steps().Update(words.Event(e))
	case mayfly.EventPhase:
		if e.Code == "make-template" {
			a.note("making a template: the first start of this kind takes longer")
		}
		switch e.Code {
		case "plan", "find-image", "start-supervisor": // only worth an explanation
		default:
			a.steps().Step(words.Phase(e.Code), false)
		}
	case mayfly.EventDone, mayfly.EventStarted:
		if a.progress != nil {
			a.progress.Step("", false)
		}
	}
}

// steps shows what takes its time.
func (a *app) steps() *terminal.Progress {
	if a.progress == nil {
		a.progress = terminal.NewProgress(a.Err, a.verbose)
	}
	return a.progress
}
