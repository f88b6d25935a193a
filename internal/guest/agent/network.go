package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// loopbackUp brings the loopback interface up.
func loopbackUp() error {
	return withInterface("lo", func(s ifSocket) error { return s.up() })
}

// setUpNetwork gives the machine's network card its address and makes it the way to
// everywhere. A nil n is no network.
func setUpNetwork(n *wire.Network) error {
	if n == nil {
		return nil
	}
	prefix, err := netip.ParsePrefix(n.Address)
	if err != nil {
		return fmt.Errorf("set up the network: %w", err)
	}
	gateway, err := netip.ParseAddr(n.Gateway)
	if err != nil {
		return fmt.Errorf("set up the network: %w", err)
	}
	name, err := findCard()
	if err != nil {
		return fmt.Errorf("set up the network: %w", err)
	}
	// There is no IPv6 behind it, and nothing is to wait for any.
	err = os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", name, "disable_ipv6"), []byte("1"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("set up the network: %w", err)
	}
	err = withInterface(name, func(s ifSocket) error {
		if n.MAC != "" {
			if err := s.setMAC(n.MAC); err != nil {
				return err
			}
		}
		if err := s.setAddr(unix.SIOCSIFADDR, prefix.Addr()); err != nil {
			return err
		}
		if err := s.setAddr(unix.SIOCSIFNETMASK, netmask(prefix.Bits())); err != nil {
			return err
		}
		if err := s.up(); err != nil {
			return err
		}
		return s.addDefaultRoute(gateway)
	})
	if err != nil {
		return fmt.Errorf("set up the network: %w", err)
	}
	return nil
}

// findCard returns the name of the interface that has a device. The kernel's
// loopback interface has none.
func findCard() (string, error) {
	found, err := filepath.Glob("/sys/class/net/*/device")
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", errors.New("there is no network card")
	}
	return filepath.Base(filepath.Dir(found[0])), nil
}

func netmask(bits int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], ^uint32(0)<<(32-bits))
	return netip.AddrFrom4(b)
}

// ifSocket sets up one interface, netdevice(7).
type ifSocket struct {
	fd   int
	name string
}

func withInterface(name string, f func(ifSocket) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		err = f(ifSocket{fd, name})
	}
	if err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	return nil
}

func (s ifSocket) up() error {
	ifr, err := unix.NewIfreq(s.name)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s.fd, unix.SIOCSIFFLAGS, ifr)
}

// setMAC sets the card's address, which a saved machine has in common with others.
func (s ifSocket) setMAC(mac string) error {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	if len(hw) != 6 {
		return fmt.Errorf("%s is no Ethernet address", mac)
	}
	req := struct { // struct ifreq, with a struct sockaddr
		name   [unix.IFNAMSIZ]byte
		family uint16
		data   [14]byte
		_      [8]byte
	}{family: unix.ARPHRD_ETHER}
	copy(req.name[:], s.name)
	copy(req.data[:], hw)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), unix.SIOCSIFHWADDR, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return fmt.Errorf("set the address %s: %w", mac, errno)
	}
	return nil
}

func (s ifSocket) setAddr(request uint, addr netip.Addr) error {
	ifr, err := unix.NewIfreq(s.name)
	if err != nil {
		return err
	}
	if err := ifr.SetInet4Addr(addr.AsSlice()); err != nil {
		return err
	}
	return unix.IoctlIfreq(s.fd, request, ifr)
}

// addDefaultRoute makes gateway the way to everywhere, route(8).
func (s ifSocket) addDefaultRoute(gateway netip.Addr) error {
	inet := func(addr netip.Addr) (sa [16]byte) { // struct sockaddr_in
		binary.NativeEndian.PutUint16(sa[:], unix.AF_INET)
		copy(sa[4:], addr.AsSlice())
		return sa
	}
	any := netip.IPv4Unspecified()
	route := struct { // struct rtentry of linux/route.h
		_                     uint64
		dst, gateway, genmask [16]byte
		flags                 uint16
		_                     [30]byte
		dev                   uintptr
		_                     [3]uint64
	}{dst: inet(any), gateway: inet(gateway), genmask: inet(any), flags: unix.RTF_UP | unix.RTF_GATEWAY}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), unix.SIOCADDRT, uintptr(unsafe.Pointer(&route)))
	if errno != 0 {
		return fmt.Errorf("add the default route: %w", errno)
	}
	return nil
}

// setUpNetwork writes who answers for names and which certificates are trusted.
func (t tree) setUpNetwork(n *wire.Network) error {
	if n == nil {
		return nil
	}
	// A link would lead to where a resolver of the image's writes.
	if err := t.writeFile("/etc/resolv.conf", []byte("nameserver "+n.DNS+"\n"), 0o644); err != nil {
		return err
	}
	all, err := certificatesOf(n)
	if err != nil || len(all) == 0 {
		return err
	}
	return t.trust(all)
}

// connectTime bounds the time in which a program of the guest's has to take a
// connection.
const connectTime = 10 * time.Second

// probeTime is how long a program may say nothing until the host is asked whether anybody is
// still there.
const probeTime = time.Minute

// connect joins stream with a port of the guest.
func connect(stream net.Conn, req *wire.Connect) {
	dialed, err := dialGuest(req.Port)
	if err != nil {
		wire.WriteMessage(stream, wire.Connected{Error: err.Error()})
		return
	}
	conn := dialed.(*net.TCPConn)
	defer conn.Close()
	if err := wire.WriteMessage(stream, wire.Connected{}); err != nil {
		return
	}
	toHost := make(chan struct{})
	go func() {
		defer close(toHost)
		sendToHost(stream, conn, probeTime)
	}()
	takeFromHost(conn, stream)
	<-toHost
}

// sendToHost passes on what a program answers, and how that ends. When nobody takes it any more,
// conn is reset: also what waits to write to a program that reads nothing ends then. A program that
// says nothing, either, would never find out: after each silence so long an empty frame is sent.
func sendToHost(stream io.Writer, conn *net.TCPConn, silence time.Duration) {
	frames := wire.NewFrameWriter(stream)
	buf := make([]byte, wire.MaxFrame)
	for {
		conn.SetReadDeadline(time.Now().Add(silence))
		n, err := conn.Read(buf)
		silent := errors.Is(err, os.ErrDeadlineExceeded)
		if (n > 0 || silent) && frames.Write(wire.FrameStdout, buf[:n]) != nil {
			conn.SetLinger(0)
			conn.Close()
			return
		}
		switch {
		case silent:
		case err == io.EOF:
			frames.Write(wire.FrameEnd, nil)
			return
		case err != nil:
			frames.WriteError(err)
			return
		}
	}
}

// takeFromHost passes on what who has connected sends. It closes conn when the stream ends,
// and returns without that when nobody takes anything any more: what was answered is still
// to be sent.
func takeFromHost(conn *net.TCPConn, stream io.Reader) {
	ended := false
	for frames := wire.NewFrameReader(stream); ; {
		kind, payload, err := frames.Next()
		switch {
		case err != nil:
			if !ended {
				conn.SetLinger(0) // who has connected was reset
			}
			conn.Close()
			return
		case kind == wire.FrameStdin:
			if _, err := conn.Write(payload); err != nil {
				return
			}
		case kind == wire.FrameStdinEOF:
			ended = true
			conn.CloseWrite()
		}
	}
}

// dialGuest connects to whoever listens on a port, on loopback or only on the
// machine's own address.
func dialGuest(port int) (net.Conn, error) {
	if port < 1 || port > 65535 {
		return nil, fmt.Errorf("there is no port %d", port)
	}
	hosts := []string{"127.0.0.1", "::1"}
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLoopback() {
				hosts = append(hosts, ip.IP.String())
			}
		}
	}
	var first error
	for _, host := range hosts {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(host, strconv.Itoa(port)), connectTime)
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}
