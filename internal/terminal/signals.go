package terminal

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// Signals turns the process's signals into the end of a context, or hands them
// to whoever forwards them to a guest's command. After the first that ended
// the context, the next one kills.
type Signals struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	ch      chan os.Signal
	forward chan chan<- os.Signal
	hungUp  chan struct{}
	done    chan struct{}
}

// ErrInterrupted is the cause of the end of the context.
var ErrInterrupted = errors.New("interrupted")

// NewSignals takes the signals that end a program, until Stop.
func NewSignals() *Signals {
	s := &Signals{ch: make(chan os.Signal, 8), forward: make(chan chan<- os.Signal), hungUp: make(chan struct{}), done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	signal.Notify(s.ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go s.run()
	return s
}

func (s *Signals) run() {
	var to chan<- os.Signal
	hungUp := false
	for {
		select {
		case to = <-s.forward:
		case sig := <-s.ch:
			if sig == syscall.SIGHUP && !hungUp {
				hungUp = true
				close(s.hungUp)
			}
			if to != nil {
				select {
				case to <- sig:
				default:
				}
				continue
			}
			s.cancel(ErrInterrupted)
			signal.Stop(s.ch)
		case <-s.done:
			return
		}
	}
}

// Context ends with the first signal that is not forwarded.
func (s *Signals) Context() context.Context { return s.ctx }

// HungUp is closed by the first SIGHUP, also one that is forwarded: the terminal was
// closed, or the connection that it came through.
func (s *Signals) HungUp() <-chan struct{} { return s.hungUp }

// giveUpAfter is the number of signals after which a command that does not end
// is left to itself.
const giveUpAfter = 3

// Forward hands signals on by their numbers, in place of ending the context, until end is
// called. It calls giveUp with ErrInterrupted after some: who gets them does not end. Where
// stuck says that they cannot be heard, it does so with the first.
func (s *Signals) Forward(giveUp context.CancelCauseFunc, stuck func() bool) (numbers <-chan byte, end func()) {
	to := make(chan byte, giveUpAfter) // a guest that does not read must not keep us from giving up
	signals := make(chan os.Signal, 8)
	done := make(chan struct{})
	s.forward <- signals
	go func() {
		for n := 1; ; n++ {
			select {
			case <-done:
				return
			case sig := <-signals:
				if n >= giveUpAfter || stuck() {
					giveUp(ErrInterrupted)
					return
				}
				select {
				case to <- byte(sig.(syscall.Signal)):
				case <-done:
					return
				}
			}
		}
	}()
	return to, func() {
		close(done)
		s.forward <- nil
	}
}

// Stop leaves signals to what they do by themselves.
func (s *Signals) Stop() {
	signal.Stop(s.ch)
	close(s.done)
	s.cancel(nil)
}
