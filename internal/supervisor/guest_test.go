package supervisor

import (
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayfly-vm/mayfly/internal/budget"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

type pipes struct{}

func (pipes) Open() (net.Conn, error) {
	ours, theirs := net.Pipe()
	theirs.Close()
	return ours, nil
}

func (pipes) NumStreams() int { return 0 }

func (pipes) Close() error { return nil }

func (pipes) CloseChan() <-chan struct{} { return nil }

func (pipes) Why() error { return nil }

// Streams to the guest are counted until they are closed, and ports leave some to the user.
func TestStreamsAreCounted(t *testing.T) {
	b := budget.New(budget.Reserve + streamCost)
	g := newGuest(nil, pipes{}, b)
	port, err := g.openFor(streamCost, budget.Reserve)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.openFor(streamCost, budget.Reserve); err == nil {
		t.Error("a port takes what is the user's")
	}
	var all []guestStream
	for {
		stream, err := g.open()
		if err != nil {
			break
		}
		all = append(all, stream)
	}
	if want := budget.Reserve / streamCost; len(all) != want {
		t.Errorf("the user has %d streams beside; want %d", len(all), want)
	}
	for _, stream := range append(all, port) {
		if b.Used() == 0 {
			t.Error("a stream that is open is counted no more")
		}
		stream.Close()
		stream.Close()
	}
	if b.Used() != 0 {
		t.Errorf("%d bytes are counted after all were closed", b.Used())
	}
}

// What the multiplexer holds for a guest that never ends a stream is counted after it was closed,
// also when who uses the guest's ports comes and leaves; and is there again when it is freed.
func TestUnendedStreamsAreCounted(t *testing.T) {
	if !alone(t) {
		return
	}
	bubble(t, func(t *testing.T) {
		var ends atomic.Bool
		g := talk(t, func(stream net.Conn) {
			var req wire.Request
			wire.ReadMessage(stream, &req)
			wire.WriteMessage(stream, wire.Connected{})
			if ends.Load() {
				stream.Close()
			}
		})
		b := budget.New(budget.Default)
		g = newGuest(nil, g.session, b)
		comeAndLeave := func() error {
			conn, err := guestPorts{g}.Connect(t.Context(), 80)
			if err == nil {
				conn.Close()
				synctest.Wait()
			}
			return err
		}
		const most = (budget.Default - budget.Reserve) / streamCost
		left := 0
		for ; left <= most && comeAndLeave() == nil; left++ {
		}
		if b.Used() != 0 || left > most || left < most-1 {
			t.Errorf("%d connections are left unended, and %d bytes counted beside; want %d at most", left, b.Used(), most)
		}
		if b.Take(portCost, budget.Reserve) {
			t.Error("the network takes what the connections hold")
		}
		if stream, err := g.open(); err != nil {
			t.Errorf("the user is shut out: %v", err)
		} else {
			stream.Close()
		}
		time.Sleep(time.Hour)
		ends.Store(true)
		for range 2 * most {
			if err := comeAndLeave(); err != nil {
				t.Fatalf("after the guest's time: %v", err)
			}
		}
	})
}
