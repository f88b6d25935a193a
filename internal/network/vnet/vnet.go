// Package vnet is the network that a machine sees: a gateway, and behind it
// whoever the guest speaks to, all played by a TCP/IP stack in this process.
//
// A VMM's frames flow in (package link). Out flow connections: each that the
// guest attempts is shown to Config.TCP, on its first packet, which accepts or
// rejects it; each datagram is shown to Config.Datagram, which answers it or
// not. The package decides nothing and opens no socket of the host's: where
// a connection goes on, and whether it may, is up to those two.
//
// IPv4 only: a guest without IPv6 loses nothing, as no packet of its leaves
// this process.
package vnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/mayfly-vm/mayfly/internal/budget"
	"github.com/mayfly-vm/mayfly/internal/network/link"
)

// What whoever configures a guest and its VMM must know. It is the same for
// every machine: each has a network of its own.
const (
	PrefixBits = 24       // of the network that Gateway and Guest are in
	MTU        = link.MTU // bytes of IP; the VMM must offer it to the guest (host_mtu)

	// Locally administered addresses in QEMU's range that spell "may" and
	// "fly".
	GuestMAC   = "52:54:00:6d:61:79"
	GatewayMAC = "52:54:00:66:6c:79"
)

// The two addresses of the network.
var (
	Gateway = netip.AddrFrom4([4]byte{192, 168, 127, 1})
	Guest   = netip.AddrFrom4([4]byte{192, 168, 127, 2})
)

// Config says who answers a machine. TCP and Datagram must be set. No callback
// may call Attach or Close, which wait for it.
type Config struct {
	// TCP is called for each connection that the guest attempts, on its
	// first packet, in a goroutine of its own that it may keep. It calls
	// Accept or Reject once; returning without either is Reject. ctx ends
	// at Close, which waits for TCP to return.
	TCP func(ctx context.Context, a *Attempt)

	// Datagram is called for each UDP datagram to a single host, in
	// a goroutine of its own. The answer goes back to src at once, from
	// dst; without ok, the guest learns by ICMP that nobody listens. It is
	// for names: payloads have at most MaxDatagram bytes, and while 64
	// calls are under way, further datagrams are lost. ctx ends at Close,
	// which waits for Datagram to return.
	Datagram func(ctx context.Context, src, dst netip.AddrPort, payload []byte) (answer []byte, ok bool)

	// Refused is told of packets that nobody is asked about, such as IPv6
	// and multicasts, at most a hundred in a second, one call at a time. It
	// must return soon and not call the Stack. It may be nil.
	Refused func(link.Refusal)

	// MaxConns bounds the connections of the machine at once, with those
	// that are not decided on and those that are closing. More are rejected.
	// 0 is DefaultMaxConns.
	MaxConns int

	// Budget is what the machine may make us hold; nil for one of the Stack's own.
	// A connection for which too little is left is one too many.
	Budget *budget.Budget

	// MakeRoom is called for a connection too many. It reports whether there will be
	// room soon: the guest is let try again then, instead of rejected. It may be
	// nil.
	MakeRoom func() bool
}

// DefaultMaxConns is the number of connections that a machine may have at once.
const DefaultMaxConns = 2048

// nic is the number of the stack's only interface.
const nic tcpip.NICID = 1

// Stack is one machine's network.
type Stack struct {
	cfg       Config
	link      *link.Endpoint
	stack     *stack.Stack
	conns     slots         // attempts and connections
	datagrams chan struct{} // one element for each call of Datagram under way

	handshake time.Duration // how long a guest may take to answer Accept

	done   <-chan struct{}    // closed when the Stack is
	cancel context.CancelFunc // ends the contexts of the callbacks, and closes done

	attaching sync.Mutex // held during Attach and Close

	mu     sync.Mutex
	closed bool
	tasks  sync.WaitGroup // callbacks under way; Add only with mu held and not closed
}

// New returns a network that no VMM is attached to.
func New(cfg Config) *Stack {
	if cfg.MaxConns == 0 {
		cfg.MaxConns = DefaultMaxConns
	}
	if cfg.Budget == nil {
		cfg.Budget = budget.New(budget.Default)
	}
	mac, err := net.ParseMAC(GatewayMAC)
	if err != nil {
		panic(err) // a constant
	}
	s := &Stack{
		cfg:       cfg,
		conns:     slots{max: cfg.MaxConns},
		datagrams: make(chan struct{}, maxDatagrams),
		handshake: handshakeTimeout,
		link: link.New(link.Config{
			Gateway: netip.PrefixFrom(Gateway, PrefixBits),
			MAC:     mac,
			Guest:   Guest,
			Refused: cfg.Refused,
		}),
	}
	// The Stack's own life, for the callbacks.
	ctx, cancel := context.WithCancel(context.Background())
	s.done, s.cancel = ctx.Done(), cancel
	s.stack = newStack(s.link)
	// The smallest window first: one that shrinks makes packets under way unacceptable, and
	// the acknowledgements in them.
	forwarder := tcp.NewForwarder(s.stack, int(sizes[len(sizes)-1].receive), maxUndecided, func(r *tcp.ForwarderRequest) {
		s.handleSYN(ctx, r)
	})
	s.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, forwarder.HandlePacket)
	s.stack.SetTransportProtocolHandler(udp.ProtocolNumber, func(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
		return s.handleDatagram(ctx, id, pkt)
	})
	return s
}

// newStack returns a TCP/IP stack that takes every packet from the link as if
// addressed to it (promiscuous), and may answer from every address (spoofing).
func newStack(ep *link.Endpoint) *stack.Stack {
	st := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocolCUBIC, udp.NewProtocol, icmp.NewProtocol4},
	})
	tuneTCP(st)
	guestMAC, err := net.ParseMAC(GuestMAC)
	if err != nil {
		panic(err) // a constant
	}
	must("create the interface", st.CreateNIC(nic, ep))
	must("set promiscuous mode", st.SetPromiscuousMode(nic, true))
	must("set spoofing", st.SetSpoofing(nic, true))
	must("add the gateway's address", st.AddProtocolAddress(nic, tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4(Gateway.As4()), PrefixLen: PrefixBits},
	}, stack.AddressProperties{}))
	// The guest need not be asked for its address, and can't lie about it.
	must("add the guest as a neighbour", st.AddStaticNeighbor(nic, ipv4.ProtocolNumber,
		tcpip.AddrFrom4(Guest.As4()), tcpip.LinkAddress(guestMAC)))
	st.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
	return st
}

// must panics at errors that only wrong constants can cause.
func must(what string, err tcpip.Error) {
	if err != nil {
		panic(fmt.Sprintf("vnet: %s: %v", what, err))
	}
}

// Attach takes over conn, the socket of a VMM, in place of the one before. The
// connections of the guest before end: the new one knows nothing of them.
func (s *Stack) Attach(conn net.Conn) {
	s.attaching.Lock()
	defer s.attaching.Unlock()
	s.link.Disconnect()
	s.abortAll()
	select {
	case <-s.done:
		conn.Close()
	default:
		s.link.Connect(conn)
	}
}

// Close takes the guest's link away, resets all connections, and waits for the
// callbacks and all goroutines. It may be called more than once.
func (s *Stack) Close() {
	s.attaching.Lock()
	defer s.attaching.Unlock()
	if !s.end() {
		return
	}
	s.cancel() // also ends each handshake
	s.link.Disconnect()
	s.abortAll() // there are no new connections without a link
	s.tasks.Wait()
	s.stack.Destroy()
}

// end makes begin return false and reports whether it did not before.
func (s *Stack) end() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.closed = true
	return true
}

// begin notes that a callback begins, unless the stack is closed. Its end is
// tasks.Done.
func (s *Stack) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.tasks.Add(1)
	}
	return !s.closed
}

// abortAll ends what connections there are.
func (s *Stack) abortAll() {
	for _, ep := range s.stack.RegisteredEndpoints() {
		ep.Abort()
	}
}

// addrPort returns one half of a connection's name.
func addrPort(addr tcpip.Address, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4(addr.As4()), port)
}

// asError returns gVisor's error as one.
func asError(err tcpip.Error) error {
	if err == nil {
		return nil
	}
	return errors.New(err.String())
}
