// Package link is the wire between a VMM and a network stack: Ethernet frames
// on the unix socket of QEMU's "-netdev stream", and a filter in front of the
// stack.
//
// Frames from the guest flow in. Those that the filter lets in go to gVisor's
// stack, as a stack.LinkEndpoint; the others are refused, some with an ICMP
// answer, and told of by Refusals. What the stack sends flows out, as many
// frames in one write as wait. Whatever the guest does, memory is bounded: by
// the length of a frame, the read buffer and the send queue.
//
// The package decides nothing about connections: TCP and UDP to any host go to
// the stack.
package link

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// MTU is the longest IP packet in bytes: with its Ethernet header it is just
// under 64 KiB, the largest buffer that gVisor keeps for use again. Such packets
// cost a quarter of the CPU time per byte of an Ethernet's 1500.
const MTU = 65520

// Config is the two ends of the wire.
type Config struct {
	Gateway netip.Prefix     // the stack's IPv4 address, and the network that both are in
	MAC     net.HardwareAddr // the stack's
	Guest   netip.Addr       // the only address that the guest may send from

	// Refused is told of packets that are not let in, maybe by several goroutines.
	// It must return soon and not call the Endpoint. It may be nil.
	Refused func(Refusal)
}

// Endpoint is the stack's network interface. It outlives the VMMs that are
// connected to it one after the other; without one it loses every packet, as a
// network card without a cable does.
type Endpoint struct {
	mac     tcpip.LinkAddress
	gateway netip.Addr
	filter  filter
	refused func(Refusal)

	session atomic.Pointer[session] // nil without a VMM

	mu         sync.Mutex
	dispatcher stack.NetworkDispatcher // the stack
}

var _ stack.LinkEndpoint = (*Endpoint)(nil)

// New returns an endpoint that no VMM is connected to.
func New(cfg Config) *Endpoint {
	return &Endpoint{
		mac:     tcpip.LinkAddress(cfg.MAC),
		gateway: cfg.Gateway.Addr(),
		filter: filter{
			gateway:   cfg.Gateway.Addr(),
			guest:     cfg.Guest,
			broadcast: lastAddr(cfg.Gateway),
		},
		refused: cfg.Refused,
	}
}

// lastAddr returns the broadcast address of an IPv4 network.
func lastAddr(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}

// Connect makes conn, which it takes over, the way to the guest, in place of
// the one before. Its goroutines end when the VMM closes conn, at the first bad
// frame, or by Disconnect. It must not be called by two at once.
func (e *Endpoint) Connect(conn net.Conn) {
	e.Disconnect()
	s := &session{conn: conn, out: newSendQueue()}
	e.session.Store(s)
	s.done.Go(func() {
		defer s.end()
		if err := e.receive(conn); errors.Is(err, errFrame) {
			e.Refuse(Refusal{Kind: KindFrame})
		}
	})
	s.done.Go(func() {
		defer s.end()
		s.out.writeTo(conn) // an error is the VMM's end, which the reader sees, too
	})
}

// Disconnect closes the connection to the VMM, if there is one, and waits for
// its goroutines.
func (e *Endpoint) Disconnect() {
	if s := e.session.Swap(nil); s != nil {
		s.end()
		s.done.Wait()
	}
}

// session is the time of one VMM.
type session struct {
	conn net.Conn
	out  *sendQueue
	done sync.WaitGroup // reader and writer
}

// end ends the session's goroutines; it may be called more than once.
func (s *session) end() {
	s.conn.Close()
	s.out.close()
}

// receive passes on frames from conn until its end.
func (e *Endpoint) receive(conn net.Conn) error {
	fr := newFrameReader(conn)
	for {
		frame, err := fr.next()
		if err != nil {
			return err
		}
		v, refusal := e.filter.check(frame)
		switch v {
		case deliver:
			e.deliver(frame)
		case prohibit:
			e.send(e.prohibited(frame))
			e.Refuse(refusal)
		case drop:
			e.Refuse(refusal)
		}
	}
}

// deliver hands a frame to the stack, which works on a copy.
func (e *Endpoint) deliver(frame []byte) {
	e.mu.Lock()
	d := e.dispatcher
	e.mu.Unlock()
	if d == nil {
		return
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
	defer pkt.DecRef()
	e.ParseHeader(pkt)
	eth := header.Ethernet(frame)
	pkt.PktType = tcpip.PacketHost
	if header.IsMulticastEthernetAddress(eth.DestinationAddress()) || eth.DestinationAddress() == header.EthernetBroadcastAddress {
		pkt.PktType = tcpip.PacketBroadcast
	}
	d.DeliverNetworkPacket(eth.Type(), pkt)
}

// send queues a frame, with its length in front.
func (e *Endpoint) send(frame []byte) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
	defer pkt.DecRef()
	var pkts stack.PacketBufferList
	pkts.PushBack(pkt)
	e.WritePackets(pkts)
}

// Refuse tells of a packet that the stack did not want, as the filter does.
func (e *Endpoint) Refuse(r Refusal) {
	if e.refused != nil {
		e.refused(r)
	}
}

// WritePackets implements stack.LinkEndpoint. It never waits for the guest:
// what is too much is lost.
func (e *Endpoint) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	s := e.session.Load()
	if s == nil {
		return 0, nil
	}
	return s.out.put(pkts.AsSlice()), nil
}

// AddHeader implements stack.LinkEndpoint. The length in front of a frame is
// part of the header, so that a packet is written as it is.
func (e *Endpoint) AddHeader(pkt *stack.PacketBuffer) {
	size := pkt.Size() + ethernetLen
	h := pkt.LinkHeader().Push(lengthLen + ethernetLen)
	putHeader(h, size, pkt.EgressRoute.RemoteLinkAddress, e.mac, pkt.NetworkProtocolNumber)
}

// ParseHeader implements stack.LinkEndpoint.
func (e *Endpoint) ParseHeader(pkt *stack.PacketBuffer) bool {
	_, ok := pkt.LinkHeader().Consume(ethernetLen)
	return ok
}

// Attach implements stack.LinkEndpoint.
func (e *Endpoint) Attach(d stack.NetworkDispatcher) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dispatcher = d
}

// IsAttached implements stack.LinkEndpoint.
func (e *Endpoint) IsAttached() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.dispatcher != nil
}

// Capabilities implements stack.LinkEndpoint. A unix socket damages nothing, so
// that the stack need not verify checksums; it does compute them, which nobody
// else would.
func (e *Endpoint) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload | stack.CapabilityResolutionRequired
}

// MTU implements stack.LinkEndpoint.
func (e *Endpoint) MTU() uint32 { return MTU }

// SetMTU implements stack.LinkEndpoint; the MTU is what it is.
func (e *Endpoint) SetMTU(uint32) {}

// MaxHeaderLength implements stack.LinkEndpoint.
func (e *Endpoint) MaxHeaderLength() uint16 { return lengthLen + ethernetLen }

// LinkAddress implements stack.LinkEndpoint.
func (e *Endpoint) LinkAddress() tcpip.LinkAddress { return e.mac }

// SetLinkAddress implements stack.LinkEndpoint; the address is what it is.
func (e *Endpoint) SetLinkAddress(tcpip.LinkAddress) {}

// ARPHardwareType implements stack.LinkEndpoint.
func (e *Endpoint) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// Wait implements stack.LinkEndpoint; Disconnect waits.
func (e *Endpoint) Wait() {}

// Close implements stack.LinkEndpoint; Disconnect closes.
func (e *Endpoint) Close() {}

// SetOnCloseAction implements stack.LinkEndpoint.
func (e *Endpoint) SetOnCloseAction(func()) {}
