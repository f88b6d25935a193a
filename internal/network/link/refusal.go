package link

import "net/netip"

// Refusal tells of a packet from the guest that was not let in.
type Refusal struct {
	// Kind says why: one of the constants, or "protocol 132" for an IP
	// protocol, or "ethertype 0x88cc".
	Kind string
	// Dst is where the packet was to go. The address is not valid where
	// there is none, and the port 0 where there is none.
	Dst netip.AddrPort
}

// Kinds of refusals.
const (
	KindARP         = "arp"       // other than a question for the gateway's address
	KindRARP        = "rarp"      // reverse ARP
	KindMalformed   = "malformed" // lengths contradict each other, or a group is addressed as one host
	KindFrame       = "frame"     // impossible length: the VMM's socket was closed
	KindIPv6        = "ipv6"
	KindOptions     = "ip options"
	KindFragment    = "ip fragment"
	KindSource      = "source address"      // not the guest's
	KindDestination = "destination address" // no host's: 0/8, 127/8, 240/4, or the guest itself
	KindTCP         = "tcp"                 // to a broadcast or multicast address
	KindUDP         = "udp"                 // likewise: DHCP, mDNS, SSDP
	KindICMP        = "icmp"                // other than an echo request to the gateway
	KindICMPError   = "icmp error"          // the guest's kernel complains of our packets, as it does when a program ends early
)
