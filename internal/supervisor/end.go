package supervisor

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// end removes what is left of the machine and says that it ended, by err if that is
// not nil. A machine that was kept and died stays, which its user may want to look at.
func end(m state.Machine, held held, events *events, owner *owner, err error) {
	defer held.close()
	if reached := held.machine(m); isForeign(reached) {
		m = reached
	}
	switch {
	case err != nil && owner.isKept():
		recordEnd(m, err)
	case isForeign(m):
		removeOwn(m)
	default:
		// What a supervisor that is confined may not remove, as what an apply left
		// that was killed, is for whoever finds the machine dead.
		if cleanErr := control.Clean(m); cleanErr != nil && !errors.Is(cleanErr, fs.ErrPermission) && err == nil {
			err = cleanErr
		}
	}
	e := control.Event{Ended: true}
	if err != nil {
		e.SetError(err)
		if ce, ok := errors.AsType[*consoleError](err); ok {
			e.Console = ce.console
		}
	}
	events.end(e)
}

// recordEnd writes down why a machine that stays ended.
func recordEnd(m state.Machine, err error) {
	st := m.Status()
	st.Reason, _, _ = strings.Cut(err.Error(), "\n")
	st.Code = fault.CodeOf(err)
	state.WriteJSON(m.File(state.StatusFile), st) // it is only missed where the disk is full
}

// wind ends what is worth ending in order: a machine that is kept.
func (s *supervisor) wind(m *running) {
	switch {
	case !s.owner.isKept():
		// A machine that is thrown away has nothing to save.
	case s.events.how().Health != control.Well:
		s.quit(m.guest) // its guest cannot be asked for anything
	default:
		s.saveTranscripts(m.guest)
		s.powerOff(m.guest)
	}
}

// stopTimeout is the time that a guest has to end by itself before the VMM is
// told to, and the VMM before it is killed. A systemd gives its services five seconds
// and then ends itself, a second or two without KVM.
const (
	stopTimeout        = 5 * time.Second
	systemdStopTimeout = 8 * time.Second
)

// powerOff asks the guest and then the VMM to end. Who closes the machine kills what
// does neither.
func (s *supervisor) powerOff(g *guest) {
	if g.vm.ended() {
		return
	}
	timeout := stopTimeout
	if s.plan.Image.Init == plan.InitSystemd {
		timeout = systemdStopTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	// A guest that reads nothing blocks who opens a stream or writes to it.
	stop := context.AfterFunc(ctx, g.Close)
	defer stop()
	if stream, err := g.open(); err == nil {
		client.PowerOff(stream)
		select {
		case <-g.vm.Done():
			return
		case <-ctx.Done():
		}
	}
	s.log.Warn("the guest did not power off in time")
	s.quit(g)
}

// quit tells the VMM to end.
func (s *supervisor) quit(g *guest) {
	if g.vm.ended() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := g.vm.Quit(ctx); err != nil {
		s.log.Warn("the VMM did not quit in time", "err", err)
	}
}
