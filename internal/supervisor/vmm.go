package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// A machine's start may take several VMMs, one after the other: one that is
// saved, one that is restored, one that boots when that failed.

// openOutputs makes the files for what the VMMs and their guests print.
func (s *supervisor) openOutputs() error {
	var err error
	if s.console, err = newOutput(s.machine.File(state.ConsoleFile)); err != nil {
		return err
	}
	s.vmmLog, err = newOutput(s.machine.File(state.VMMLogFile))
	return err
}

// startVMM starts the VMM of spec. There is none, or the one before has ended.
func (s *supervisor) startVMM(ctx context.Context, spec machine.Spec) error {
	s.console.begin()
	s.vmmLog.begin()
	command := s.driver.Command(spec)
	s.log.Debug("start the virtual machine monitor", "command", command.String())
	// Package syscall writes the maps of the VMM's user namespace through
	// /proc, which is closed to us while a VMM runs.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("open our own /proc: %w", err)
	}
	given := s.shareFiles()
	given[machine.Tap] = s.tap
	vmm, err := s.driver.Start(ctx, spec, machine.Files{Log: s.vmmLog, Given: given})
	if err != nil {
		return err
	}
	s.vmm = vmm
	// Its end is the VMM's alone now, so that the servers see that.
	for _, sv := range s.shares {
		sv.CloseVMM()
	}
	// The VMM shares its limits with the thread of ours that started it, and
	// through that one could read and write our memory, as the same user.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("close our memory to other processes: %w", err)
	}
	console, err := vmm.Dial(ctx, machine.Console)
	if err != nil {
		return err
	}
	s.outputs.Go(func() {
		s.console.copy(console)
		console.Close()
	})
	return s.writeStatus(state.Starting)
}

// killVMM ends the VMM and all that is connected to it.
func (s *supervisor) killVMM() {
	if s.vmm == nil {
		return
	}
	if s.session != nil {
		s.session.Close()
	}
	s.vmm.Kill()
	s.vmm, s.session = nil, nil
}

// greet waits for the agent of a guest that boots.
func (s *supervisor) greet(ctx context.Context, timeout time.Duration) error {
	deadline, cancel := context.WithTimeoutCause(ctx, timeout, errDeadline)
	defer cancel()
	if err := s.dial(deadline); err != nil {
		return s.noAnswer(err, timeout)
	}
	err := s.call(deadline, timeout, func(stream guestStream) error {
		hello, err := client.Hello(stream)
		if err == nil {
			s.log.Info("guest booted", "kernel", termsafe.Line(hello.Kernel), "uptime", time.Duration(hello.Uptime))
		}
		return err
	})
	if err != nil {
		return s.noAnswer(err, timeout)
	}
	return nil
}

// dial begins the conversation with the guest's agent.
func (s *supervisor) dial(ctx context.Context) error {
	port, err := s.vmm.Dial(ctx, machine.Control)
	if err != nil {
		return err
	}
	session, err := wire.Dial(ctx, port)
	if err != nil {
		return err
	}
	s.session = session
	return nil
}

// call runs f on a stream to the agent, for timeout at most. The end of ctx ends
// the whole conversation, and is then the error.
func (s *supervisor) call(ctx context.Context, timeout time.Duration, f func(guestStream) error) error {
	session := s.session
	stop := context.AfterFunc(ctx, func() { session.Close() })
	stream, err := session.Open()
	if err == nil {
		stream.SetDeadline(time.Now().Add(timeout))
		err = f(stream)
		stream.Close()
	}
	if !stop() {
		err = context.Cause(ctx)
	}
	return err
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

// explain returns the error for a VMM that ended by itself, which is what.
func (s *supervisor) explain(what error) error {
	vmmErr := s.vmm.Err()
	// Nobody writes any more, but the last words may still be on their way.
	s.outputs.Wait()
	if vmmErr != nil {
		what = fmt.Errorf("%w: qemu: %w: %s", what, vmmErr, s.vmmLog.end(1))
	}
	return s.withConsole(what)
}
