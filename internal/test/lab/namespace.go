package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// device is the name of the wire's end on both sides.
const device = "eth0"

// onThread runs f in a thread of its own, which then ends: f may change what
// belongs to a thread, as its namespaces, and nobody else is in them by that.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread never ends, and in /proc it stands for the
			// process. While it waits here, f gets another.
			defer runtime.UnlockOSThread()
			done <- onThread(f)
			return
		}
		// A thread that is still locked ends with its goroutine.
		done <- f()
	}()
	return <-done
}

// namespace is a network namespace without a name, which an open file keeps.
type namespace struct {
	file  *os.File
	inode string // as links in /proc/*/ns show it
}

func newNamespace() (*namespace, error) {
	ns := new(namespace)
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		const link = "/proc/thread-self/ns/net"
		if ns.inode, err = os.Readlink(link); err != nil {
			return err
		}
		ns.file, err = os.Open(link)
		return err
	})
	return ns, err
}

// do runs f in a thread in the namespace. Sockets that f makes stay in it; f makes
// them in its own goroutine.
func (ns *namespace) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return f()
	})
}

// listen listens for TCP at address in the namespace. An empty host stands for all
// addresses.
func (ns *namespace) listen(address string) (net.Listener, error) {
	var ln net.Listener
	err := ns.do(func() (err error) {
		ln, err = net.Listen("tcp4", address)
		return err
	})
	return ln, err
}

// processes returns the ids of the processes in the namespace.
func (ns *namespace) processes() ([]int, error) {
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, link := range links {
		// An error is that of a process that has ended meanwhile.
		if inode, err := os.Readlink(link); err != nil || inode != ns.inode {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(link))))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// kill kills a process if it is in the namespace, and reports whether it did.
func (ns *namespace) kill(pid int) bool {
	// It is a pidfd(2): looked at after it was opened, the namespace is
	// certainly that of the process that gets the signal, or of nobody.
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer p.Release()
	inode, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	return err == nil && inode == ns.inode && p.Kill() == nil
}

// connect lays the wire between the two namespaces.
func connect(host, inet *namespace) error {
	err := host.do(func() error {
		veth := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: device},
			PeerName:  device, PeerNamespace: netlink.NsFd(int(inet.file.Fd())),
		}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("make a pair of network devices: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := inet.do(setUpInternet); err != nil {
		return fmt.Errorf("set up the internet: %w", err)
	}
	if err := host.do(setUpHost); err != nil {
		return fmt.Errorf("set up the host: %w", err)
	}
	return nil
}

func setUpHost() error {
	if _, err := setUpLink("lo", netip.Prefix{}); err != nil {
		return err
	}
	eth, err := setUpLink(device, netip.PrefixFrom(Host, 24))
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: eth, Gw: Router.AsSlice()})
}

// setUpInternet makes every address local but that of the host, as ip-route(8)
// does with "local 0.0.0.0/0": servers listen at all of them, neighbours are
// answered for, and nothing has to be there before it is connected to.
func setUpInternet() error {
	lo, err := setUpLink("lo", netip.Prefix{})
	if err != nil {
		return err
	}
	// Of one address, or the others of its network would be neighbours.
	eth, err := setUpLink(device, netip.PrefixFrom(Router, 32))
	if err != nil {
		return err
	}
	err = netlink.RouteAdd(&netlink.Route{
		LinkIndex: eth, Dst: ipNet(netip.PrefixFrom(Host, 32)),
		Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_LINK,
	})
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{
		LinkIndex: lo, Dst: ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0)),
		Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
	})
}

// setUpLink sets a device up, with an address if addr is valid, and returns its
// index.
func setUpLink(name string, addr netip.Prefix) (int, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return 0, err
	}
	if addr.IsValid() {
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
			return 0, err
		}
	}
	return link.Attrs().Index, netlink.LinkSetUp(link)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// newMounts makes a mount namespace in which files and directories, the keys of
// binds, are others, the values. What the computer mounts and unmounts goes on to
// show there.
func newMounts(binds map[string]string) (*os.File, error) {
	var mounts *os.File
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("make a mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			return fmt.Errorf("keep mounts from the computer: %w", err)
		}
		for target, source := range binds {
			if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("mount over %s: %w", target, err)
			}
		}
		mounts, err = os.Open("/proc/thread-self/ns/mnt")
		return err
	})
	return mounts, err
}
