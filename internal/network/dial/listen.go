package dial

import (
	"errors"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Port is a port of this host that is kept for a machine. Connections to it are refused
// while it does not listen, as those to a port that is nobody's.
//
// Its methods are called from one goroutine at a time.
type Port struct {
	addr    netip.AddrPort
	sockets []int // bound, one for each address
	open    []net.Listener
	// Half says that another program of this host has the port on ::1, where a program
	// that connects to localhost may look first.
	Half bool
}

// tries bounds the search for a port that is free on both addresses of the loopback
// interface.
const tries = 16

// Reserve keeps a port of an address for a machine; port 0 is any that is free. For
// 127.0.0.1 it is ::1, too, where this host has that and nobody else has the port there.
func Reserve(addr netip.AddrPort) (*Port, error) {
	for try := 1; ; try++ {
		p, both, err := reserve(addr)
		again := addr.Port() == 0 && try < tries
		switch {
		case errors.Is(err, unix.EADDRINUSE) && again:
		case err == nil && !both && again:
			p.Close()
		default:
			return p, err
		}
	}
}

// reserve tries to, and reports whether it did not meet another's port on ::1.
func reserve(addr netip.AddrPort) (p *Port, both bool, err error) {
	if addr.Port() == 0 {
		number, err := freePort(addr)
		if err != nil {
			return nil, false, err
		}
		addr = netip.AddrPortFrom(addr.Addr(), number)
	}
	p = &Port{addr: addr}
	if err := p.add(addr); err != nil {
		return nil, false, err
	}
	if addr.Addr() != netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
		return p, true, nil
	}
	err = p.add(netip.AddrPortFrom(netip.IPv6Loopback(), addr.Port()))
	p.Half = errors.Is(err, unix.EADDRINUSE)
	return p, !p.Half, nil
}

// freePort finds a port that nobody has. A socket whose port the kernel has chosen gives
// it up when it ends to listen, so it is not the one to keep.
func freePort(addr netip.AddrPort) (uint16, error) {
	fd, err := bind(addr, false)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	name, err := unix.Getsockname(fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return uint16(name.Port), nil
	case *unix.SockaddrInet6:
		return uint16(name.Port), nil
	}
	return 0, errors.ErrUnsupported
}

// Number returns the number of the port.
func (p *Port) Number() int { return int(p.addr.Port()) }

// add binds a socket to an address.
func (p *Port) add(addr netip.AddrPort) error {
	// Without SO_REUSEADDR nobody else can take the address while it does not
	// listen. With it the port is to be had that has connections left, such as
	// those of a machine that was there before.
	fd, err := bind(addr, false)
	if errors.Is(err, unix.EADDRINUSE) {
		fd, err = bind(addr, true)
	}
	if err == nil {
		p.sockets = append(p.sockets, fd)
	}
	return err
}

func bind(addr netip.AddrPort, reuse bool) (fd int, err error) {
	family := unix.AF_INET6
	var to unix.Sockaddr = &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
	if addr.Addr().Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if family == unix.AF_INET6 && !addr.Addr().IsUnspecified() {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	} else if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0) // as net.Listen
	}
	if err == nil && reuse {
		err = setReuse(fd, true)
	}
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(fd, to))
	}
	if err == nil && reuse {
		err = setReuse(fd, false)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func setReuse(fd int, on bool) error {
	value := 0
	if on {
		value = 1
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, value))
}

// backlog bounds the connections that wait to be accepted.
const backlog = 512

// Listen lets the port accept connections, on each of its addresses. The listeners end
// with Refuse.
func (p *Port) Listen() (_ []net.Listener, err error) {
	defer func() {
		if err != nil {
			p.Refuse()
		}
	}()
	for _, fd := range p.sockets {
		// Connections inherit it, and leave the port to the next who reserves it.
		if err := setReuse(fd, true); err != nil {
			return nil, err
		}
		if err := unix.Listen(fd, backlog); err != nil {
			return nil, os.NewSyscallError("listen", err)
		}
		l, err := listener(fd)
		if err != nil {
			return nil, err
		}
		p.open = append(p.open, l)
	}
	return p.open, nil
}

// listener returns a listener of a descriptor of its own.
func listener(fd int) (net.Listener, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	file := os.NewFile(uintptr(own), "")
	defer file.Close()
	return net.FileListener(file)
}

// Refuse ends what Listen began, and keeps the port. Connections that are made stay.
func (p *Port) Refuse() {
	for _, fd := range p.sockets {
		// A socket of TCP that listens is what it was before, and stays bound.
		unix.Shutdown(fd, unix.SHUT_RD)
		setReuse(fd, false)
	}
	for _, l := range p.open {
		l.Close()
	}
	p.open = nil
}

// Close gives the port up.
func (p *Port) Close() {
	p.Refuse()
	for _, fd := range p.sockets {
		unix.Close(fd)
	}
	p.sockets = nil
}
