// Package supervisor owns one machine from its start to its removal.
//
// It is a process of its own for each machine, the mayfly binary executed
// again (control.Spawn), so that there is no daemon and nothing shared between
// machines. Its whole input is the machine's directory: the plan and the
// resolved image. It starts the VMM, packs the workspace meanwhile, configures
// the guest, joins commands to it, and ends the machine when its owner is
// gone. What is left after a kill -9, control.Collect clears away.
//
// A start has phases, each of which returns a value that ends what it began by
// Close: the disks and the packing of the workspace (disks.go, packing.go), the
// network (network.go), the servers of shares (share.go), the VMM (vmm.go) and the
// conversation with its guest (guest.go). Those of a machine that is ready are a
// running, and are closed in the opposite order.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/budget"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/diskspace"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/machine/drivers"
	"github.com/mayfly-vm/mayfly/internal/network/dial"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// idleGCPercent is the garbage collector's target once the machine runs.
const idleGCPercent = 100

// supervisor is what is known from the beginning and stays as it is.
type supervisor struct {
	machine state.Machine
	plan    plan.Plan
	image   image.Image
	driver  machine.Driver
	log     *slog.Logger
	events  *events
	owner   *owner
	budget  *budget.Budget // of what the guest may make us hold
	// measure is how full a file system is.
	measure func(path string) (diskspace.Usage, error)
	// held are the directories that it uses when the machine is ready.
	held held
	// confine limits the process once the machine is ready; nil for a supervisor that
	// has no process of its own.
	confine func(*running) error

	selfOnce sync.Once
	self     state.Process // this process, set by selfOnce
	selfErr  error
	proxies  dial.Proxies // of the host
}

// Main is the body of the hidden command: it supervises the machine in dir
// until that ends. ctx ends with the process's signals. What it returns was
// reported to the owner already.
func Main(ctx context.Context, dir string, log *slog.Logger) error {
	lock := state.InheritLock(os.NewFile(control.LockFD, "lock"))
	defer lock.Release()
	m, err := state.FromDir(dir)
	if err != nil {
		return err
	}
	pipe, err := openOwnerPipe(control.EventsFD)
	if err != nil {
		return err
	}
	events := newEvents(pipe)
	if err := limitProcess(); err != nil {
		return err
	}
	owner := newOwner()
	go owner.watch(os.NewFile(control.OwnerFD, "owner"))
	secrets := os.NewFile(control.SecretsFD, "secrets")
	log = log.With("vm", m.Name)

	held := make(held)
	err = supervise(ctx, m, held, events, owner, secrets, log)
	if err != nil {
		log.Error("machine ended", "err", err)
	}
	end(m, held, events, owner, err)
	return err
}

// limitProcess gives up what the supervisor and its children do not need.
func limitProcess() error {
	// The VMM gets the files that are its own and nothing of ours.
	if err := unix.CloseRange(control.LockFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close files on exec: %w", err)
	}
	// The guest's memory, with all that is in it, is in the VMM's.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	return nil
}

// supervise reads what the machine is and runs it.
func supervise(ctx context.Context, m state.Machine, held held, events *events, owner *owner, secretsPipe *os.File, log *slog.Logger) error {
	p, err := m.Plan()
	if err != nil {
		return err
	}
	var img image.Image
	if err := state.ReadJSON(m.File(state.ImageFile), &img); err != nil {
		return fmt.Errorf("read the resolved image: %w", err)
	}
	driver, err := drivers.For(p.Machine.Engine)
	if err != nil {
		return err
	}
	had := keptPlaceholders(p, log)
	given, err := readGiven(secretsPipe)
	if err != nil {
		return err
	}
	secrets, err := makeSecrets(given.Secrets, p.Network.Secrets, had)
	if err == nil {
		err = keepPlaceholders(p, had)
	}
	if err != nil {
		return err
	}
	s := &supervisor{
		machine: m, plan: p, image: img, driver: driver, log: log, events: events, owner: owner, held: held,
		proxies: dial.Proxies(given.Proxies), budget: budget.New(budget.Default),
	}
	lent := make(lent)
	lent.values(p.Network.Secrets, secrets)
	endLender, err := s.startLender(lent, given)
	if err != nil {
		return err
	}
	defer endLender()
	s.measure = func(path string) (diskspace.Usage, error) { return diskspace.Of(held.path(path)) }
	s.confine = s.confineProcess
	return s.run(ctx, secrets)
}

// run starts the machine and returns when it has ended, which is no error when that
// was asked for.
func (s *supervisor) run(ctx context.Context, secrets []secret.Secret) error {
	needed, release := s.owner.need(ctx)
	defer release()
	l, err := control.Listen(s.machine)
	if err != nil {
		return err
	}
	defer l.Close()
	srv := newServer(s.events, s.owner.requestStop)
	go srv.serve(l)

	m, err := s.start(needed, secrets)
	if err != nil {
		if errors.Is(err, errEnded) || errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}
	var following sync.WaitGroup
	defer following.Wait()
	defer m.Close()
	// Before anybody can use the machine.
	if s.confine != nil {
		if err := s.confine(m); err != nil {
			return fmt.Errorf("confine the supervisor: %w", err)
		}
	}
	m.vm.ready.Store(true)
	srv.offer(m)
	if err := s.writeStatus(state.Running, m.vm.process); err != nil {
		return err
	}
	s.events.send(control.Event{Ready: true, Start: &m.how})
	following.Go(func() { s.follow(m.guest) })
	following.Go(func() { s.notice(m.guest, m.network) })
	limitMemory()

	err = s.hold(needed, m)
	s.events.phase(control.PhaseStop)
	l.Close() // nobody is served from here on
	s.wind(m)
	return err
}

// hold waits until nobody needs the running machine, or it ends by itself.
func (s *supervisor) hold(ctx context.Context, m *running) error {
	watching, endWatch := context.WithCancel(ctx)
	wait := s.watchShares(watching, m.guest)
	defer wait()
	defer endWatch()
	kept, broken := s.owner.kept, m.guest.session.CloseChan()
	for {
		select {
		case <-ctx.Done():
			// Before nobody listens any more.
			if err := s.writeStatus(state.Stopping, m.vm.process); err != nil {
				s.log.Warn("write the status", "err", err)
			}
			return nil
		case <-kept:
			kept = nil
			if err := s.writeStatus(state.Running, m.vm.process); err != nil {
				s.log.Warn("write the status", "err", err)
			}
		case <-broken:
			broken = nil
			// The VMM may be ending, and its connections before it.
			select {
			case <-m.vm.Done():
			case <-ctx.Done():
			case <-time.After(vmmGrace):
				s.unreachable(m.guest.why(nil))
			}
		case <-m.vm.Done():
			return m.vm.explain(errors.New("the machine ended unexpectedly"))
		}
	}
}

// writeStatus says where the machine is. vmm is the VMM's process, none without one.
func (s *supervisor) writeStatus(phase state.Phase, vmm state.Process) error {
	// Once: /proc is closed to the supervisor of a machine that is ready.
	s.selfOnce.Do(func() { s.self, s.selfErr = state.ProcessOf(os.Getpid()) })
	if s.selfErr != nil {
		return s.selfErr
	}
	st := state.Status{Phase: phase, Started: s.events.start, Supervisor: s.self, VMM: vmm, Kept: s.owner.isKept()}
	return state.WriteJSON(s.held.path(s.machine.File(state.StatusFile)), st)
}
