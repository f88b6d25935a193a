package link

import (
	"net/netip"
	"sync"
	"time"
)

// Refusal tells of a packet from the guest that was not let in.
type Refusal struct {
	// Kind says why: one of the constants, or "protocol 132" for an IP
	// protocol, or "ethertype 0x88cc".
	Kind string
	// Dst is where the packet was to go. The address is not valid where
	// there is none, and the port 0 where there is none.
	Dst netip.AddrPort
	// Omitted counts the refusals before this one that nobody was told of,
	// since there were too many.
	Omitted int
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

// maxRefusals bounds the refusals that are reported in one second.
const maxRefusals = 100

// refusals passes on refusals, not more than maxRefusals a second.
type refusals struct {
	report func(Refusal)

	mu      sync.Mutex // held while report runs: one call at a time
	second  time.Time  // when the current second began
	count   int        // calls in it
	omitted int        // since the last call
}

func (rs *refusals) add(r Refusal) {
	if rs.report == nil {
		return
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if now := time.Now(); now.Sub(rs.second) >= time.Second {
		rs.second, rs.count = now, 0
	}
	if rs.count == maxRefusals {
		rs.omitted++
		return
	}
	rs.count++
	r.Omitted, rs.omitted = rs.omitted, 0
	rs.report(r)
}
