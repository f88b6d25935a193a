package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// signals turns the process's signals into the end of a context, or hands them
// to whoever forwards them to a guest's command. After the first that ended
// the context, the next one kills.
type signals struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	ch      chan os.Signal
	forward chan chan<- os.Signal
	done    chan struct{}
}

var errInterrupted = errors.New("interrupted")

func newSignals() *signals {
	s := &signals{ch: make(chan os.Signal, 8), forward: make(chan chan<- os.Signal), done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	signal.Notify(s.ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go s.run()
	return s
}

func (s *signals) run() {
	var to chan<- os.Signal
	for {
		select {
		case to = <-s.forward:
		case sig := <-s.ch:
			if to != nil {
				select {
				case to <- sig:
				default:
				}
				continue
			}
			s.cancel(errInterrupted)
			signal.Stop(s.ch)
		case <-s.done:
			return
		}
	}
}

// forwardTo hands signals to ch until it is called with nil.
func (s *signals) forwardTo(ch chan<- os.Signal) { s.forward <- ch }

func (s *signals) stop() {
	signal.Stop(s.ch)
	close(s.done)
	s.cancel(nil)
}
