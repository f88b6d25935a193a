package supervisor

import (
	"context"
	"errors"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// end ends everything and reports err. Unless the machine was kept and is
// dead, which its user may want to look at, its directory goes too.
func (s *supervisor) end(err error) {
	if s.vmm != nil {
		s.endVMM()
	}
	s.endShares()
	s.endNetwork()
	for _, o := range []*output{s.console, s.vmmLog} {
		if o != nil {
			o.close()
		}
	}
	kept := false
	select {
	case <-s.kept:
		kept = err != nil
	default:
	}
	if !kept {
		if cleanErr := control.Clean(s.machine); cleanErr != nil && err == nil {
			err = cleanErr
		}
	}
	if err != nil {
		var e control.Event
		e.SetError(err)
		if ce, ok := errors.AsType[*consoleError](err); ok {
			e.Console = ce.console
		}
		s.events.send(e)
	}
}

// endVMM ends the VMM. A machine that is thrown away has nothing to save: only
// one that was kept gets the ladder of guest, VMM and kill.
func (s *supervisor) endVMM() {
	select {
	case <-s.kept:
		s.saveTranscripts()
		s.powerOff()
	default:
	}
	s.killVMM()
}

// systemdStopTimeout is stopTimeout for a guest with systemd. That gives its services
// five seconds and then ends itself, a second or two without KVM.
const systemdStopTimeout = 8 * time.Second

// powerOff asks the guest and then the VMM to end.
func (s *supervisor) powerOff() {
	if s.session == nil || s.ended() {
		return
	}
	timeout := stopTimeout
	if s.plan.Image.Init == plan.InitSystemd {
		timeout = systemdStopTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	// A guest that reads nothing blocks who opens a stream or writes to it.
	stop := context.AfterFunc(ctx, func() { s.session.Close() })
	defer stop()
	if stream, err := s.session.Open(); err == nil {
		client.PowerOff(stream)
		if s.awaitVMM(ctx) {
			return
		}
	}
	s.log.Warn("the guest did not power off in time")
	ctx, cancel = context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := s.vmm.Quit(ctx); err != nil {
		s.log.Warn("the VMM did not quit in time", "err", err)
	}
}

// awaitVMM waits until the VMM has ended, or ctx has, and reports whether it has.
func (s *supervisor) awaitVMM(ctx context.Context) bool {
	select {
	case <-s.vmm.Done():
		return true
	case <-ctx.Done():
		return false
	}
}
