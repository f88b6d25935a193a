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
	"199.36.153.4/30",  // Google's services within a private network
	"199.36.153.8/30",  // the same
	"203.0.113.0/24",   // documentation
	"224.0.0.0/4",      // multicast
	"240.0.0.0/4",      // reserved, broadcast

	// Within global; the rest of IPv6 is special altogether.
	"2001::/23",     // protocol assignments, Teredo
	"2001:db8::/32", // documentation
	"2002::/16",     // 6to4
	"3fff::/20",     // documentation
)

// metadata are addresses at which a cloud tells a machine its identity and its secrets,
// beside the link-local ones.
var metadata = parsePrefixes(
	"100.100.100.200/32",     // Alibaba
	"168.63.129.16/32",       // Azure
	"192.0.0.192/32",         // Oracle, before 2020
	"fd00:42::42/128",        // Scaleway
	"fd00:a9fe:a9fe::/48",    // Linode
	"fd00:c1::a9fe:a9fe/128", // Oracle
	"fd00:ec2::/32",          // Amazon
	"fd20:ce::254/128",       // Google
)

// Metadata reports whether a cloud has its metadata at addr.
func Metadata(addr netip.Addr) bool {
	addr = addr.Unmap()
	return addr.IsLinkLocalUnicast() || slices.ContainsFunc(metadata, func(p netip.Prefix) bool { return p.Contains(addr) })
}

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
	return true
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
