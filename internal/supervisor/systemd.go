package supervisor

import (
	"context"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/control"
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
	const look = "look with: mayfly exec %s -- systemctl %s"
	switch {
	case ctx.Err() != nil:
		g.Close()
		return nil, context.Cause(ctx)
	case err != nil:
		s.warn("systemd has not started everything within %v; "+look, timeout, s.plan.Name, "list-jobs")
	case b.State == "degraded":
		failed := strings.Join(b.Failed[:min(len(b.Failed), maxNotes)], ", ")
		s.warn("in the machine failed: %s; "+look, termsafe.Line(failed), s.plan.Name, "status")
	case b.State != "running":
		s.warn("systemd is %s; "+look, termsafe.Line(b.State), s.plan.Name, "status")
	}
	return g, nil
}
