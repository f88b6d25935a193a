package supervisor

import (
	"context"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// startSystemd makes systemd process 1 of the configured guest, and waits for what it
// starts. A machine in which not all of that works can be used, and looked into. The
// agent comes back as a service, with which a new conversation begins.
func (s *supervisor) startSystemd(ctx context.Context, old *guest) (*guest, error) {
	s.events.phase(control.PhaseSystemd)
	timeout := control.BootTimeout(s.plan.Machine)
	if err := old.call(ctx, timeout, func(stream guestStream) error { return client.Init(stream) }); err != nil {
		return nil, old.vm.withConsole(err)
	}
	old.Close()
	g, err := s.greet(ctx, old.vm)
	if err != nil {
		return nil, err
	}
	var b wire.Booted
	err = g.call(ctx, timeout, func(stream guestStream) (err error) {
		b, err = client.Booted(stream)
		return err
	})
	args := fault.Args{"name": s.plan.Name}
	switch {
	case ctx.Err() != nil:
		g.Close()
		return nil, context.Cause(ctx)
	case err != nil:
		args["timeout"] = timeout.String()
		s.note(control.NoteSystemdSlow, args, "systemd has not started everything within %v", timeout)
	case b.State == "degraded":
		args["units"] = termsafe.Line(strings.Join(b.Failed[:min(len(b.Failed), maxNotes)], ", "))
		s.note(control.NoteSystemdDegraded, args, "in the machine failed: %s", args["units"])
	case b.State != "running":
		args["state"] = termsafe.Line(b.State)
		s.note(control.NoteSystemdState, args, "systemd is %s", args["state"])
	}
	return g, nil
}
