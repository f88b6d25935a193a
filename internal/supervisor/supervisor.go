// Package supervisor owns one machine from its start to its removal.
//
// It is a process of its own for each machine, the mayfly binary executed
// again (Spawn), so that there is no daemon and nothing shared between
// machines. Its whole input is the machine's directory: the plan and the
// resolved image. It starts the VMM, packs the workspace meanwhile, configures
// the guest, joins commands to it, and ends the machine when its owner is
// gone. What is left after a kill -9, Collect clears away.
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

	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/machine/qemu"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// stopTimeout is the time that a guest has to end by itself before the VMM is
// told to, and the VMM before it is killed.
const stopTimeout = 5 * time.Second

// The garbage collector's target, runtime/debug.SetGCPercent. What a start
// needs, and an image's build, is some ten MiB for a moment: collecting it four
// times less often costs little and saves a third of the CPU time of packing.
const (
	StartGCPercent = 400
	idleGCPercent  = 100
)

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
	vmm     *machine.Process
	session guestSession

	kept    chan struct{} // closed when the owner lets the machine live on
	gone    chan struct{} // closed when the owner ended without that
	stop    chan struct{} // closed when somebody asks for the end
	stopped sync.Once
}

// guestSession is the multiplexer over the control port.
type guestSession interface {
	Open() (net.Conn, error)
	Close() error
}

// Main is the body of the hidden command: it supervises the machine in dir
// until that ends. ctx ends with the process's signals. What it returns was
// reported to the owner already.
func Main(ctx context.Context, dir string, log *slog.Logger) error {
	lock := state.InheritLock(os.NewFile(fdLock, "lock"))
	defer lock.Release()
	m, err := state.FromDir(dir)
	if err != nil {
		return err
	}
	eventsPipe := os.NewFile(fdEvents, "events")
	// The VMM gets the files that are its own and nothing of ours.
	if err := unix.CloseRange(fdLock, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
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
	go s.watchOwner(os.NewFile(fdOwner, "owner"))
	err = s.run(ctx)
	if err != nil {
		s.log.Error("machine ended", "err", err)
	}
	s.end(err)
	return err
}

// watchOwner reads the owner's pipe until its end.
func (s *supervisor) watchOwner(owner *os.File) {
	var b [1]byte
	if n, _ := owner.Read(b[:]); n == 1 && b[0] == keepByte {
		close(s.kept)
		return
	}
	close(s.gone)
}

func (s *supervisor) requestStop() { s.stopped.Do(func() { close(s.stop) }) }

// run starts the machine and returns at its end, which is no error when it was
// asked for.
func (s *supervisor) run(ctx context.Context) error {
	var err error
	if s.plan, err = s.machine.Plan(); err != nil {
		return err
	}
	if err := state.ReadJSON(s.machine.File(state.ImageFile), &s.image); err != nil {
		return fmt.Errorf("read the resolved image: %w", err)
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

	l, err := listen(s.machine)
	if err != nil {
		return err
	}
	defer l.Close()
	srv := &server{guest: s.session.Open, stop: s.requestStop}
	go srv.serve(l)
	if err := s.writeStatus(state.Running); err != nil {
		return err
	}
	s.events.send(Event{Ready: true})
	// Packing and booting left garbage; an idle supervisor is to be small.
	debug.SetGCPercent(idleGCPercent)
	debug.FreeOSMemory()

	kept := s.kept
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-kept:
			kept = nil
			s.writeStatus(state.Running)
		case <-s.vmm.Done():
			return s.explain("the machine ended unexpectedly")
		}
	}
}

var errEnded = errors.New("the machine was ended")

// start brings the machine up: the VMM boots while the workspace is packed.
func (s *supervisor) start(ctx context.Context) error {
	if err := s.writeStatus(state.Starting); err != nil {
		return err
	}
	if err := s.makeDisks(); err != nil {
		return err
	}
	if err := s.startVMM(); err != nil {
		return err
	}
	// A workspace that cannot be packed ends the wait for the guest, and a
	// guest that dies ends the packing.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	packed := make(chan error, 1)
	go func() {
		err := s.packWorkspace(ctx)
		if err != nil {
			cancel(err)
		}
		packed <- err
	}()
	go func() {
		select {
		case <-s.vmm.Done():
			cancel(errDied)
		case <-ctx.Done():
		}
	}()

	s.events.phase("boot")
	err := s.greet(ctx)
	if err != nil {
		cancel(err)
	}
	if packErr := <-packed; packErr != nil && !errors.Is(packErr, context.Canceled) && context.Cause(ctx) == packErr {
		return packErr
	}
	if err != nil {
		if errors.Is(err, errDied) {
			return s.explain("the machine ended while it booted")
		}
		return err
	}
	s.events.phase("configure")
	stop := context.AfterFunc(ctx, func() { s.session.Close() })
	err = s.configure()
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		if s.ended() {
			return s.explain("the machine ended while it was configured")
		}
		return s.withConsole(err)
	}
	return nil
}

var errDied = errors.New("the virtual machine monitor ended")

// makeDisks makes the disks of this machine alone.
func (s *supervisor) makeDisks() error {
	if err := image.CopySparse(s.machine.File(state.ScratchFile), s.image.Scratch); err != nil {
		return fmt.Errorf("make the scratch disk: %w", err)
	}
	if s.plan.Workspace.Path == "" {
		return nil
	}
	// The VMM opens the file now and the guest reads it only once it is
	// configured: in between it is filled.
	f, err := os.OpenFile(s.machine.File(state.WorkspaceFile), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make the workspace disk: %w", err)
	}
	return errors.Join(f.Truncate(plan.DiskSize), f.Close())
}

// NewSpec returns the hardware of the machine m and the files in its slots.
func NewSpec(m state.Machine, p plan.Plan, img image.Image) machine.Spec {
	spec := machine.Spec{Machine: p.Machine, Kernel: img.Kernel.Path, Initramfs: img.Initramfs}
	spec.Disks[plan.SlotScratch] = machine.Disk{Path: m.File(state.ScratchFile), Writable: true}
	if p.Workspace.Path != "" {
		spec.Disks[plan.SlotWorkspace] = machine.Disk{Path: m.File(state.WorkspaceFile)}
	}
	for i, layer := range img.Layers {
		spec.Disks[plan.SlotFirstLayer+i] = machine.Disk{Path: layer.Path}
	}
	return spec
}

func (s *supervisor) startVMM() error {
	if n := len(s.image.Layers); n == 0 || n > plan.MaxLayers {
		return fmt.Errorf("the image has %d layers; a machine takes 1 to %d", n, plan.MaxLayers)
	}
	var err error
	if s.console, err = newOutput(s.machine.File(state.ConsoleFile)); err != nil {
		return err
	}
	if s.vmmLog, err = newOutput(s.machine.File(state.VMMLogFile)); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	s.outputs.Go(func() {
		s.vmmLog.copy(r)
		r.Close()
	})
	command := qemu.Command(NewSpec(s.machine, s.plan, s.image))
	s.log.Debug("start the virtual machine monitor", "command", command.String())
	s.vmm, err = machine.Start(command, w)
	w.Close()
	if err != nil {
		return err
	}
	// The VMM shares its limits with the thread of ours that started it, and
	// through that one could read and write our memory, as the same user.
	// Not earlier: package syscall writes the maps of the VMM's user namespace
	// through /proc, which this closes to us.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("close our memory to other processes: %w", err)
	}
	s.outputs.Go(func() { s.console.copy(s.vmm.Sockets[machine.Console]) })
	return s.writeStatus(state.Starting)
}

// greet waits for the guest's agent.
func (s *supervisor) greet(ctx context.Context) error {
	timeout := bootTimeout(s.plan.Machine)
	deadline, cancel := context.WithTimeoutCause(ctx, timeout, errDeadline)
	defer cancel()
	session, err := wire.Dial(deadline, s.vmm.Sockets[machine.Control])
	if err != nil {
		return s.noAnswer(err, timeout)
	}
	s.session = session
	stop := context.AfterFunc(deadline, func() { session.Close() })
	defer stop()
	stream, err := session.Open()
	if err != nil {
		return s.noAnswer(err, timeout)
	}
	defer stream.Close()
	hello, err := client.Hello(stream)
	if err != nil {
		if cause := context.Cause(deadline); cause != nil {
			err = cause
		}
		return s.noAnswer(err, timeout)
	}
	s.log.Info("guest booted", "kernel", client.Printable(hello.Kernel), "uptime", time.Duration(hello.Uptime))
	return nil
}

// bootTimeout returns the time that a guest has to answer. Without KVM it takes
// two or three seconds, and on a loaded host many times that.
func bootTimeout(m plan.Machine) time.Duration {
	switch {
	case m.BootSeconds > 0:
		return time.Duration(m.BootSeconds) * time.Second
	case m.Accelerator == plan.KVM:
		return 30 * time.Second
	}
	return 2 * time.Minute
}

var errDeadline = errors.New("no answer from the guest")

func (s *supervisor) noAnswer(err error, timeout time.Duration) error {
	if !errors.Is(err, errDeadline) {
		return err
	}
	return s.withConsole(hint.Errorf("is the host very busy? try --boot-timeout with more, or mayfly doctor",
		"the guest did not answer within %v", timeout))
}

func (s *supervisor) ended() bool {
	select {
	case <-s.vmm.Done():
		return true
	default:
		return false
	}
}

// consoleError is an error with the end of the guest's console.
type consoleError struct {
	error
	console string
}

func (e *consoleError) Unwrap() error { return e.error }

const consoleLines = 12

func (s *supervisor) withConsole(err error) error {
	return &consoleError{err, s.console.end(consoleLines)}
}

// explain returns the error for a VMM that ended by itself.
func (s *supervisor) explain(what string) error {
	err := errors.New(what)
	vmmErr := s.vmm.Err()
	// Nobody writes any more, but the last words may still be on their way.
	s.outputs.Wait()
	if vmmErr != nil {
		err = fmt.Errorf("%s: qemu: %w: %s", what, vmmErr, s.vmmLog.end(1))
	}
	return s.withConsole(err)
}

func (s *supervisor) writeStatus(phase state.Phase) error {
	self, err := state.ProcessOf(os.Getpid())
	if err != nil {
		return err
	}
	st := state.Status{Phase: phase, Started: s.events.start, Supervisor: self}
	if s.vmm != nil {
		// It may have ended already.
		st.VMM, _ = state.ProcessOf(s.vmm.PID)
	}
	select {
	case <-s.kept:
		st.Kept = true
	default:
	}
	return state.WriteJSON(s.machine.File(state.StatusFile), st)
}

func (s *supervisor) packWorkspace(ctx context.Context) error {
	ws := s.plan.Workspace
	if ws.Path == "" {
		return nil
	}
	f, err := os.OpenFile(s.machine.File(state.WorkspaceFile), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	manifest, err := workspace.Pack(ctx, ws.Path, f, workspace.PackOptions{
		UID:     s.plan.Guest.User.UID,
		GID:     s.plan.Guest.User.GID,
		Exclude: ws.Exclude,
		Warn:    func(n workspace.Note) { s.events.send(Event{Note: n.String()}) },
	})
	if err != nil {
		return err
	}
	out, err := os.OpenFile(s.machine.File(state.ManifestFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = manifest.WriteTo(out)
	return errors.Join(err, out.Close())
}
