package link

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

var (
	gateway = netip.MustParsePrefix("192.168.127.1/24")
	guest   = netip.MustParseAddr("192.168.127.2")
	far     = netip.MustParseAddr("8.8.8.8")
)

func testFilter() *filter {
	return &New(Config{Gateway: gateway, Guest: guest, MAC: gatewayMAC}).filter
}

var (
	gatewayMAC = []byte{0x52, 0x54, 0, 0x66, 0x6c, 0x79}
	guestMAC   = []byte{0x52, 0x54, 0, 0x6d, 0x61, 0x79}
	everybody  = []byte{255, 255, 255, 255, 255, 255}
)

func ethernet(dst []byte, etherType uint16, packet []byte) []byte {
	b := append(bytes.Clone(dst), guestMAC...)
	b = binary.BigEndian.AppendUint16(b, etherType)
	return append(b, packet...)
}

// ip4 is an IPv4 packet from the guest, with changes.
func ip4(proto byte, dst netip.Addr, body []byte, changes ...func([]byte)) []byte {
	p := make([]byte, 20, 20+len(body))
	p[0], p[8], p[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(p[2:], uint16(20+len(body)))
	copy(p[12:], guest.AsSlice())
	copy(p[16:], dst.AsSlice())
	p = append(p, body...)
	for _, change := range changes {
		change(p)
	}
	return ethernet(gatewayMAC, etherIPv4, p)
}

// ports is the beginning of a TCP or UDP header.
func ports(dst uint16, n int) []byte {
	b := make([]byte, n)
	binary.BigEndian.PutUint16(b, 40000)
	binary.BigEndian.PutUint16(b[2:], dst)
	return b
}

func icmpOf(t byte) []byte { return []byte{t, 0, 0, 0, 0, 1, 0, 1} }

func arp(op byte, sender, target netip.Addr) []byte {
	p := append([]byte{0, 1, 8, 0, 6, 4, 0, op}, guestMAC...)
	p = append(p, sender.AsSlice()...)
	p = append(p, 0, 0, 0, 0, 0, 0)
	return ethernet(everybody, etherARP, append(p, target.AsSlice()...))
}

func set(i int, b ...byte) func([]byte) { return func(p []byte) { copy(p[i:], b) } }

func TestFilter(t *testing.T) {
	gw := gateway.Addr()
	all := netip.MustParseAddr("255.255.255.255")
	mdns := netip.MustParseAddr("224.0.0.251")
	router6 := netip.MustParseAddr("ff02::2")
	packet6 := make([]byte, 48)
	copy(packet6[24:], router6.AsSlice())

	for _, tt := range []struct {
		name  string
		frame []byte
		want  verdict
		kind  string
		dst   string // of the Refusal
	}{
		{"ARP for the gateway", arp(1, guest, gw), deliver, "", ""},
		{"ARP for oneself", arp(1, netip.IPv4Unspecified(), guest), drop, KindARP, "192.168.127.2:0"},
		{"ARP for a neighbour", arp(1, guest, far), drop, KindARP, "8.8.8.8:0"},
		{"ARP as somebody else", arp(1, far, gw), drop, KindARP, "192.168.127.1:0"},
		{"ARP answer", arp(2, guest, gw), drop, KindARP, "192.168.127.1:0"},
		{"short ARP", arp(1, guest, gw)[:14+27], drop, KindMalformed, ""},
		{"ARP of another network", ethernet(everybody, etherARP, make([]byte, 28)), drop, KindMalformed, ""},

		{"IPv6", ethernet([]byte{0x33, 0x33, 0, 0, 0, 2}, etherIPv6, packet6), drop, KindIPv6, "[ff02::2]:0"},
		{"short IPv6", ethernet(gatewayMAC, etherIPv6, nil), drop, KindIPv6, ""},
		{"RARP", ethernet(gatewayMAC, 0x8035, nil), drop, KindRARP, ""},
		{"LLDP", ethernet(gatewayMAC, 0x88cc, nil), drop, "ethertype 0x88cc", ""},
		{"VLAN", ethernet(gatewayMAC, 0x8100, nil), drop, "ethertype 0x8100", ""},

		{"TCP", ip4(protoTCP, far, ports(443, 20)), deliver, "", ""},
		{"TCP to the gateway", ip4(protoTCP, gw, ports(443, 20)), deliver, "", ""},
		{"UDP", ip4(protoUDP, far, ports(53, 8)), deliver, "", ""},
		{"padding", append(ip4(protoUDP, far, ports(53, 8)), make([]byte, 20)...), deliver, "", ""},
		{"short TCP", ip4(protoTCP, far, ports(443, 19)), drop, KindMalformed, "8.8.8.8:0"},
		{"short UDP", ip4(protoUDP, far, ports(53, 7)), drop, KindMalformed, "8.8.8.8:0"},
		{"no IP", ethernet(gatewayMAC, etherIPv4, nil), drop, KindMalformed, ""},
		{"short IP", ip4(protoTCP, far, nil)[:14+19], drop, KindMalformed, ""},
		{"IP 6", ip4(protoTCP, far, ports(443, 20), set(0, 0x65)), drop, KindMalformed, ""},
		{"IHL 4", ip4(protoTCP, far, ports(443, 20), set(0, 0x44)), drop, KindMalformed, "8.8.8.8:0"},
		{"longer than the frame", ip4(protoTCP, far, ports(443, 20), set(2, 0, 41)), drop, KindMalformed, "8.8.8.8:0"},
		{"shorter than its header", ip4(protoTCP, far, ports(443, 20), set(2, 0, 19)), drop, KindMalformed, "8.8.8.8:0"},
		{"options", ip4(protoTCP, far, ports(443, 24), set(0, 0x46)), drop, KindOptions, "8.8.8.8:0"},
		{"first fragment", ip4(protoUDP, far, ports(53, 8), set(6, 0x20)), drop, KindFragment, "8.8.8.8:0"},
		{"last fragment", ip4(protoUDP, far, ports(53, 8), set(6, 0x1f, 0xff)), drop, KindFragment, "8.8.8.8:0"},
		{"don't fragment", ip4(protoUDP, far, ports(53, 8), set(6, 0x40)), deliver, "", ""},
		{"another source", ip4(protoTCP, far, ports(443, 20), set(12, 10, 0, 0, 1)), drop, KindSource, "8.8.8.8:443"},
		{"in a broadcast frame", ethernet(everybody, etherIPv4, ip4(protoTCP, far, ports(443, 20))[14:]), drop, KindMalformed, "8.8.8.8:443"},

		{"mDNS", ip4(protoUDP, mdns, ports(5353, 8)), drop, KindUDP, "224.0.0.251:5353"},
		{"DHCP", ip4(protoUDP, all, ports(67, 8), set(12, 0, 0, 0, 0)), drop, KindUDP, "255.255.255.255:67"},
		{"network broadcast", ip4(protoUDP, netip.MustParseAddr("192.168.127.255"), ports(137, 8)), drop, KindUDP, "192.168.127.255:137"},
		{"TCP multicast", ip4(protoTCP, mdns, ports(1, 20)), drop, KindTCP, "224.0.0.251:1"},
		{"ping multicast", ip4(protoICMP, mdns, icmpOf(8)), drop, KindICMP, "224.0.0.251:0"},
		{"IGMP", ip4(2, mdns, make([]byte, 8)), drop, "protocol 2", "224.0.0.251:0"},

		{"loopback", ip4(protoTCP, netip.MustParseAddr("127.0.0.1"), ports(80, 20)), prohibit, KindDestination, "127.0.0.1:80"},
		{"this host", ip4(protoTCP, netip.MustParseAddr("0.0.0.0"), ports(80, 20)), prohibit, KindDestination, "0.0.0.0:80"},
		{"reserved", ip4(protoUDP, netip.MustParseAddr("240.0.0.1"), ports(80, 8)), prohibit, KindDestination, "240.0.0.1:80"},
		{"itself", ip4(protoTCP, guest, ports(80, 20)), prohibit, KindDestination, "192.168.127.2:80"},

		{"ping the gateway", ip4(protoICMP, gw, icmpOf(8)), deliver, "", ""},
		{"ping", ip4(protoICMP, far, icmpOf(8)), prohibit, KindICMP, "8.8.8.8:0"},
		{"timestamp request", ip4(protoICMP, gw, icmpOf(13)), prohibit, KindICMP, "192.168.127.1:0"},
		{"echo reply", ip4(protoICMP, gw, icmpOf(0)), drop, KindICMP, "192.168.127.1:0"},
		{"port unreachable", ip4(protoICMP, far, icmpOf(3)), drop, KindICMPError, "8.8.8.8:0"},
		{"time exceeded", ip4(protoICMP, far, icmpOf(11)), drop, KindICMPError, "8.8.8.8:0"},
		{"unknown ICMP", ip4(protoICMP, far, icmpOf(200)), drop, KindICMP, "8.8.8.8:0"},
		{"short ICMP", ip4(protoICMP, far, icmpOf(8)[:7]), drop, KindMalformed, "8.8.8.8:0"},
		{"SCTP", ip4(132, far, make([]byte, 12)), prohibit, "protocol 132", "8.8.8.8:0"},
		{"GRE", ip4(47, far, nil), prohibit, "protocol 47", "8.8.8.8:0"},
	} {
		got, r := testFilter().check(tt.frame)
		dst := ""
		if r.Dst.IsValid() {
			dst = r.Dst.String()
		}
		if got != tt.want || got != deliver && (r.Kind != tt.kind || dst != tt.dst) {
			t.Errorf("%s: check() = %d, %q to %s; want %d, %q to %s", tt.name, got, r.Kind, dst, tt.want, tt.kind, tt.dst)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add(ip4(protoTCP, far, ports(443, 20)))
	f.Add(ip4(protoICMP, far, icmpOf(8)))
	f.Add(ip4(132, far, nil))
	f.Add(arp(1, guest, gateway.Addr()))
	f.Add(ethernet(everybody, etherIPv6, make([]byte, 40)))
	e := New(Config{Gateway: gateway, Guest: guest, MAC: gatewayMAC})
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) < ethernetLen || len(frame) > maxFrame {
			return
		}
		v, r := e.filter.check(frame)
		if v != deliver && r.Kind == "" {
			t.Error("refused without a kind")
		}
		if v == drop {
			return
		}
		if binary.BigEndian.Uint16(frame[12:]) == etherARP && v == deliver {
			return
		}
		// What is let in or answered is a whole IPv4 packet from the
		// guest, without what the stack shall not see.
		p := frame[ethernetLen:]
		total := int(binary.BigEndian.Uint16(p[2:]))
		if frame[0]&1 != 0 || p[0] != 0x45 || total > len(p) || p[6]&0x3f != 0 || p[7] != 0 || addr4(p[12:]) != guest || addr4(p[16:]).IsMulticast() {
			t.Errorf("verdict %d for %x", v, frame)
		}
		if v == prohibit {
			if a := e.prohibited(frame); len(a) > lengthLen+ethernetLen+ipv4Len+icmpLen+quoted {
				t.Errorf("an answer of %d bytes", len(a))
			}
		}
	})
}
