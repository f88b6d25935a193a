package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// watch is a set in the kernel of where packets went. The kernel adds to it before
// the packet arrives: what a test has seen an answer of is in it, and so is what
// nobody listens for.
type watch struct {
	conn *nftables.Conn
	set  *nftables.Set
}

// Reached returns the places on the internet that anything on the host has sent
// to, sorted: "tcp 93.184.216.10:443" for each that a connection was attempted to,
// "udp 8.8.8.8:53", "icmp 8.8.8.8".
func (l *Lab) Reached() []string {
	l.t.Helper()
	return l.places(func(p place) bool { return isPublic(p.addr) })
}

// Touched returns, in the form of Reached, the places that no machine may reach and
// that anything on the host has sent to, the resolver that the host asks left out:
// all that is not the internet, and the services on the host itself.
func (l *Lab) Touched() []string {
	l.t.Helper()
	return l.places(func(p place) bool {
		switch at := netip.AddrPortFrom(p.addr, p.port); {
		case p.addr == Host || p.addr.IsLoopback():
			// Others there are the program's own.
			return slices.Contains(hostServices(), at)
		case at == netip.AddrPortFrom(Router, portDNS):
			return false
		}
		return !isPublic(p.addr)
	})
}

func (l *Lab) places(want func(place) bool) []string {
	l.t.Helper()
	var list []string
	for _, w := range l.watches {
		seen, err := w.places()
		if err != nil {
			l.t.Fatalf("lab: %v", err)
		}
		for _, p := range seen {
			if want(p) {
				list = append(list, p.String())
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// special are the ranges that are no internet host's though netip.Addr says nothing
// of them: RFC 6890.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
}

// isPublic reports whether an IPv4 address may be an internet host's.
func isPublic(addr netip.Addr) bool {
	in := func(p netip.Prefix) bool { return p.Contains(addr) }
	return addr.IsGlobalUnicast() && !addr.IsPrivate() && !slices.ContainsFunc(special, in)
}

// place is where a packet went.
type place struct {
	proto byte // IP protocol number
	addr  netip.Addr
	port  uint16 // 0 for ICMP
}

func (p place) String() string {
	switch p.proto {
	case unix.IPPROTO_TCP:
		return "tcp " + netip.AddrPortFrom(p.addr, p.port).String()
	case unix.IPPROTO_UDP:
		return "udp " + netip.AddrPortFrom(p.addr, p.port).String()
	}
	return "icmp " + p.addr.String()
}

// watchWire watches what the host sends to the internet.
func watchWire(inet *namespace) (*watch, error) {
	return newWatch(inet, nftables.ChainHookPrerouting, device)
}

// watchLoopback watches what the host sends to itself.
func watchLoopback(host *namespace) (*watch, error) {
	return newWatch(host, nftables.ChainHookInput, "lo")
}

// newWatch watches what comes in by a device at a hook.
func newWatch(ns *namespace, hook *nftables.ChainHook, device string) (*watch, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns.file.Fd())))
	if err != nil {
		return nil, err
	}
	table := conn.AddTable(&nftables.Table{Name: "lab", Family: nftables.TableFamilyIPv4})
	set := &nftables.Set{
		Table: table, Name: "seen", Dynamic: true, Concatenation: true, Size: 1 << 18,
		KeyType: nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeIPAddr, nftables.TypeInetService),
	}
	if err := conn.AddSet(set, nil); err != nil {
		return nil, err
	}
	chain := conn.AddChain(&nftables.Chain{
		Name: "watch", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: hook, Priority: nftables.ChainPriorityRaw,
	})
	for proto, exprs := range watched {
		rule := slices.Concat(isFrom(device, proto), exprs, note(set))
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule})
	}
	if err := conn.Flush(); err != nil {
		return nil, fmt.Errorf("watch %s: %w", device, err)
	}
	return &watch{conn, set}, nil
}

// A key of the set is in three registers of 32 bits, one for each part.
const (
	protoRegister = unix.NFT_REG32_00 + iota
	addrRegister
	portRegister
)

// watched are the protocols that are noted, with what else their packets must be
// and what loads their port.
var watched = map[byte][]expr.Any{
	unix.IPPROTO_TCP: {
		// The first packet: SYN without ACK, RFC 9293 3.1.
		&expr.Payload{DestRegister: portRegister, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: portRegister, DestRegister: portRegister, Len: 1, Mask: []byte{0x12}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: portRegister, Data: []byte{0x02}},
		destinationPort,
	},
	unix.IPPROTO_UDP:  {destinationPort},
	unix.IPPROTO_ICMP: {&expr.Immediate{Register: portRegister, Data: make([]byte, 4)}},
}

var destinationPort = &expr.Payload{DestRegister: portRegister, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}

// isFrom ends a rule for packets of other devices and protocols.
func isFrom(device string, proto byte) []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, device)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: unix.NFT_REG_1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: name},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: unix.NFT_REG_1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: []byte{proto}},
	}
}

// note adds where a packet goes to set, when its port is loaded.
func note(set *nftables.Set) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: protoRegister},
		&expr.Payload{DestRegister: addrRegister, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Dynset{SrcRegKey: protoRegister, SetName: set.Name, SetID: set.ID, Operation: unix.NFT_DYNSET_OP_ADD},
	}
}

// places returns what the kernel has noted.
func (w *watch) places() ([]place, error) {
	elements, err := w.conn.GetSetElements(w.set)
	if err != nil {
		return nil, fmt.Errorf("read what was reached: %w", err)
	}
	places := make([]place, len(elements))
	for i, e := range elements {
		if len(e.Key) != 12 {
			return nil, fmt.Errorf("read what was reached: a key of %d bytes", len(e.Key))
		}
		places[i] = place{
			proto: e.Key[0],
			addr:  netip.AddrFrom4([4]byte(e.Key[4:8])),
			port:  binary.BigEndian.Uint16(e.Key[8:10]),
		}
	}
	return places, nil
}
