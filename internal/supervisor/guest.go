package supervisor

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayfly-vm/mayfly/internal/budget"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// guestStream is a stream to the guest's agent.
type guestStream = net.Conn

// guest is a conversation with the agent in the guest of a VMM.
type guest struct {
	vm      *vm
	session session
	budget  *budget.Budget // of the machine; nil for one that nobody else uses
	counted atomic.Int64   // streams that were taken from it
}

// session is the multiplexer over the control port.
type session interface {
	Open() (net.Conn, error)
	// NumStreams counts the streams that hold memory.
	NumStreams() int
	Close() error
	// CloseChan is closed at the session's end, and Why then says what was wrong with
	// what the guest has sent, nil for nothing.
	CloseChan() <-chan struct{}
	Why() error
}

// dialGuest begins the conversation, when the guest answers.
func dialGuest(ctx context.Context, v *vm, b *budget.Budget) (*guest, error) {
	port, err := v.Dial(ctx, machine.Control)
	if err != nil {
		return nil, err
	}
	s, err := wire.Dial(ctx, port)
	if err != nil {
		return nil, err
	}
	return newGuest(v, s, b), nil
}

func newGuest(v *vm, s session, b *budget.Budget) *guest {
	g := &guest{vm: v, session: s, budget: b}
	if b != nil {
		b.Loose(g.unended)
	}
	return g
}

// unended is what streams hold in the worst case that were closed and given back, and that the
// guest does not end: the multiplexer takes what it sends on them until closeTimeout.
func (g *guest) unended() int64 {
	select {
	case <-g.session.CloseChan():
		return 0
	default:
		return max(0, int64(g.session.NumStreams())-g.counted.Load()) * streamCost
	}
}

// Close ends the conversation. The guest lives on, and takes part in another.
func (g *guest) Close() { g.session.Close() }

// streamCost is what a stream holds in the worst case, in bytes: the multiplexer's window,
// in a buffer that grows twofold, and who copies it.
const streamCost = 2*wire.MaxWindow + 128<<10

// portCost is what a connection to a port holds: a stream, and a frame in each direction.
const portCost = streamCost + 2*wire.MaxFrame

// open opens a stream. A guest that reads nothing holds it up until Close.
func (g *guest) open() (guestStream, error) { return g.openFor(streamCost, 0) }

// openFor opens a stream that costs so much, if spare is left of the machine's budget then.
func (g *guest) openFor(cost, spare int64) (guestStream, error) {
	if g.budget == nil {
		return g.session.Open()
	}
	if !g.budget.Take(cost, spare) {
		return nil, errors.New("too many conversations with the guest at once")
	}
	stream, err := g.session.Open()
	if err != nil {
		g.budget.Give(cost)
		return nil, err
	}
	g.counted.Add(1)
	return &countedStream{stream, sync.OnceFunc(func() {
		g.counted.Add(-1) // first: no moment counts less than there is
		g.budget.Give(cost)
	})}, nil
}

// countedStream gives back what it cost when it is closed.
type countedStream struct {
	net.Conn
	give func()
}

func (c *countedStream) Close() error {
	err := c.Conn.Close()
	c.give()
	return err
}

// abandon closes a stream, and ends what waits for the guest on it: Close of the
// multiplexer's ends no read. What a guest floods the stream with is taken until closeTimeout.
func abandon(stream guestStream) {
	stream.SetDeadline(time.Unix(1, 0))
	stream.Close()
}

// why says why the guest takes no part any more: err is that of a stream to it, if there
// was one.
func (g *guest) why(err error) string {
	if why := g.session.Why(); why != nil {
		return termsafe.Line(why.Error())
	}
	select {
	case <-g.session.CloseChan():
	default:
		if err != nil {
			return "the guest takes no commands: " + err.Error()
		}
	}
	return "the guest broke off the conversation"
}

// within runs f on a stream to the agent, for as long as ctx lasts. What a guest holds up then
// that reads nothing ends with the conversation.
func (g *guest) within(ctx context.Context, f func(guestStream) error) error {
	done := make(chan error, 1)
	go func() {
		stream, err := g.open()
		if err == nil {
			stop := context.AfterFunc(ctx, func() { abandon(stream) })
			err = f(stream)
			stop()
			stream.Close()
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil || ctx.Err() == nil {
			return err
		}
	case <-ctx.Done():
	}
	return context.Cause(ctx)
}

// call runs f on a stream to the agent, for timeout at most. The end of ctx ends
// the whole conversation, and is then the error.
func (g *guest) call(ctx context.Context, timeout time.Duration, f func(guestStream) error) error {
	stop := context.AfterFunc(ctx, g.Close)
	stream, err := g.open()
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

// greet waits for the agent of a guest that boots.
func (s *supervisor) greet(ctx context.Context, v *vm) (*guest, error) {
	timeout := control.BootTimeout(s.plan.Machine)
	deadline, cancel := context.WithTimeoutCause(ctx, timeout, errDeadline)
	defer cancel()
	g, err := dialGuest(deadline, v, s.budget)
	if err != nil {
		return nil, noAnswer(v, err, timeout)
	}
	// deadline is the earlier one, and has the better error.
	err = g.call(deadline, 2*timeout, func(stream guestStream) error {
		hello, err := client.Hello(stream)
		if err == nil {
			s.log.Info("guest booted", "kernel", termsafe.Line(hello.Kernel), "uptime", time.Duration(hello.Uptime))
		}
		return err
	})
	if err != nil {
		g.Close()
		return nil, noAnswer(v, err, timeout)
	}
	return g, nil
}

// noAnswer explains err if it is that of a deadline.
func noAnswer(v *vm, err error, timeout time.Duration) error {
	if !errors.Is(err, errDeadline) {
		return err
	}
	seconds := strconv.Itoa(int(timeout / time.Second))
	return v.withConsole(fault.New(fault.BootTimeout, fault.Args{"seconds": seconds},
		"the guest did not answer within %v", timeout))
}
