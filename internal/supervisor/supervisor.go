// Package supervisor owns one machine from its start to its removal.
//
// It is a process of its own for each machine, the mayfly binary executed
// again (control.Spawn), so that there is no daemon and nothing shared between
// machines. Its whole input is the machine's directory: the plan and the
// resolved image. It starts the VMM, packs the workspace meanwhile, configures
// the guest, joins commands to it, and ends the machine when its owner is
// gone. What is left after a kill -9, control.Collect clears away.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/machine/drivers"
	"github.com/mayfly-vm/mayfly/internal/network"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/bridge"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// stopTimeout is the time that a guest has to end by itself before the VMM is
// told to, and the VMM before it is killed.
const stopTimeout = 5 * time.Second

// idleGCPercent is the garbage collector's target once the machine runs.
const idleGCPercent = 100

// supervisor is the state of the process.
type supervisor struct {
	machine state.Machine
	plan    plan.Plan
	image   image.Image
	log     *slog.Logger
	events  *events

	console *output
	vmmLog  *output
	outputs sync.WaitGroup // the goroutines that fill both
	driver  machine.Driver
	vmm     machine.VMM
	session guestSession

	secrets []secret.Secret
	audit   *audit.Log
	network *network.Network
	bridge  bridge.Config // of a machine on the host's bridge, as its tap
	tap     *os.File

	shares   []fileServer
	watchers sync.WaitGroup // the goroutines that wait for the servers' ends

	how control.Start
	// copy is the name of the copy of the workspace, where there is one that was
	// kept; packed that of the one which was packed, once it is.
	copy, packed string
	dotfiles     []string // what of the user's own files is shown in the home

	kept    chan struct{} // closed when the owner lets the machine live on
	gone    chan struct{} // closed when the owner ended without that
	stop    chan struct{} // closed when somebody asks for the end
	stopped sync.Once
}

// guestStream is a stream to the guest's agent.
type guestStream = net.Conn

// guestSession is the multiplexer over the control port.
type guestSession interface {
	Open() (net.Conn, error)
	Close() error
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
	eventsPipe := os.NewFile(control.EventsFD, "events")
	// The VMM gets the files that are its own and nothing of ours.
	if err := unix.CloseRange(control.LockFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close files on exec: %w", err)
	}
	// The guest's memory, with all that is in it, is in the VMM's.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	s := &supervisor{
		machine: m,
		log:     log.With("vm", m.Name),
		events:  &events{start: time.Now(), w: eventsPipe},
		kept:    make(chan struct{}),
		gone:    make(chan struct{}),
		stop:    make(chan struct{}),
	}
	go s.watchOwner(os.NewFile(control.OwnerFD, "owner"))
	err = s.run(ctx, os.NewFile(control.SecretsFD, "secrets"))
	if err != nil {
		s.log.Error("machine ended", "err", err)
	}
	s.end(err)
	return err
}

// watchOwner reads the owner's pipe until its end.
func (s *supervisor) watchOwner(owner *os.File) {
	var b [1]byte
	if n, _ := owner.Read(b[:]); n == 1 && b[0] == control.KeepByte {
		close(s.kept)
		return
	}
	close(s.gone)
}

func (s *supervisor) requestStop() { s.stopped.Do(func() { close(s.stop) }) }

// run starts the machine and returns at its end, which is no error when it was
// asked for.
func (s *supervisor) run(ctx context.Context, secrets *os.File) error {
	var err error
	if s.plan, err = s.machine.Plan(); err != nil {
		return err
	}
	if s.driver, err = drivers.For(s.plan.Machine.Engine); err != nil {
		return err
	}
	if err := state.ReadJSON(s.machine.File(state.ImageFile), &s.image); err != nil {
		return fmt.Errorf("read the resolved image: %w", err)
	}
	if s.secrets, err = readSecrets(secrets, s.plan.Network.Secrets); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-s.gone:
			cancel(errEnded)
		case <-s.stop:
			cancel(errEnded)
		case <-ctx.Done():
		}
	}()
	if err := s.start(ctx); err != nil {
		if errors.Is(err, errEnded) || errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}

	l, err := control.Listen(s.machine)
	if err != nil {
		return err
	}
	defer l.Close()
	srv := &server{guest: s.session.Open, stop: s.requestStop, network: s.network, audit: s.audit}
	go srv.serve(l)
	if err := s.writeStatus(state.Running); err != nil {
		return err
	}
	s.events.send(control.Event{Ready: true, Start: &s.how})
	// Packing and booting left garbage; an idle supervisor is to be small.
	debug.SetGCPercent(idleGCPercent)
	debug.FreeOSMemory()

	watching, endWatch := context.WithCancel(ctx)
	wait := s.watchShares(watching)
	defer wait()
	defer endWatch()
	kept := s.kept
	for {
		select {
		case <-ctx.Done():
			// Before nobody listens any more.
			if err := s.writeStatus(state.Stopping); err != nil {
				s.log.Warn("write the status", "err", err)
			}
			return nil
		case <-kept:
			kept = nil
			s.writeStatus(state.Running)
		case <-s.vmm.Done():
			return s.explain(errors.New("the machine ended unexpectedly"))
		}
	}
}

var errEnded = errors.New("the machine was ended")

func (s *supervisor) writeStatus(phase state.Phase) error {
	self, err := state.ProcessOf(os.Getpid())
	if err != nil {
		return err
	}
	st := state.Status{Phase: phase, Started: s.events.start, Supervisor: self}
	if s.vmm != nil {
		// It may have ended already.
		st.VMM, _ = state.ProcessOf(s.vmm.PID())
	}
	select {
	case <-s.kept:
		st.Kept = true
	default:
	}
	return state.WriteJSON(s.machine.File(state.StatusFile), st)
}
