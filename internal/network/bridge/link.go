package bridge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// needRoot returns an error unless this process may change the host's network, with
// the operation up or down on a bridge; verb says it in words.
func needRoot(bridge, operation, verb string) error {
	if hasNetAdmin() {
		return nil
	}
	return fault.New(fault.BridgeNeedsRoot, fault.Args{"bridge": bridge, "operation": operation},
		"%s the bridge %s: only root can change this computer's network (CAP_NET_ADMIN)", verb, bridge)
}

// hasNetAdmin reports whether this thread has the capability for the kernel's
// network. Root in a container often has not.
func hasNetAdmin() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_NET_ADMIN) != 0
}

// upLink makes the bridge, gives it its address and sets it up.
func upLink(cfg Config, undo *undoList) error {
	link, err := ownBridge(cfg.Name)
	if err != nil {
		return err
	}
	if link == nil {
		if link, err = makeBridge(cfg); err != nil {
			return err
		}
		undo.add(func() { netlink.LinkDel(link) })
	}
	if err := setAddress(link, cfg.Address); err != nil {
		return err
	}
	if err := netlink.LinkSetAlias(link, cfg.mark()); err != nil {
		return fmt.Errorf("mark the bridge %s: %w", cfg.Name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set the bridge %s up: %w", cfg.Name, err)
	}
	return nil
}

// makeBridge makes a bridge without IPv6.
func makeBridge(cfg Config) (netlink.Link, error) {
	a := cfg.Address.Addr().As4()
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{
		Name: cfg.Name,
		// Left to itself a bridge has the lowest address of its ports, and
		// machines would look for their gateway whenever one comes or goes.
		HardwareAddr: net.HardwareAddr{0x02, 'm', a[0], a[1], a[2], a[3]},
	}}
	if err := netlink.LinkAdd(link); err != nil {
		return nil, fmt.Errorf("make the bridge %s: %w", cfg.Name, err)
	}
	if err := disableIPv6(cfg.Name); err != nil {
		netlink.LinkDel(link)
		return nil, err
	}
	return link, nil
}

// disableIPv6 keeps the kernel from having an address of its own on a link that
// machines are on, and from sending anything there by itself.
func disableIPv6(name string) error {
	err := writeSysctl("net/ipv6/conf/"+name+"/disable_ipv6", "1")
	if errors.Is(err, os.ErrNotExist) {
		return nil // a kernel without
	}
	return err
}

// setAddress makes addr the only IPv4 address of link.
func setAddress(link netlink.Link, addr netip.Prefix) error {
	old, err := addresses(link)
	if err != nil {
		return err
	}
	if !slices.Contains(old, addr) {
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
			return fmt.Errorf("give the bridge the address %v: %w", addr, err)
		}
	}
	for _, o := range old {
		if o == addr {
			continue
		}
		if err := netlink.AddrDel(link, &netlink.Addr{IPNet: ipNet(o)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("take the address %v from the bridge: %w", o, err)
		}
	}
	return nil
}

// downLink removes the bridge if it is ours.
func downLink(cfg Config) error {
	link, err := findLink(cfg.Name)
	if link == nil || err != nil {
		return err
	}
	if !isOwn(link) {
		return nil
	}
	return deleteLink(link)
}

func deleteLink(link netlink.Link) error {
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove the interface %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// ownBridge returns our bridge; nil if there is none. It is an error that the name is
// somebody else's.
func ownBridge(name string) (netlink.Link, error) {
	link, err := findLink(name)
	if link == nil || err != nil {
		return nil, err
	}
	if link.Type() != "bridge" || !isOwn(link) {
		return nil, fault.New(fault.BridgeNameTaken, fault.Args{"interface": name}, "there is an interface %s (%s) that mayfly has not made", name, link.Type())
	}
	return link, nil
}

func isOwn(link netlink.Link) bool {
	return strings.HasPrefix(link.Attrs().Alias, markPrefix)
}

// findLink returns the interface name; nil if there is none.
func findLink(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find the interface %s: %w", name, err)
	}
	return link, nil
}

// dump calls f, which asks the kernel for a list, until the list did not change while
// it was made.
func dump[T any](what string, f func() ([]T, error)) ([]T, error) {
	var list []T
	var err error
	for range 10 {
		if list, err = f(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list the %s of this computer: %w", what, err)
	}
	return list, nil
}

func links() ([]netlink.Link, error) { return dump("interfaces", netlink.LinkList) }

// addresses returns the IPv4 addresses of link with the lengths of their networks, the
// first one first.
func addresses(link netlink.Link) ([]netip.Prefix, error) {
	list, err := dump("addresses", func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
	if err != nil {
		return nil, err
	}
	var all []netip.Prefix
	for _, a := range list {
		if p, ok := prefixOf(a.IPNet); ok {
			all = append(all, p)
		}
	}
	return all, nil
}

// network is a network that the host reaches through an interface.
type network struct {
	netip.Prefix
	link string
}

// attached returns the networks of the host's interfaces, and the far ends of tunnels,
// except for loopback and the bridge.
func attached(bridge string) ([]network, error) {
	all, err := links()
	if err != nil {
		return nil, err
	}
	names := make(map[int]string) // by index
	for _, l := range all {
		if name := l.Attrs().Name; name != bridge && l.Attrs().Flags&net.FlagLoopback == 0 {
			names[l.Attrs().Index] = name
		}
	}
	list, err := dump("addresses", func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, err
	}
	var networks []network
	for _, a := range list {
		for _, n := range []*net.IPNet{a.IPNet, a.Peer} {
			if p, ok := prefixOf(n); ok && p.Bits() > 0 && names[a.LinkIndex] != "" {
				networks = append(networks, network{p.Masked(), names[a.LinkIndex]})
			}
		}
	}
	return networks, nil
}

// checkFree returns an error if what cfg wants to have is somebody else's: the name, or
// the network.
func checkFree(cfg Config) error {
	own, err := ownBridge(cfg.Name)
	if err != nil {
		return err
	}
	networks, err := attached(cfg.Name)
	if err != nil {
		return err
	}
	routed, err := routedTo(own)
	if err != nil {
		return err
	}
	for _, n := range append(networks, routed...) {
		if n.Overlaps(cfg.Address) {
			return fault.New(fault.BridgeNetworkTaken, fault.Args{"network": cfg.Address.Masked().String(), "interface": n.link},
				"the network %v is in use already: %v is behind %s", cfg.Address.Masked(), n.Prefix, n.link)
		}
	}
	return nil
}

// routedTo returns the networks to which the main table has a route by another
// interface than own, the default route excepted: a bridge in one of them would hide
// its hosts.
func routedTo(own netlink.Link) ([]network, error) {
	list, err := routes()
	if err != nil {
		return nil, err
	}
	var networks []network
	for _, r := range list {
		p, ok := prefixOf(r.Dst)
		// Halves of everything are how a VPN says default.
		if !ok || p.Bits() <= 1 || r.LinkIndex == 0 || own != nil && r.LinkIndex == own.Attrs().Index {
			continue
		}
		name := fmt.Sprint("interface ", r.LinkIndex)
		if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
			name = link.Attrs().Name
		}
		networks = append(networks, network{p.Masked(), name})
	}
	return networks, nil
}

// routes returns the IPv4 routes of the main table.
func routes() ([]netlink.Route, error) {
	return dump("routes", func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	})
}

// prefixOf converts an address of IPv4 with a mask.
func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP.To4())
	ones, bits := n.Mask.Size()
	return netip.PrefixFrom(addr, ones), ok && bits == 32
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
