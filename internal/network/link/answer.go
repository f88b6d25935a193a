package link

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// quoted is how much of a packet its ICMP error repeats: the IP header and the
// 8 bytes from which the guest's kernel finds the program (RFC 792).
const quoted = ipv4Len + 8

// prohibited returns the answer to the IPv4 packet in frame, which the filter
// found whole: destination unreachable, communication administratively
// prohibited (RFC 1812 5.2.7.1), from the gateway. The frame has its length in
// front.
func (e *Endpoint) prohibited(frame []byte) []byte {
	packet := frame[ethernetLen:]
	packet = packet[:binary.BigEndian.Uint16(packet[2:])] // no padding
	packet = packet[:min(len(packet), quoted)]

	total := ipv4Len + icmpLen + len(packet)
	b := make([]byte, lengthLen+ethernetLen+total)
	putHeader(b, ethernetLen+total, header.Ethernet(frame).SourceAddress(), e.mac, header.IPv4ProtocolNumber)

	ip := header.IPv4(b[lengthLen+ethernetLen:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(total),
		TTL:         64,
		Protocol:    protoICMP,
		SrcAddr:     tcpip.AddrFrom4(e.gateway.As4()),
		DstAddr:     header.IPv4(packet).SourceAddress(),
	})
	ip.SetChecksum(^ip.CalculateChecksum())

	icmp := header.ICMPv4(ip[ipv4Len:])
	icmp.SetType(header.ICMPv4DstUnreachable)
	icmp.SetCode(header.ICMPv4AdminProhibited)
	copy(icmp[icmpLen:], packet)
	icmp.SetChecksum(header.ICMPv4Checksum(icmp, 0))
	return b
}

// putHeader fills in what is in front of a packet: the length of the frame and
// its Ethernet header.
func putHeader(b []byte, frameLen int, dst, src tcpip.LinkAddress, proto tcpip.NetworkProtocolNumber) {
	binary.BigEndian.PutUint32(b, uint32(frameLen))
	header.Ethernet(b[lengthLen:]).Encode(&header.EthernetFields{SrcAddr: src, DstAddr: dst, Type: proto})
}
