package vnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/mayfly-vm/mayfly/internal/network/link"
)

// maxUndecided bounds the attempts before the end of their handshake. While so
// many are under way, the first packets of others are lost, which the guest
// sends again after a second.
const maxUndecided = 1024

// handshakeTimeout bounds the wait for the guest's answer to Accept. A kernel
// gives it at once, unless the machine stands still.
const handshakeTimeout = 10 * time.Second

// Buffers of a connection before its size is known, bytes in each direction; see size.
var (
	sendBuffer    = tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: 256 << 10, Max: 512 << 10}
	receiveBuffer = tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: 512 << 10, Max: 512 << 10}
)

// tuneTCP sets what fits a network that neither reorders nor damages packets
// and has no distance.
func tuneTCP(st *stack.Stack) {
	sack := tcpip.TCPSACKEnabled(true)
	// RACK takes scheduling delays for losses: tens of needless
	// retransmissions a second on a socket that loses nothing. What it is
	// good at, reordering, does not happen here.
	recovery := tcpip.TCPRecovery(0)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	// TIME-WAIT is for packets that come late; here none does. A guest that
	// uses a port again meanwhile would wait for a second, as gVisor drops
	// its SYN, and the slot of Config.MaxConns would be taken.
	wait := tcpip.TCPTimeWaitTimeoutOption(0)
	send, receive := sendBuffer, receiveBuffer
	for _, option := range []tcpip.SettableTransportProtocolOption{&sack, &recovery, &moderate, &wait, &send, &receive} {
		must(fmt.Sprintf("set %T", option), st.SetTransportProtocolOption(tcp.ProtocolNumber, option))
	}
}

// Attempt is a connection that the guest wants and has no answer to yet.
type Attempt struct {
	Src netip.AddrPort // the guest
	Dst netip.AddrPort

	s       *Stack
	request *tcp.ForwarderRequest
	decided atomic.Bool
	slot    *slot
}

// handleSYN is called in a goroutine of its own for each attempt.
func (s *Stack) handleSYN(ctx context.Context, request *tcp.ForwarderRequest) {
	id := request.ID()
	a := &Attempt{
		Src:     addrPort(id.RemoteAddress, id.RemotePort),
		Dst:     addrPort(id.LocalAddress, id.LocalPort),
		s:       s,
		request: request,
	}
	if !s.begin() {
		request.Complete(true)
		return
	}
	defer s.tasks.Done()
	if a.slot = s.takeSlot(); a.slot == nil {
		// The guest sends a packet again that has no answer: there may be room
		// then.
		room := s.cfg.MakeRoom != nil && s.cfg.MakeRoom()
		request.Complete(!room)
		s.link.Refuse(link.Refusal{Kind: KindConns, Dst: a.Dst})
		return
	}
	defer a.slot.leave()
	s.cfg.TCP(ctx, a)
	a.Reject() // no effect if it has decided
}

// KindConns is the Kind of the refusal of a connection beyond Config.MaxConns.
const KindConns = "too many connections"

var errDecided = errors.New("the connection is already accepted or rejected")

// Accept completes the handshake and returns the connection, which has
// a CloseWrite method. It waits for the guest's answer, at most 10 s. Closing
// the connection is up to the caller.
func (a *Attempt) Accept() (net.Conn, error) {
	if !a.decided.CompareAndSwap(false, true) {
		return nil, errDecided
	}
	var wq waiter.Queue
	ep, err := a.shakeHands(&wq)
	a.request.Complete(err != nil)
	if err != nil {
		return nil, fmt.Errorf("accept the guest's connection to %v: %w", a.Dst, asError(err))
	}
	c := &conn{TCPConn: gonet.NewTCPConn(&wq, ep), ep: ep.(*tcp.Endpoint), wq: &wq, size: a.slot.grow()}
	c.apply()
	a.slot.holdUntilEnd(&wq, ep)
	return c, nil
}

// shakeHands answers the guest's first packet and waits for its second.
func (a *Attempt) shakeHands(wq *waiter.Queue) (tcpip.Endpoint, tcpip.Error) {
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { a.abortUnless(done) })
	defer watch.Wait()
	defer close(done)
	return a.request.CreateEndpoint(wq)
}

// abortUnless ends CreateEndpoint, which takes no context and would wait for two
// minutes, when the guest does not answer in time or the stack is closed.
func (a *Attempt) abortUnless(done <-chan struct{}) {
	t := time.NewTimer(a.s.handshake)
	defer t.Stop()
	select {
	case <-done:
		return
	case <-t.C:
	case <-a.s.done:
	}
	id := a.request.ID()
	for { // until CreateEndpoint has come as far as to have an endpoint
		if ep := a.s.stack.FindTransportEndpoint(ipv4.ProtocolNumber, tcp.ProtocolNumber, id, nic); ep != nil {
			ep.Abort()
		}
		t.Reset(time.Millisecond)
		select {
		case <-done:
			return
		case <-t.C:
		}
	}
}

// Reject tells the guest that nobody listens, by RST. It has no effect after
// Accept.
func (a *Attempt) Reject() {
	if !a.decided.CompareAndSwap(false, true) {
		return
	}
	a.request.Complete(true)
}

// slots counts connections, up to max.
type slots struct {
	max int

	mu   sync.Mutex
	used int
}

// take reports whether there was a free slot, and makes it a used one.
func (sl *slots) take() bool {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	if sl.used >= sl.max {
		return false
	}
	sl.used++
	return true
}

func (sl *slots) give() {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	sl.used--
}

func (sl *slots) taken() int {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	return sl.used
}
