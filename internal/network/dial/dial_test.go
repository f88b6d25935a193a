package dial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

func TestCheck(t *testing.T) {
	var own netip.Addr
	list, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.(*net.IPNet).IP); ok && !addr.IsLoopback() {
			own = addr.Unmap()
		}
	}
	d := New()
	for _, test := range []struct {
		addr            string
		public, private bool // whether it may be reached without, and with, a rule for private addresses
	}{
		{"8.8.8.8", true, true},
		{"2606:4700::1111", true, true},
		{"10.1.2.3", false, true},
		{"192.168.1.1", false, true},
		{"203.0.113.7", false, true},
		{"fd00::1", false, true},
		{"::ffff:10.1.2.3", false, true},
		{"127.0.0.1", false, false},
		{"127.9.9.9", false, false},
		{"::1", false, false},
		{"::ffff:127.0.0.1", false, false},
		{"0.0.0.0", false, false},
		{"169.254.169.254", false, false},
		{"::ffff:169.254.169.254", false, false},
		{"168.63.129.16", false, false},
		{"100.100.100.200", false, false},
		{"192.0.0.192", false, false},
		{"fd00:ec2::254", false, false},
		{"161.26.0.10", false, true},
		{"fe80::1", false, false},
		{"224.0.0.1", false, false},
		{"255.255.255.255", false, false},
		// Also behind a translator, and with a rule.
		{"64:ff9b::7f00:1", false, false},
		{"64:ff9b::a9fe:a9fe", false, false},
		{"2002:a9fe:a9fe::1", false, false},
		{"64:ff9b::a01:203", false, true},
		{"64:ff9b:1::a01:203", false, true},
		{own.String(), false, false},
	} {
		addr, err := netip.ParseAddr(test.addr)
		if err != nil {
			continue // this host has loopback only
		}
		for private, want := range map[bool]bool{false: test.public, true: test.private} {
			if err := d.Check("x.example", []netip.Addr{addr}, private); (err == nil) != want {
				t.Errorf("Check(%v, private %v) = %v; want an error: %v", addr, private, err, !want)
			}
		}
	}
}

// The neighbours of a host are its local network, whatever their addresses look like.
func TestCheckAttachedNetworks(t *testing.T) {
	d := New()
	d.interfaces = func() ([]net.Addr, error) {
		var list []net.Addr
		for _, text := range []string{"93.184.216.10/24", "2606:4700:1:2::5/64", "198.35.26.96/32"} {
			ip, network, err := net.ParseCIDR(text)
			if err != nil {
				return nil, err
			}
			list = append(list, &net.IPNet{IP: ip, Mask: network.Mask})
		}
		return list, nil
	}
	d.routes = func() ([]route, error) {
		to := func(prefix, through string, onLink bool) route {
			return route{netip.MustParsePrefix(prefix), through, onLink}
		}
		return []route{
			to("0.0.0.0/0", "eth0", false), to("::/0", "eth0", false),
			to("0.0.0.0/1", "tun0", false), to("128.0.0.0/1", "tun0", false), to("51.2.3.0/24", "tun0", false),
			to("8000::/1", "tun0", false), to("::/1", "tun0", false), to("2a03::/16", "tun0", true),
			to("45.10.20.0/24", "wg0", false), to("10.0.0.0/8", "wg0", false),
			to("2a01:4f8:1:1::/64", "eth1", false), to("2a02:1:2:3::/64", "eth2", true),
		}, nil
	}
	for _, test := range []struct {
		addr            string
		public, private bool
	}{
		{"93.184.216.10", false, false}, // the host itself
		{"198.35.26.96", false, false},
		{"93.184.216.77", false, true},
		{"::ffff:93.184.216.77", false, true},
		{"2606:4700:1:2::99", false, true},
		{"93.184.217.77", true, true},
		{"2606:4700:1:3::99", false, true}, // another network of the site
		{"2606:4700:1:ffff::99", false, true},
		{"2606:4700:2::99", true, true},
		{"45.10.20.30", false, true}, // behind a VPN
		{"45.10.21.30", true, true},
		{"2a01:4f8:1:1::1", false, true}, // behind a static route
		{"2a01:4f8:1:2::1", true, true},
		{"2a02:1:2:3::1", false, true}, // on a link without an address of ours
		{"2a02:1:2:4::1", false, true},
		{"51.2.3.4", true, true}, // behind a VPN for the whole internet
		{"2a03::1", true, true},
		{"198.35.26.97", true, true},
	} {
		for private, want := range map[bool]bool{false: test.public, true: test.private} {
			if err := d.Check("x.example", []netip.Addr{netip.MustParseAddr(test.addr)}, private); (err == nil) != want {
				t.Errorf("Check(%s, private %v) = %v; want an error: %v", test.addr, private, err, !want)
			}
		}
	}
}

// A name that is localhost's, for the host's own resolver, leads nowhere.
func TestDialLoopbackByName(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	if _, err := New().Dial(t.Context(), "localhost", port, false); err == nil {
		t.Error("Dial(localhost) = nil; want an error")
	}
	_, err = New().Dial(t.Context(), "localhost", port, true)
	if _, ok := errors.AsType[*AddressError](err); !ok {
		t.Errorf("Dial(localhost) with a rule for private addresses = %v; want an AddressError", err)
	}
	conn, err := New().DialLoopback(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// The address is checked again when the socket connects: what the name meant
// before does not matter.
func TestConnectChecksTheSocket(t *testing.T) {
	d := New()
	d.names.put("rebound.example", []netip.Addr{netip.MustParseAddr("127.0.0.1")})
	_, err := d.Dial(t.Context(), "rebound.example", 1, true)
	if _, ok := errors.AsType[*AddressError](err); !ok {
		t.Errorf("Dial = %v; want an AddressError", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.DialAddr(ctx, netip.MustParseAddrPort("93.184.216.34:80"), false); !errors.Is(err, context.Canceled) {
		t.Errorf("DialAddr with a context that ended = %v; want that", err)
	}
}

// What the kernel says of this host can be read, and leaves the internet public.
func TestHostRoutes(t *testing.T) {
	routes, err := hostRoutes()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		if !r.to.IsValid() || r.to.Addr().IsLoopback() {
			t.Errorf("route %+v; want one to a network", r)
		}
	}
}

func FuzzParseRoutes(f *testing.F) {
	if data, err := syscall.NetlinkRIB(syscall.RTM_GETROUTE, syscall.AF_UNSPEC); err == nil {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		routes, err := parseRoutes(data)
		if err != nil {
			return
		}
		for _, p := range behind(routes) {
			if !p.IsValid() {
				t.Errorf("%v of %+v", p, routes)
			}
		}
	})
}
