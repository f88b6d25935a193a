// Package ipaddr says which addresses are on the public internet.
//
// It is the one list of those that are not: a machine's configuration, its policy and the
// host's bridge judge by it alike.
package ipaddr

import (
	"net/netip"
	"slices"
)

// special are the ranges of addresses that are not the public internet: RFC 6890
// and its registries, with what leads back into private networks by translation.
var special = parsePrefixes(
	"0.0.0.0/8",        // this network
	"10.0.0.0/8",       // private
	"100.64.0.0/10",    // shared, behind carriers' NAT
	"127.0.0.0/8",      // loopback
	"169.254.0.0/16",   // link-local; clouds' metadata
	"172.16.0.0/12",    // private
	"192.0.0.0/24",     // protocol assignments
	"192.0.2.0/24",     // documentation
	"192.88.99.0/24",   // 6to4 relays
	"192.168.0.0/16",   // private
	"198.18.0.0/15",    // benchmarks; our names' addresses
	"161.26.0.0/16",    // IBM's services for its machines
	"166.8.0.0/14",     // the same
	"168.63.129.16/32", // Azure's services for its machines
	"183.60.82.98/32",  // Tencent's resolvers for its machines
	"183.60.83.19/32",  // the same
	"198.51.100.0/24",  // documentation
	"192.80.8.124/32",  // Equinix Metal's services for its machines
	"199.36.153.0/24",  // Google's services within a private network
	"203.0.113.0/24",   // documentation
	"224.0.0.0/4",      // multicast
	"240.0.0.0/4",      // reserved, broadcast

	// Within global; the rest of IPv6 is special altogether.
	"2001::/23",     // protocol assignments, Teredo
	"2001:db8::/32", // documentation
	"2002::/16",     // 6to4
	// Google's services within a private network: restricted and private.googleapis.com.
	"2600:2d00:2:1000::/56",
	"2600:2d00:2:2000::/56",
	"3fff::/20", // documentation
)

// metadata are addresses at which a cloud tells a machine its identity and its secrets,
// beside the link-local ones.
var metadata = parsePrefixes(
	"100.100.100.200/32",     // Alibaba
	"168.63.129.16/32",       // Azure
	"192.0.0.192/32",         // Oracle, before 2020
	"192.80.8.124/32",        // Equinix Metal
	"fd00:42::42/128",        // Scaleway
	"fd00:a9fe:a9fe::/48",    // Linode
	"fd00:c1::a9fe:a9fe/128", // Oracle
	"fd00:ec2::/32",          // Amazon
	"fd20:ce::254/128",       // Google
)

// Metadata reports whether a cloud has its metadata at addr, or behind a translator that
// takes addr for another one.
func Metadata(addr netip.Addr) bool {
	addr = addr.Unmap()
	return addr.IsLinkLocalUnicast() || slices.ContainsFunc(metadata, func(p netip.Prefix) bool { return p.Contains(addr) }) ||
		slices.ContainsFunc(Embedded(addr), Metadata)
}

// Embedded returns the IPv4 addresses to which a translator or the end of a tunnel may take
// what is sent to an address of IPv6.
func Embedded(addr netip.Addr) []netip.Addr {
	if !addr.Is6() || addr.Is4In6() {
		return nil
	}
	b := addr.As16()
	var list []netip.Addr
	add := func(a, b, c, d byte) { list = append(list, netip.AddrFrom4([4]byte{a, b, c, d})) }
	last := func() { add(b[12], b[13], b[14], b[15]) }
	switch {
	case compatible.Contains(addr) && !addr.IsUnspecified() && !addr.IsLoopback(), translated.Contains(addr), nat64.Contains(addr):
		last()
	case nat64Local.Contains(addr): // of any length, RFC 6052 2.2
		for _, in := range [][4]byte{{b[6], b[7], b[9], b[10]}, {b[7], b[9], b[10], b[11]}, {b[9], b[10], b[11], b[12]}, [4]byte(b[12:])} {
			if in[0] != 0 { // else of another length
				add(in[0], in[1], in[2], in[3])
			}
		}
	case sixToFour.Contains(addr):
		add(b[2], b[3], b[4], b[5])
	case teredo.Contains(addr):
		add(b[4], b[5], b[6], b[7])         // its server
		add(^b[12], ^b[13], ^b[14], ^b[15]) // its client
	}
	if b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe {
		last() // ISATAP, in whatever network
	}
	return list
}

// The networks of IPv6 in which addresses of IPv4 stand.
var (
	compatible = netip.MustParsePrefix("::/96")           // RFC 4291 2.5.5.1
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765
	nat64      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056
	teredo     = netip.MustParsePrefix("2001::/32")       // RFC 4380
)

func parsePrefixes(list ...string) []netip.Prefix {
	prefixes := make([]netip.Prefix, len(list))
	for i, s := range list {
		prefixes[i] = netip.MustParsePrefix(s)
	}
	return prefixes
}

// global is all of IPv6 that is given out for the internet, RFC 4291 2.4.
var global = netip.MustParsePrefix("2000::/3")

// Public reports whether addr is on the public internet. An IPv4 address in the
// form of an IPv6 one is judged as what it is.
func Public(addr netip.Addr) bool {
	if !addr.IsValid() || addr.Zone() != "" {
		return false
	}
	addr = addr.Unmap()
	if addr.Is6() && !global.Contains(addr) {
		return false
	}
	for _, p := range special {
		if p.Contains(addr) {
			return false
		}
	}
	return !slices.ContainsFunc(Embedded(addr), func(in netip.Addr) bool { return !Public(in) })
}

// Special4 returns the ranges of IPv4 that are not public.
func Special4() []netip.Prefix {
	var all []netip.Prefix
	for _, p := range special {
		if p.Addr().Is4() {
			all = append(all, p)
		}
	}
	return all
}
