package bridge

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// reach fails the test unless a connection from ns is seen as from.
func reach(t *testing.T, what string, ns namespace, addr string, port int, from string) {
	t.Helper()
	if got, err := ask(ns, patience, addr, port); err != nil || got != from {
		t.Errorf("%s: %s:%d sees %q, %v; want %q", what, addr, port, got, err, from)
	}
}

// refuse fails the test unless a connection from ns is refused with an answer.
func refuse(t *testing.T, what string, ns namespace, addr string, port int) {
	t.Helper()
	if got, err := ask(ns, patience, addr, port); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("%s: %s:%d sees %q, %v; want %v", what, addr, port, got, err, unix.EHOSTUNREACH)
	}
}

func TestMachines(t *testing.T) {
	l := newLab(t)
	l.up()
	for _, addr := range []string{machine6, machine7} {
		if err := ping(l.host, patience, addr); err != nil {
			t.Errorf("ping from the host to %s: %v", addr, err)
		}
	}
	reach(t, "from the host", l.host, machine6, 6, gateway)
	reach(t, "from the host", l.host, machine7, 7, gateway)
	reach(t, "behind NAT", l.first, internet, 80, hostUplink)
	if err := ping(l.first, patience, gateway); err != nil {
		t.Errorf("ping from a machine to its gateway: %v", err)
	}

	refuse(t, "the LAN", l.first, router, 80)
	refuse(t, "the LAN behind the other interface", l.first, router2, 80)
	refuse(t, "a private address that nobody has", l.first, "172.20.1.1", 80)
	refuse(t, "a network with public addresses that the host is in", l.first, neighbour, 80)
	refuse(t, "metadata", l.first, "169.254.169.254", 80)
	refuse(t, "the last address", l.first, "255.255.255.254", 80)
	refuse(t, "the host's address on the bridge", l.first, gateway, 22)
	refuse(t, "the host's other address", l.first, hostUplink, 22)
	if err := ping(l.first, shortly, hostUplink); err == nil {
		t.Error("ping from a machine to another address of the host is answered")
	}
	if got, err := ask(l.first, shortly, machine7, 7); err == nil {
		t.Errorf("another machine sees %q; want no connection", got)
	}
	l.host.run(t, func() error {
		if got, err := readSysctl("net/ipv6/conf/mayfly0/disable_ipv6"); err != nil || got != "1" {
			t.Errorf("disable_ipv6 of the bridge is %q, %v; want 1", got, err)
		}
		return nil
	})
	// From the outside, with a route.
	l.inet.run(t, func() error {
		return netlink.RouteAdd(&netlink.Route{Dst: ipNet(l.cfg.Address.Masked()), Gw: net.ParseIP(hostUplink).To4()})
	})
	if got, err := ask(l.inet, shortly, machine6, 6); err == nil {
		t.Errorf("from the outside: the machine sees %q; want no connection", got)
	}
}

// The rules name no way out.
func TestDefaultRouteMoves(t *testing.T) {
	l := newLab(t)
	l.up()
	reach(t, "by the first uplink", l.first, internet, 80, hostUplink)
	l.host.run(t, func() error { return defaultRoute(router2) })
	reach(t, "by the second uplink", l.first, internet, 80, hostUplink2)
	l.host.run(t, func() error { return defaultRoute(router) })
	reach(t, "by the first uplink again", l.first, internet, 80, hostUplink)
}

// Machines that ask the host to pass their packets on to another machine do not get
// round the isolation of their ports, also when networks like theirs are allowed.
func TestIsolationByWayOfHost(t *testing.T) {
	l := newLab(t)
	l.cfg.AllowLAN = true
	l.up()
	l.first.run(t, func() error {
		a := l.cfg.Address.Addr().As4()
		eth, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.NeighSet(&netlink.Neigh{
			LinkIndex: eth.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP(machine7),
			HardwareAddr: net.HardwareAddr{2, 'm', a[0], a[1], a[2], a[3]},
		})
	})
	// What the kernel says first is that there is a shorter way, and what it says to one
	// host is limited: the refusal itself may not come.
	if got, err := ask(l.first, shortly, machine7, 7); err == nil {
		t.Errorf("another machine by way of the host: it answers %q", got)
	}
}

func TestLessStrict(t *testing.T) {
	l := newLab(t)
	l.cfg.AllowLAN, l.cfg.Isolate = true, false
	l.up()
	reach(t, "the LAN", l.first, router, 80, hostUplink)
	reach(t, "a network of the host's", l.first, neighbour, 80, "93.184.0.2")
	reach(t, "another machine", l.first, machine7, 7, machine6)
	refuse(t, "metadata", l.first, "169.254.169.254", 80)
	refuse(t, "the host", l.first, hostUplink, 22)

	// Up again changes it.
	l.cfg.AllowLAN = false
	l.up()
	refuse(t, "the LAN", l.first, router, 80)
}

// A machine that sends from an address of another network would get past NAT.
func TestForeignSource(t *testing.T) {
	l := newLab(t)
	l.up()
	l.first.run(t, func() error {
		if err := setUp("lo", "10.1.1.1/32"); err != nil {
			return err
		}
		return netlink.RouteReplace(&netlink.Route{Gw: net.ParseIP(gateway), Src: net.ParseIP("10.1.1.1")})
	})
	if got, err := ask(l.first, shortly, internet, 80); err == nil {
		t.Errorf("from a foreign address: the server sees %q; want no connection", got)
	}
}

// foreignTable makes a table as another firewall might have.
func foreignTable(family nftables.TableFamily, name, chain string, policy nftables.ChainPolicy, rules ...[]expr.Any) error {
	conn := &nftables.Conn{}
	table := conn.AddTable(&nftables.Table{Family: family, Name: name})
	c := conn.AddChain(&nftables.Chain{
		Table: table, Name: chain, Type: nftables.ChainTypeFilter, Policy: &policy,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	for _, exprs := range rules {
		conn.AddRule(&nftables.Rule{Table: table, Chain: c, Exprs: exprs})
	}
	return conn.Flush()
}

func TestUpAndDownLeaveNoTrace(t *testing.T) {
	l := newLab(t)
	l.cfg.Owner, l.cfg.Taps = 1234, 3
	l.host.run(t, func() error {
		// One interface has forwarding on and ip_forward off; both must stay.
		err := errors.Join(
			writeSysctl("net/ipv4/conf/eth1/forwarding", "1"),
			writeSysctl("net/ipv4/conf/all/accept_redirects", "0"))
		if err != nil {
			return err
		}
		return foreignTable(nftables.TableFamilyINet, "filter", "forward", nftables.ChainPolicyAccept,
			[]expr.Any{&expr.Counter{}}, append(device(expr.MetaKeyIIFNAME, expr.CmpOpEq, "eth7"), verdict(expr.VerdictDrop, "")...))
	})
	before := l.state()
	l.host.run(t, func() error { return Up(l.cfg) })
	once := l.state()
	l.host.run(t, func() error { return Up(l.cfg) })
	if diff := cmp.Diff(once, l.state()); diff != "" {
		t.Errorf("a second Up changes (-before +after):\n%s", diff)
	}
	if s := l.inspect(); !s.Up || !s.Forwarding || s.Rules != RulesPresent || len(s.Taps) != 3 || len(s.Problems) > 0 {
		t.Errorf("Inspect() = %+v; want an up bridge with 3 taps and no problems", s)
	}
	kept := func(lines []string) (all []string) {
		for _, line := range lines {
			if strings.HasPrefix(line, "nft 1 filter") {
				all = append(all, line)
			}
		}
		return all
	}
	if diff := cmp.Diff(kept(before), kept(once)); diff != "" || len(kept(before)) != 4 {
		t.Errorf("Up changes another table (-before +after):\n%s", diff)
	}
	for range 2 {
		if left := l.down(); left != "" {
			t.Errorf("Down leaves %q; want nothing left", left)
		}
		if diff := cmp.Diff(before, l.state()); diff != "" {
			t.Errorf("after Down (-before +after):\n%s", diff)
		}
	}
}

func TestDownLeavesForwardingToOthers(t *testing.T) {
	l := newLab(t)
	l.up()
	l.host.run(t, func() error {
		conn := &nftables.Conn{}
		table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "nat"})
		c := conn.AddChain(&nftables.Chain{
			Table: table, Name: "POSTROUTING", Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
		})
		conn.AddRule(&nftables.Rule{Table: table, Chain: c, Exprs: expression(&expr.Masq{})})
		return conn.Flush()
	})
	if left := l.down(); !strings.Contains(left, "table nat") {
		t.Errorf("Down leaves %q; want forwarding for the table nat", left)
	}
	if s := l.inspect(); !s.Forwarding || s.Up {
		t.Errorf("Inspect() = %+v; want forwarding and no bridge", s)
	}
}

func TestForwardingThatWasOn(t *testing.T) {
	l := newLab(t)
	l.host.run(t, func() error { return writeSysctl(forwarding, "1") })
	l.up()
	l.down()
	if s := l.inspect(); !s.Forwarding {
		t.Error("Down switches forwarding off that was on before Up")
	}
}

func TestUpRefusesWhatIsTaken(t *testing.T) {
	tests := []struct {
		name, want string
		code       fault.Code
		take       func() error
	}{
		{"an address", "is in use already: 192.168.83.0/25 is behind eth1", fault.BridgeNetworkTaken, func() error { return setUp("eth1", "192.168.83.4/25") }},
		{"a route", "is in use already: 192.168.0.0/16 is behind eth0", fault.BridgeNetworkTaken, func() error {
			return netlink.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("192.168.0.0/16")), Gw: net.ParseIP(router).To4()})
		}},
		{"the name", "that mayfly has not made", fault.BridgeNameTaken, func() error {
			return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "mayfly0"}})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			l.host.run(t, tt.take)
			before := l.state()
			var err error
			l.host.run(t, func() error {
				err = Up(l.cfg)
				return nil
			})
			if err == nil || !strings.Contains(err.Error(), tt.want) || fault.CodeOf(err) != tt.code {
				t.Errorf("Up() = %v (%q); want %q and %s", err, fault.CodeOf(err), tt.want, tt.code)
			}
			if diff := cmp.Diff(before, l.state()); diff != "" {
				t.Errorf("Up changes (-before +after):\n%s", diff)
			}
			l.down()
			if diff := cmp.Diff(before, l.state()); diff != "" {
				t.Errorf("Down changes (-before +after):\n%s", diff)
			}
		})
	}
}

func TestUpThatFailsUndoes(t *testing.T) {
	l := newLab(t)
	l.cfg.Owner, l.cfg.Taps = 1234, 1
	before := l.state()
	err := l.host.do(func() error {
		// The last step finds no device to make taps with.
		if err := bindMount(os.DevNull, "/dev/net/tun"); err != nil {
			return err
		}
		return Up(l.cfg)
	})
	if !errors.Is(err, unix.ENOTTY) {
		t.Errorf("Up() = %v; want %v", err, unix.ENOTTY)
	}
	if diff := cmp.Diff(before, l.state()); diff != "" {
		t.Errorf("Up that fails leaves (-before +after):\n%s", diff)
	}
}

// bindMount has this thread, and no other one, find source at target.
func bindMount(source, target string) error {
	return errors.Join(
		unix.Unshare(unix.CLONE_NEWNS),
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount(source, target, "", unix.MS_BIND, ""))
}

func TestWithoutRoot(t *testing.T) {
	l := newLab(t)
	before := l.state()
	err := l.host.do(func() error {
		dropRoot(1234)
		_, err := Down(l.cfg)
		if f, ok := fault.Of(err); !ok || f.Code != fault.BridgeNeedsRoot || f.Args["operation"] != "down" {
			t.Errorf("Down() = %v (%+v); want that it needs root", err, f)
		}
		return Up(l.cfg)
	})
	f, ok := fault.Of(err)
	if !ok || !strings.Contains(err.Error(), "only root") || f.Code != fault.BridgeNeedsRoot || f.Args["operation"] != "up" {
		t.Errorf("Up() = %v (%+v); want that it needs root", err, f)
	}
	if diff := cmp.Diff(before, l.state()); diff != "" {
		t.Errorf("Up without root changes (-before +after):\n%s", diff)
	}
}

// dropRoot makes this thread, and no other one, another user's.
func dropRoot(uid uintptr) {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		panic(errno)
	}
}

func TestInspectFindsProblems(t *testing.T) {
	l := newLab(t)
	expect := func(what string, want string) {
		t.Helper()
		s := l.inspect()
		if len(s.Problems) != 1 || !strings.Contains(s.Problems[0].Text, want) {
			t.Errorf("%s: Inspect().Problems = %+v; want one with %q", what, s.Problems, want)
		}
	}
	l.up()
	if s := l.inspect(); len(s.Problems) > 0 || s.Address != l.cfg.Address || !s.Isolate || s.AllowLAN || !cmp.Equal(s.Uplinks, []string{"eth0"}) {
		t.Errorf("Inspect() = %+v; want the default bridge, by way of eth0, without problems", s)
	}
	l.host.run(t, func() error { return setUp("eth1", "93.185.0.2/24") })
	expect("another network", "93.185.0.0/24 (eth1) was attached later")
	l.up()
	refuse(t, "a network that was attached later", l.first, "93.185.0.1", 80)

	l.host.run(t, func() error { return writeSysctl(forwarding, "0") })
	expect("no forwarding", "does not forward")
	l.up()
	l.host.run(t, func() error {
		return foreignTable(nftables.TableFamilyIPv4, "filter", "FORWARD", nftables.ChainPolicyDrop, []expr.Any{&expr.Counter{}})
	})
	expect("Docker's rules", "sudo iptables -I FORWARD -i mayfly0 -j ACCEPT")
	l.host.run(t, func() error {
		// As iptables-nft writes it.
		return foreignTable(nftables.TableFamilyIPv4, "filter", "FORWARD", nftables.ChainPolicyDrop,
			[]expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, compare(expr.CmpOpEq, []byte("mayfly0\x00")), verdict(expr.VerdictAccept, "")[0]})
	})
	if s := l.inspect(); len(s.Problems) > 0 {
		t.Errorf("with a way through: Inspect().Problems = %+v; want none", s.Problems)
	}
	l.host.run(t, func() error {
		conn := &nftables.Conn{}
		conn.FlushRuleset()
		return conn.Flush()
	})
	expect("flushed rules", "the rules are gone")
	l.host.run(t, func() error {
		if _, err := OpenTap(l.cfg, "web"); fault.CodeOf(err) != fault.BridgeWithoutRules {
			t.Errorf("OpenTap() without rules = %v (%q); want %s", err, fault.CodeOf(err), fault.BridgeWithoutRules)
		}
		return nil
	})
}

func TestCurrent(t *testing.T) {
	l := newLab(t)
	l.host.run(t, func() error {
		if _, err := Current(l.cfg); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Current() = %v; want %v", err, fs.ErrNotExist)
		}
		return nil
	})
	for _, cfg := range []Config{
		{Name: "mayfly0", Address: netip.MustParsePrefix("10.83.7.1/22"), AllowLAN: true, Dir: l.cfg.Dir},
		{Name: "mayfly0", Address: netip.MustParsePrefix("192.168.83.1/24"), Isolate: true, Dir: l.cfg.Dir},
	} {
		l.host.run(t, func() error { return Up(cfg) })
		l.host.run(t, func() error {
			dropRoot(1234)
			got, err := Current(Config{Name: cfg.Name, Dir: cfg.Dir})
			if diff := cmp.Diff(cfg, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); err != nil || diff != "" {
				t.Errorf("Current() = %v, error %v; differs (-want +got):\n%s", got, err, diff)
			}
			return nil
		})
	}
}
