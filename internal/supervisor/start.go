package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/hardware"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// ground is what a machine stands on, whatever VMM it gets.
type ground struct {
	prints  *prints
	disks   disks
	network *guestNetwork
	packing *packing
}

// up is a VMM with a configured guest.
type up struct {
	vm    *vm
	guest *guest
	closers
}

// running is a machine that can be used.
type running struct {
	vm      *vm
	guest   *guest
	network *guestNetwork
	how     control.Start
	// condition returns how the machine does, and broken says that its guest does not
	// take part any more.
	condition func() control.Condition
	broken    func(reason string)
	closers
}

// start brings the machine up: from a template if it can, else by booting. The
// workspace is packed meanwhile.
func (s *supervisor) start(ctx context.Context, secrets []secret.Secret) (_ *running, err error) {
	if n := len(s.image.Layers); n == 0 || n > plan.MaxLayers {
		return nil, fmt.Errorf("the image has %d layers; a machine takes 1 to %d", n, plan.MaxLayers)
	}
	if err := s.held.add(s.machine.Dir); err != nil {
		return nil, err
	}
	if err := s.writeStatus(state.Starting, state.Process{}); err != nil {
		return nil, err
	}
	var opened closers
	defer func() {
		if err != nil {
			err = s.held.named(err)
			opened.Close()
		}
	}()
	var g ground
	if g.prints, err = openPrints(s.held.machine(s.machine)); err != nil {
		return nil, err
	}
	opened.add(g.prints.Close)
	if g.disks, err = s.makeDisks(ctx); err != nil {
		return nil, err
	}
	if g.network, err = s.openNetwork(secrets); err != nil {
		return nil, err
	}
	opened.add(g.network.Close)

	// A workspace that cannot be packed ends the start, and a start that ends
	// ends the packing.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	g.packing = s.pack(ctx, g.disks.copy, cancel)
	u, how, err := s.bringUp(ctx, g)
	if err == nil {
		err = s.complete(ctx, u, g.network)
	}
	if s.mayPass(err) && ctx.Err() == nil {
		how = control.Start{Reason: err.Error()}
		u, err = s.bootAgain(ctx, g, err)
	}
	if err == nil {
		opened.add(u.Close)
	}
	cancel(err)
	// The pack writes into the machine's directory: it is waited for.
	_, packErr := g.packing.wait()
	if packErr != nil && !errors.Is(packErr, context.Canceled) && context.Cause(ctx) == packErr {
		return nil, packErr
	}
	if err != nil {
		return nil, err
	}
	return &running{u.vm, u.guest, g.network, how, s.events.how, s.unreachable, opened}, nil
}

// bringUp gets a configured guest. A machine that cannot begin from a template
// boots.
func (s *supervisor) bringUp(ctx context.Context, g ground) (*up, control.Start, error) {
	o := s.findOrigin(ctx, g.prints)
	if o.template != nil {
		s.events.phase(control.PhaseRestore)
		u, err := s.fromTemplate(ctx, o.template, g)
		if err == nil {
			o.how.Template = o.template.Key
			return u, o.how, nil
		}
		if noMemory, ok := errors.AsType[*memoryError](err); ok {
			o.how.Reason = noMemory.Error()
			s.note(control.NoteNoMemory, fault.Args{"reason": noMemory.Error()}, "booting: %v", noMemory)
		} else if _, ok := errors.AsType[*restoreError](err); !ok || ctx.Err() != nil {
			return nil, o.how, err
		} else {
			o.how.Made, o.how.Reason = false, err.Error()
			s.giveUp(o.id, err, g.prints)
			if err := s.makeWritable(g.disks); err != nil {
				return nil, o.how, err
			}
		}
	}
	if ctx.Err() != nil {
		return nil, o.how, context.Cause(ctx)
	}
	u, err := s.byBooting(ctx, g)
	return u, o.how, err
}

// byBooting boots the machine.
func (s *supervisor) byBooting(ctx context.Context, g ground) (_ *up, err error) {
	var u up
	defer func() {
		if err != nil {
			u.Close()
		}
	}()
	shares, err := s.startShares(ctx)
	if err != nil {
		return nil, err
	}
	u.add(shares.Close)
	if u.vm, err = s.startMachine(ctx, hardware.Of(s.machine, s.plan, s.image), g, shares); err != nil {
		return nil, err
	}
	u.add(u.vm.Close)
	return &u, u.vm.whileAlive(ctx, func(ctx context.Context) (err error) {
		s.events.phase(control.PhaseBoot)
		if u.guest, err = s.greet(ctx, u.vm); err != nil {
			return err
		}
		u.add(u.guest.Close)
		s.events.phase(control.PhasePrepare)
		if _, err := s.prepare(ctx, u.guest, nil); err != nil {
			return err
		}
		return s.finish(ctx, u.guest, control.BootTimeout(s.plan.Machine), g)
	})
}

// mayPass reports whether err, of a start, is of what seldom happens twice: a VMM that crashed,
// or a kernel that panicked on an emulated CPU, which now and then runs code that another CPU
// is just changing.
func (s *supervisor) mayPass(err error) bool {
	return crashed(err) || fault.CodeOf(err) == fault.MachinePanicked && s.plan.Machine.Accelerator == plan.TCG
}

// bootAgain boots a machine whose VMM crashed. None of its user's commands ran, and what
// crashes now and then, as QEMU's emulation of CPUs does, seldom does so twice.
func (s *supervisor) bootAgain(ctx context.Context, g ground, crash error) (*up, error) {
	s.note(control.NoteVMMCrashed, fault.Args{"reason": crash.Error()}, "booting once more: %v", crash)
	if err := s.makeWritable(g.disks); err != nil {
		return nil, err
	}
	u, err := s.byBooting(ctx, g)
	if err != nil {
		return nil, err
	}
	return u, s.complete(ctx, u, g.network)
}

// startMachine starts the VMM of a machine, with its network.
func (s *supervisor) startMachine(ctx context.Context, spec machine.Spec, g ground, shares shareServers) (*vm, error) {
	v, err := s.startVM(ctx, spec, g.prints, shares, g.network.tap)
	if err != nil || spec.Card == nil || spec.Card.Tap {
		return v, err
	}
	card, err := v.Dial(ctx, machine.NetworkCard)
	if err != nil {
		v.Close()
		return nil, err
	}
	g.network.Attach(card)
	return v, nil
}

// finish makes the guest that is up this machine.
func (s *supervisor) finish(ctx context.Context, guest *guest, timeout time.Duration, g ground) error {
	name, err := g.packing.wait()
	if err != nil {
		return err
	}
	s.events.phase(control.PhaseConfigure)
	return s.configure(ctx, guest, timeout, name, g)
}

// complete makes of the configured guest what its users expect, and closes u if it cannot.
// What fails here is no template's fault.
func (s *supervisor) complete(ctx context.Context, u *up, n *guestNetwork) error {
	err := u.vm.whileAlive(ctx, func(ctx context.Context) error {
		if s.plan.Image.Init == plan.InitSystemd {
			g, err := s.startSystemd(ctx, u.guest)
			if err != nil {
				return err
			}
			u.guest = g
			u.add(g.Close)
		}
		return n.publish(u.guest)
	})
	if err != nil {
		u.Close()
	}
	return err
}
