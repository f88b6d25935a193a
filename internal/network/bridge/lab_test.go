package bridge

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/test/env"
)

// The addresses of the lab. The internet is behind two routers, of which the host uses
// the first.
const (
	internet    = "1.2.3.4"
	router      = "10.9.0.1"
	hostUplink  = "10.9.0.2"
	router2     = "10.8.0.1"
	hostUplink2 = "10.8.0.2"
	neighbour   = "93.184.0.1" // in a network of the host's with public addresses
	gateway     = "192.168.83.1"
	machine6    = "192.168.83.6"
	machine7    = "192.168.83.7"
)

// patience is for what must happen; shortly for what must not.
const (
	patience = 20 * time.Second
	shortly  = time.Second
)

// namespace is a network namespace that an open file keeps.
type namespace struct{ file *os.File }

// onThread runs f in a thread of its own, which ends with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		if unix.Gettid() == unix.Getpid() {
			// The first thread cannot end. While it is held here, f gets
			// another.
			defer runtime.UnlockOSThread()
			done <- onThread(f)
			return
		}
		done <- f()
	}()
	return <-done
}

func newNamespace(t *testing.T) namespace {
	t.Helper()
	var ns namespace
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		ns.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { ns.file.Close() })
	ns.run(t, func() error { return setUp("lo") })
	return ns
}

// do runs f in a thread in the namespace; what f opens stays in it.
func (ns namespace) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

func (ns namespace) run(t *testing.T, f func() error) {
	t.Helper()
	if err := ns.do(f); err != nil {
		t.Fatal(err)
	}
}

// setUp sets a link up, with addresses.
func setUp(name string, addrs ...string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix(a))}); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

func defaultRoute(via string) error {
	return netlink.RouteReplace(&netlink.Route{Gw: net.ParseIP(via).To4()})
}

// wire lays a wire between two namespaces.
func wire(t *testing.T, a namespace, nameA string, b namespace, nameB string, mac net.HardwareAddr) {
	t.Helper()
	a.run(t, func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: nameA},
			PeerName:  nameB, PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(int(b.file.Fd())),
		})
	})
}

// lab is a host with two uplinks and two machines, which are not on a bridge yet.
type lab struct {
	t                         *testing.T
	cfg                       Config
	host, inet, first, second namespace
}

func newLab(t *testing.T) *lab {
	t.Helper()
	env.NeedRoot(t)
	l := &lab{t: t, cfg: Default()}
	l.cfg.Dir = filepath.Join(t.TempDir(), "run")
	l.host, l.inet, l.first, l.second = newNamespace(t), newNamespace(t), newNamespace(t), newNamespace(t)
	wire(t, l.host, "eth0", l.inet, "eth0", nil)
	wire(t, l.host, "eth1", l.inet, "eth1", nil)
	wire(t, l.host, "port6", l.first, "eth0", net.HardwareAddr{2, 0, 0, 0, 0, 5})
	wire(t, l.host, "port7", l.second, "eth0", net.HardwareAddr{2, 0, 0, 0, 0, 6})
	l.inet.run(t, func() error {
		for _, link := range [][]string{
			{"lo", internet + "/32"}, {"eth0", router + "/24", neighbour + "/24"}, {"eth1", router2 + "/24"},
		} {
			if err := setUp(link[0], link[1:]...); err != nil {
				return err
			}
		}
		return nil
	})
	l.host.run(t, func() error {
		for _, link := range [][]string{
			{"eth0", hostUplink + "/24", "93.184.0.2/24"}, {"eth1", hostUplink2 + "/24"}, {"port6"}, {"port7"},
		} {
			if err := setUp(link[0], link[1:]...); err != nil {
				return err
			}
		}
		// As distributions have it at first.
		if err := writeSysctl(forwarding, "0"); err != nil {
			return err
		}
		return defaultRoute(router)
	})
	for ns, addr := range map[namespace]string{l.first: machine6, l.second: machine7} {
		ns.run(t, func() error {
			if err := setUp("eth0", addr+"/24"); err != nil {
				return err
			}
			return defaultRoute(gateway)
		})
	}
	for ns, port := range map[namespace]int{l.inet: 80, l.host: 22, l.first: 6, l.second: 7} {
		serve(t, ns, port)
	}
	return l
}

// serve answers connections to a port at all addresses with the address that they come
// from.
func serve(t *testing.T, ns namespace, port int) {
	t.Helper()
	var ln net.Listener
	ns.run(t, func() (err error) {
		ln, err = net.Listen("tcp4", fmt.Sprintf(":%d", port))
		return err
	})
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, conn.RemoteAddr().(*net.TCPAddr).IP)
			conn.Close()
		}
	})
	t.Cleanup(func() {
		ln.Close()
		work.Wait()
	})
}

// ask connects from ns and returns as whom the server sees it.
func ask(ns namespace, timeout time.Duration, addr string, port int) (string, error) {
	var seen []byte
	err := ns.do(func() error {
		conn, err := net.DialTimeout("tcp4", fmt.Sprintf("%s:%d", addr, port), timeout)
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(timeout))
		seen, err = io.ReadAll(conn)
		return err
	})
	return string(seen), err
}

// ping sends one echo request from ns and waits for the answer.
func ping(ns namespace, timeout time.Duration, addr string) error {
	return ns.do(func() error {
		conn, err := net.ListenPacket("ip4:icmp", "0.0.0.0")
		if err != nil {
			return err
		}
		defer conn.Close()
		request := []byte{8, 0, 0, 0, 'm', 'f', 0, 1} // RFC 792
		var sum uint32
		for i := 0; i < len(request); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(request[i:]))
		}
		binary.BigEndian.PutUint16(request[2:], ^uint16(sum>>16+sum))
		if _, err := conn.WriteTo(request, &net.IPAddr{IP: net.ParseIP(addr)}); err != nil {
			return err
		}
		conn.SetReadDeadline(time.Now().Add(timeout))
		answer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(answer)
			if err != nil {
				return err
			}
			if from.String() == addr && n >= 8 && answer[0] == 0 && string(answer[4:8]) == string(request[4:]) {
				return nil
			}
		}
	})
}

// up makes the bridge and plugs the machines in, as isolated ports or not.
func (l *lab) up() {
	l.t.Helper()
	l.host.run(l.t, func() error {
		if err := Up(l.cfg); err != nil {
			return err
		}
		return l.plug()
	})
}

func (l *lab) plug() error {
	br, err := netlink.LinkByName(l.cfg.Name)
	if err != nil {
		return err
	}
	for _, name := range []string{"port6", "port7"} {
		port, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(port, br); err != nil {
			return err
		}
		if err := netlink.LinkSetIsolated(port, l.cfg.Isolate); err != nil {
			return err
		}
	}
	return nil
}

// down removes the bridge, and returns what was left as it is.
func (l *lab) down() (left string) {
	l.t.Helper()
	l.host.run(l.t, func() (err error) {
		left, err = Down(l.cfg)
		return err
	})
	return left
}

// inspect returns what Inspect says.
func (l *lab) inspect() (s Status) {
	l.t.Helper()
	l.host.run(l.t, func() (err error) {
		s, err = Inspect(l.cfg)
		return err
	})
	return s
}

// state returns the network of the host, as far as Up could change it, in lines.
func (l *lab) state() []string {
	l.t.Helper()
	var lines []string
	l.host.run(l.t, func() error {
		links, err := links()
		if err != nil {
			return err
		}
		for _, link := range links {
			addrs, err := addresses(link)
			if err != nil {
				return err
			}
			a := link.Attrs()
			lines = append(lines, fmt.Sprint("link ", a.Name, " ", link.Type(), " ", a.HardwareAddr, " ", a.MasterIndex, " ", a.Alias, " ", a.Flags&net.FlagUp, addrs))
		}
		routes, err := routes()
		if err != nil {
			return err
		}
		for _, r := range routes {
			lines = append(lines, "route "+r.String())
		}
		for _, pattern := range []string{"net/ipv4/ip_forward", "net/ipv4/conf/*/forwarding", "net/ipv4/conf/*/accept_redirects", "net/ipv6/conf/*/forwarding"} {
			paths, err := filepath.Glob("/proc/sys/" + pattern)
			if err != nil {
				return err
			}
			for _, path := range paths {
				name := strings.TrimPrefix(path, "/proc/sys/")
				value, err := readSysctl(name)
				if err != nil {
					return err
				}
				lines = append(lines, name+" = "+value)
			}
		}
		tables, err := (&nftables.Conn{}).ListTables()
		if err != nil {
			return err
		}
		for _, table := range tables {
			rules, err := tableState(table)
			if err != nil {
				return err
			}
			lines = append(lines, rules...)
		}
		return nil
	})
	if _, err := os.Stat(l.cfg.Dir); err == nil {
		lines = append(lines, "dir "+l.cfg.Dir)
	}
	slices.Sort(lines)
	return lines
}

// tableState returns a table of nftables with all that is in it, without the numbers
// that the kernel gives each time anew.
func tableState(table *nftables.Table) ([]string, error) {
	conn := &nftables.Conn{}
	name := fmt.Sprint("nft ", table.Family, " ", table.Name)
	lines := []string{name}
	add := func(kind string, v any) error {
		data, err := json.Marshal(v)
		lines = append(lines, fmt.Sprintf("%s %s %s", name, kind, data))
		return err
	}
	chains, err := conn.ListChainsOfTableFamily(table.Family)
	if err != nil {
		return nil, err
	}
	for _, c := range chains {
		if c.Table.Name != table.Name {
			continue
		}
		if err := add("chain", []any{c.Name, c.Hooknum, c.Priority, c.Type, c.Policy}); err != nil {
			return nil, err
		}
		rules, err := conn.GetRules(table, c)
		if err != nil {
			return nil, err
		}
		for i, r := range rules {
			if err := add(fmt.Sprint("rule ", c.Name, " ", i), []any{r.Exprs, r.UserData}); err != nil {
				return nil, err
			}
		}
	}
	sets, err := conn.GetSets(table)
	if err != nil {
		return nil, err
	}
	for _, s := range sets {
		elements, err := conn.GetSetElements(s)
		if err != nil {
			return nil, err
		}
		if err := add("set "+s.Name, elements); err != nil {
			return nil, err
		}
	}
	return lines, nil
}
