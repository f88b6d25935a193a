package link

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
)

// verdict is what happens to a frame from the guest.
type verdict int

const (
	deliver  verdict = iota
	drop             // without an answer
	prohibit         // answered with ICMP destination unreachable, so that the program fails at once
)

// EtherTypes, IEEE 802 numbers.
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
)

// IP protocols.
const (
	protoICMP = 1
	protoTCP  = 6
	protoUDP  = 17
)

// The shortest headers, in bytes.
const (
	arpLen  = 28
	ipv4Len = 20
	ipv6Len = 40
	tcpLen  = 20
	udpLen  = 8
	icmpLen = 8
)

// filter decides on frames from the guest before a network stack sees them. It
// lets in only what the stack needs to be asked: ARP requests for the gateway,
// echo requests to the gateway, and TCP and UDP to single hosts. All is without
// IP options and fragments, which ordinary programs never cause, as a guest
// shares our MTU, and which have been the parts of network stacks with most of
// the holes.
type filter struct {
	gateway, guest netip.Addr
	broadcast      netip.Addr // of the network that both are in
}

// check decides on a frame of at least ethernetLen bytes. The Refusal is
// meaningful unless the verdict is deliver.
func (f *filter) check(frame []byte) (verdict, Refusal) {
	packet := frame[ethernetLen:]
	switch etherType := binary.BigEndian.Uint16(frame[12:]); etherType {
	case etherIPv4:
		group := frame[0]&1 != 0 // broadcast or multicast, IEEE 802
		return f.checkIPv4(packet, group)
	case etherARP:
		return f.checkARP(packet)
	case etherIPv6:
		r := Refusal{Kind: KindIPv6}
		if len(packet) >= ipv6Len {
			r.Dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte(packet[24:40])), 0)
		}
		return drop, r
	default:
		return drop, Refusal{Kind: etherKind(etherType)}
	}
}

// checkARP lets in the question for the gateway's address. Anything else, such
// as an announcement, could only fill the stack's table of neighbours.
func (f *filter) checkARP(p []byte) (verdict, Refusal) {
	// Ethernet, IPv4, lengths of both addresses, request (RFC 826).
	const request = "\x00\x01\x08\x00\x06\x04\x00\x01"
	if len(p) < arpLen || string(p[:6]) != request[:6] {
		return drop, Refusal{Kind: KindMalformed}
	}
	sender, target := addr4(p[14:]), addr4(p[24:])
	if string(p[:8]) != request || sender != f.guest || target != f.gateway {
		return drop, Refusal{Kind: KindARP, Dst: netip.AddrPortFrom(target, 0)}
	}
	return deliver, Refusal{}
}

// checkIPv4 decides on a packet that came in a frame to one host or to a group
// of them.
func (f *filter) checkIPv4(p []byte, group bool) (verdict, Refusal) {
	if len(p) < ipv4Len || p[0]>>4 != 4 {
		return drop, Refusal{Kind: KindMalformed}
	}
	header := int(p[0]&15) * 4
	total := int(binary.BigEndian.Uint16(p[2:]))
	dst := addr4(p[16:])
	r := Refusal{Dst: netip.AddrPortFrom(dst, 0)}
	if header < ipv4Len || total < header || total > len(p) {
		r.Kind = KindMalformed
		return drop, r
	}
	if header > ipv4Len {
		r.Kind = KindOptions
		return drop, r
	}
	const moreOrOffset = 0x3fff // RFC 791: more fragments, fragment offset
	if binary.BigEndian.Uint16(p[6:])&moreOrOffset != 0 {
		r.Kind = KindFragment
		return drop, r
	}

	body, proto := p[ipv4Len:total], p[9]
	if len(body) < minBody(proto) {
		r.Kind = KindMalformed
		return drop, r
	}
	if proto == protoTCP || proto == protoUDP {
		r.Dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(body[2:]))
	}
	// Before the source address: a guest that asks for an address by DHCP
	// has none yet.
	if dst.IsMulticast() || dst == f.broadcast || dst == allHosts {
		r.Kind = protoKind(proto)
		return drop, r
	}
	if addr4(p[12:]) != f.guest {
		r.Kind = KindSource
		return drop, r
	}
	if group { // but dst is one host: RFC 1122 3.3.6
		r.Kind = KindMalformed
		return drop, r
	}
	return f.checkUnicast(proto, body, r)
}

// checkUnicast decides on a whole packet from the guest to one host.
func (f *filter) checkUnicast(proto byte, body []byte, r Refusal) (verdict, Refusal) {
	r.Kind = protoKind(proto)
	dst := r.Dst.Addr()
	switch {
	case proto == protoICMP:
		v, kind := f.checkICMP(dst, body[0])
		r.Kind = kind
		return v, r
	case proto != protoTCP && proto != protoUDP:
		return prohibit, r
	case dst == f.guest || !isHost(dst):
		r.Kind = KindDestination
		return prohibit, r
	}
	return deliver, Refusal{}
}

// ICMP types, RFC 792, of questions and errors.
const (
	icmpUnreachable = 3
	icmpQuench      = 4
	icmpRedirect    = 5
	icmpEcho        = 8
	icmpExceeded    = 11
	icmpParameter   = 12
	icmpTimestamp   = 13
	icmpInformation = 15
	icmpAddressMask = 17
)

// checkICMP answers only questions with an error: RFC 1122 3.2.2 forbids it for
// errors, and an answer to nothing isn't awaited.
func (f *filter) checkICMP(dst netip.Addr, icmpType byte) (verdict, string) {
	switch icmpType {
	case icmpEcho:
		if dst == f.gateway {
			return deliver, ""
		}
		return prohibit, KindICMP
	case icmpTimestamp, icmpInformation, icmpAddressMask:
		return prohibit, KindICMP
	case icmpUnreachable, icmpQuench, icmpRedirect, icmpExceeded, icmpParameter:
		return drop, KindICMPError
	}
	return drop, KindICMP
}

// allHosts is the limited broadcast address, RFC 919.
var allHosts = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// isHost reports whether dst can be the address of a host on a network: not
// "this host" (0/8), loopback, or reserved (240/4).
func isHost(dst netip.Addr) bool {
	first := dst.As4()[0]
	return first != 0 && first != 127 && first < 240
}

// minBody returns the length of a protocol's shortest header in bytes.
func minBody(proto byte) int {
	switch proto {
	case protoICMP:
		return icmpLen
	case protoTCP:
		return tcpLen
	case protoUDP:
		return udpLen
	}
	return 0
}

func protoKind(proto byte) string {
	switch proto {
	case protoICMP:
		return KindICMP
	case protoTCP:
		return KindTCP
	case protoUDP:
		return KindUDP
	}
	return "protocol " + strconv.Itoa(int(proto))
}

// addr4 returns the IPv4 address that b begins with.
func addr4(b []byte) netip.Addr {
	return netip.AddrFrom4([4]byte(b[:4]))
}

// etherKind names the protocol of a frame that is neither IPv4 nor ARP.
func etherKind(etherType uint16) string {
	if etherType == 0x8035 { // RFC 903
		return KindRARP
	}
	return fmt.Sprintf("ethertype %#04x", etherType)
}
