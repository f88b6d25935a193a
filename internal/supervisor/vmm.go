package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// A machine's start may take several VMMs, one after the other: one that is
// saved, one that is restored, one that boots when that failed.

// vm is a VMM that runs.
type vm struct {
	machine.VMM
	process state.Process // where it is one; it may have ended
	engine  string        // its name
	prints  *prints
	shares  shareServers
	copied  sync.WaitGroup // the goroutine that copies the console
	heard   sync.WaitGroup // the goroutine that hears what the VMM tells
	ready   atomic.Bool    // the machine is: nobody here pauses it any more
	ending  ending
}

// startVM starts the VMM of spec, with the servers of its shares. The one before has
// ended.
func (s *supervisor) startVM(ctx context.Context, spec machine.Spec, p *prints, shares shareServers, tap *os.File) (*vm, error) {
	if err := s.driver.Capabilities().Check(spec); err != nil {
		return nil, err
	}
	p.begin()
	s.log.Debug("start the virtual machine monitor", "command", s.driver.Command(spec).String())
	// Package syscall writes the maps of the VMM's user namespace through
	// /proc, which is closed to us while a VMM runs.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("open our own /proc: %w", err)
	}
	given := shares.files()
	given[machine.Tap] = tap
	vmm, err := s.driver.Start(ctx, spec, machine.Files{Log: p.vmm, Given: given})
	if err != nil {
		return nil, err
	}
	v := &vm{VMM: vmm, engine: s.plan.Machine.Engine.Name, prints: p, shares: shares}
	// Its end is the VMM's alone now, so that the servers see that.
	for _, sv := range shares {
		sv.CloseVMM()
	}
	v.heard.Go(func() { s.hear(v, spec) })
	if err := s.watchVM(ctx, v); err != nil {
		v.Close()
		return nil, err
	}
	return v, nil
}

// watchVM closes our memory to the VMM that was started, and keeps what its guest
// prints.
func (s *supervisor) watchVM(ctx context.Context, v *vm) error {
	// The VMM shares its limits with the thread of ours that started it, and
	// through that one could read and write our memory, as the same user.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("close our memory to other processes: %w", err)
	}
	console, err := v.Dial(ctx, machine.Console)
	if err != nil {
		return err
	}
	v.copied.Go(func() {
		v.prints.console.copy(console)
		console.Close()
	})
	if pid := v.PID(); pid != 0 {
		// It may have ended already.
		v.process, _ = state.ProcessOf(pid)
	}
	return s.writeStatus(state.Starting, v.process)
}

// Close ends the VMM, however it is.
func (v *vm) Close() {
	v.Kill()
	v.copied.Wait()
	v.heard.Wait()
}

func (v *vm) ended() bool {
	select {
	case <-v.Done():
		return true
	default:
		return false
	}
}

var errDied = errors.New("the virtual machine monitor ended")

// whileAlive runs f with a context that ends when the VMM does, or a server of its
// shares, and explains its error.
func (v *vm) whileAlive(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	die := func(done <-chan struct{}) {
		select {
		case <-done:
			cancel(errDied)
		case <-ctx.Done():
		}
	}
	go die(v.Done())
	for _, sv := range v.shares {
		go die(sv.Done())
	}
	err := f(ctx)
	if err == nil {
		return nil
	}
	if failure := v.shares.failure(); failure != nil {
		return failure
	}
	if cause := context.Cause(ctx); v.ended() || (cause == nil || cause == errDied) && v.hasBrokenOff(err) {
		return v.explain(errors.New("the machine ended while it was started"))
	}
	return err
}

// vmmGrace is the time in which the end of a VMM is seen after that of its connections, and of
// the servers of its shares, which end with it.
const vmmGrace = time.Second

// hasBrokenOff reports whether err is of a connection that broke off since the VMM ends.
func (v *vm) hasBrokenOff(err error) bool {
	if !errors.Is(err, errDied) && !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
		return false
	}
	select {
	case <-v.Done():
		return true
	case <-time.After(vmmGrace):
		return false
	}
}

// explain returns the error for a VMM that ended by itself, which is what.
func (v *vm) explain(what error) error {
	vmmErr := v.Err()
	// Nobody writes any more, but the last words may still be on their way.
	v.copied.Wait()
	v.heard.Wait()
	v.ending.mu.Lock()
	reason, panicked := v.ending.reason, v.ending.panicked
	v.ending.mu.Unlock()
	last := v.prints.vmm.end(1)
	switch {
	case killed(vmmErr):
		what = fault.New(fault.MachineKilled, nil, "%w: the host killed %s, probably for want of memory", what, v.engine)
	case vmmErr != nil && last == "":
		what = fmt.Errorf("%w: %s: %w", what, v.engine, vmmErr)
	case vmmErr != nil:
		what = fmt.Errorf("%w: %s: %w: %s", what, v.engine, vmmErr, last)
	case panicked, reason == machine.ByGuestPanic, reason == machine.ByGuestReset && v.prints.console.panicked():
		what = fault.New(fault.MachinePanicked, nil, "%w: its kernel panicked", what)
	case reason == machine.ByGuest:
		what = fault.New(fault.MachinePoweredOff, nil, "%w: it was powered off from inside", what)
	case reason == machine.ByGuestReset:
		what = fault.New(fault.MachinePoweredOff, nil, "%w: it was rebooted from inside, which ends a machine", what)
	case reason != "":
		what = fmt.Errorf("%w: %s ended it: %s", what, v.engine, reason)
	}
	return v.withConsole(what)
}

// killed reports whether err is that of a process that was killed from outside: a kernel
// without memory does that, and nobody else is known to.
func killed(err error) bool { return signalOf(err) == syscall.SIGKILL }

// crashed reports whether err is that of a VMM that a fault of its own ended. One that a
// rule of its confinement ended, by SIGSYS, would end so again.
func crashed(err error) bool {
	switch signalOf(err) {
	case syscall.SIGSEGV, syscall.SIGABRT, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL, syscall.SIGTRAP:
		return true
	}
	return false
}

// signalOf returns the signal that ended the process whose error err is, or 0.
func signalOf(err error) syscall.Signal {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return 0
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return 0
	}
	return status.Signal()
}

// consoleError is an error with the end of the guest's console.
type consoleError struct {
	error
	console string
}

func (e *consoleError) Unwrap() error { return e.error }

const consoleLines = 12

func (v *vm) withConsole(err error) error {
	return &consoleError{err, v.prints.console.end(consoleLines)}
}
