package supervisor

import (
	"net"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/budget"
)

type pipes struct{}

func (pipes) Open() (net.Conn, error) {
	ours, theirs := net.Pipe()
	theirs.Close()
	return ours, nil
}

func (pipes) Close() error { return nil }

func (pipes) CloseChan() <-chan struct{} { return nil }

func (pipes) Why() error { return nil }

// Streams to the guest are counted until they are closed, and ports leave some to the user.
func TestStreamsAreCounted(t *testing.T) {
	b := budget.New(budget.Reserve + streamCost)
	g := &guest{session: pipes{}, budget: b}
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
