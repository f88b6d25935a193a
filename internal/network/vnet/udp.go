package vnet

import (
	"context"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// MaxDatagram bounds the payload of datagrams in bytes, in both directions.
// Longer ones are treated as if nobody listened.
const MaxDatagram = 4 << 10

// maxDatagrams bounds the calls of Config.Datagram at once.
const maxDatagrams = 64

// handleDatagram is called by the link's reader for each UDP packet. Without
// true, gVisor answers with ICMP port unreachable.
func (s *Stack) handleDatagram(ctx context.Context, id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	if pkt.Data().Size() > MaxDatagram {
		return false
	}
	select {
	case s.datagrams <- struct{}{}:
	default:
		return true // lost
	}
	if !s.begin() {
		<-s.datagrams
		return true
	}
	kept := pkt.Clone() // the caller's may be changed
	go func() {
		defer s.tasks.Done()
		defer func() { <-s.datagrams }()
		defer kept.DecRef()
		s.answerDatagram(ctx, id, kept)
	}()
	return true
}

func (s *Stack) answerDatagram(ctx context.Context, id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	src, dst := addrPort(id.RemoteAddress, id.RemotePort), addrPort(id.LocalAddress, id.LocalPort)
	answer, ok := s.cfg.Datagram(ctx, src, dst, pkt.Data().AsRange().ToSlice())
	if !ok || len(answer) > MaxDatagram {
		s.rejectDatagram(pkt)
		return
	}
	s.sendDatagram(id, answer)
}

// rejectDatagram answers pkt with ICMP port unreachable.
func (s *Stack) rejectDatagram(pkt *stack.PacketBuffer) {
	p := s.stack.NetworkProtocolInstance(ipv4.ProtocolNumber)
	const local = true // as from the host that pkt was sent to
	p.(stack.RejectIPv4WithHandler).SendRejectionError(pkt, stack.RejectIPv4WithICMPPortUnreachable, local)
}

// sendDatagram sends payload from the local half of id to the remote one. gVisor's
// own UDP endpoints are not for this: one takes all further datagrams of
// its flow, and two questions from one port are the usual case (A and AAAA).
func (s *Stack) sendDatagram(id stack.TransportEndpointID, payload []byte) {
	route, err := s.stack.FindRoute(nic, id.LocalAddress, id.RemoteAddress, ipv4.ProtocolNumber, false)
	if err != nil {
		return // the stack is closing
	}
	defer route.Release()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: header.UDPMinimumSize + int(route.MaxHeaderLength()),
		Payload:            buffer.MakeWithData(payload),
	})
	defer pkt.DecRef()

	length := uint16(header.UDPMinimumSize + len(payload))
	h := header.UDP(pkt.TransportHeader().Push(header.UDPMinimumSize))
	h.Encode(&header.UDPFields{SrcPort: id.LocalPort, DstPort: id.RemotePort, Length: length})
	sum := route.PseudoHeaderChecksum(udp.ProtocolNumber, length)
	sum = checksum.Combine(sum, pkt.Data().Checksum())
	h.SetChecksum(^h.CalculateChecksum(sum))
	pkt.TransportProtocolNumber = udp.ProtocolNumber
	route.WritePacket(stack.NetworkHeaderParams{
		Protocol: udp.ProtocolNumber,
		TTL:      route.DefaultTTL(),
		TOS:      stack.DefaultTOS,
	}, pkt)
}
