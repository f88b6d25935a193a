package dial

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// localAge is how long the list of the host's networks is believed.
const localAge = time.Second

// local reports whether addr is one of this host's interfaces, and whether it is in a
// network that the host is in: that of an interface, or one behind a route of its own,
// such as a VPN's.
func (d *Dialer) local(addr netip.Addr) (own, attached bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.localTime) > localAge {
		if err := d.readLocalLocked(); err != nil {
			return false, false, err
		}
		d.localTime = time.Now()
	}
	_, own = d.own[addr]
	return own, own || slices.ContainsFunc(d.attached, func(p netip.Prefix) bool { return p.Contains(addr) }), nil
}

func (d *Dialer) readLocalLocked() error {
	addrs, err := d.interfaces()
	if err != nil {
		return fmt.Errorf("list this computer's addresses: %w", err)
	}
	routes, err := d.routes()
	if err != nil {
		return fmt.Errorf("list this computer's routes: %w", err)
	}
	d.own, d.attached = make(map[netip.Addr]struct{}), behind(routes)
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		if addr := p.Addr(); addr.Is4In6() {
			p = netip.PrefixFrom(addr.Unmap(), p.Bits()-96)
		}
		d.own[p.Addr()] = struct{}{}
		d.attached = append(d.attached, site(p))
	}
	return nil
}

// siteBits is the length of the prefix that a site has of IPv6, RFC 6177.
const siteBits = 48

// site returns the network of a whole site for an on-link prefix of IPv6 that is public:
// its other networks are the host's neighbours, too.
func site(p netip.Prefix) netip.Prefix {
	if p.Addr().Is6() && global.Contains(p.Addr()) && p.Bits() > siteBits {
		return netip.PrefixFrom(p.Addr(), siteBits).Masked()
	}
	return p.Masked()
}

var global = netip.MustParsePrefix("2000::/3")

// route is a way to a network.
type route struct {
	to      netip.Prefix
	through string // interface and gateway: what leads the same way
	onLink  bool   // without a gateway
}

// behind returns the networks behind routes, without those that are ways to the internet
// as a whole. A VPN may replace the default route by several that cover as much.
func behind(routes []route) []netip.Prefix {
	covers := make(map[string]float64) // of the addresses of a family, by through
	for _, r := range routes {
		covers[family(r)] += share(r.to)
	}
	const whole = 0.2 // a fifth of all addresses
	var list []netip.Prefix
	for _, r := range routes {
		switch {
		case r.to.Bits() == 0, covers[family(r)] > whole:
		case r.onLink:
			list = append(list, site(r.to))
		default:
			list = append(list, r.to)
		}
	}
	return list
}

func family(r route) string {
	if r.to.Addr().Is4() {
		return "4 " + r.through
	}
	return "6 " + r.through
}

// share returns which part of the public addresses of its family a prefix is, as far as
// they are together: one eighth of IPv6's. A default route is none: it says nothing of
// the others that lead the same way.
func share(p netip.Prefix) float64 {
	bits := p.Bits()
	if bits == 0 {
		return 0
	}
	if p.Addr().Is6() {
		if !global.Overlaps(p) {
			return 0
		}
		bits = max(0, bits-global.Bits())
	}
	return 1 / float64(uint64(1)<<min(bits, 63))
}

// maxRoutes bounds what is read of a host that knows the ways of the whole internet.
const maxRoutes = 1 << 16

// hostRoutes returns the routes of all of the host's tables.
func hostRoutes() ([]route, error) {
	data, err := syscall.NetlinkRIB(unix.RTM_GETROUTE, unix.AF_UNSPEC)
	if err != nil {
		return nil, err
	}
	return parseRoutes(data)
}

// parseRoutes reads what the kernel answers, rtnetlink(7).
func parseRoutes(data []byte) ([]route, error) {
	messages, err := syscall.ParseNetlinkMessage(data)
	if err != nil {
		return nil, err
	}
	if len(messages) > maxRoutes {
		return nil, errors.New("they are too many to tell which networks are attached")
	}
	var list []route
	for i := range messages {
		m := &messages[i]
		if m.Header.Type != unix.RTM_NEWROUTE || len(m.Data) < unix.SizeofRtMsg {
			continue
		}
		head := (*unix.RtMsg)(unsafe.Pointer(&m.Data[0]))
		if head.Type != unix.RTN_UNICAST || head.Table == unix.RT_TABLE_LOCAL || head.Flags&unix.RTM_F_CLONED != 0 {
			continue
		}
		attrs, err := syscall.ParseNetlinkRouteAttr(m)
		if err != nil {
			return nil, err
		}
		r := route{onLink: true}
		to := netip.IPv4Unspecified()
		if head.Family == unix.AF_INET6 {
			to = netip.IPv6Unspecified()
		}
		for _, a := range attrs {
			switch a.Attr.Type {
			case unix.RTA_DST:
				if addr, ok := netip.AddrFromSlice(a.Value); ok {
					to = addr
				}
			case unix.RTA_GATEWAY, unix.RTA_VIA, unix.RTA_MULTIPATH:
				r.onLink = false
				r.through += string(a.Value)
			case unix.RTA_OIF:
				r.through += string(a.Value)
			}
		}
		if r.to = netip.PrefixFrom(to, int(head.Dst_len)); r.to.IsValid() {
			list = append(list, r)
		}
	}
	return list, nil
}
