package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/dial"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// maxPortConns bounds the connections to one published port at once. Who connects
// to more waits.
const maxPortConns = 256

// Publish opens the ports that the plan asks for, and lets others be opened. guest
// connects to those of the guest.
func (n *Network) Publish(guest Guest) error {
	n.mu.Lock()
	n.guest = guest
	n.mu.Unlock()
	for _, p := range n.policy.Load().Network().Ports {
		if _, err := n.OpenPort(p); err != nil {
			return err
		}
	}
	return nil
}

// OpenPort publishes a port of the guest. It returns p with the port of the host
// that was chosen.
func (n *Network) OpenPort(p plan.Port) (plan.Port, error) {
	addr, err := netip.ParseAddr(p.Address)
	if err != nil {
		return p, fmt.Errorf("open port: %w", err)
	}
	l, err := dial.Listen(netip.AddrPortFrom(addr, uint16(p.HostPort)))
	if err != nil {
		err = fmt.Errorf("open port %d of this computer: %w", p.HostPort, plainError(err))
		args := fault.Args{"address": p.Address, "port": strconv.Itoa(p.HostPort), "guest-port": strconv.Itoa(p.GuestPort)}
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			return p, fault.Wrap(err, fault.PortTaken, args)
		case errors.Is(err, syscall.EACCES):
			return p, fault.Wrap(err, fault.PortPrivileged, args)
		}
		return p, err
	}
	p.HostPort = int(netip.MustParseAddrPort(l.Addr().String()).Port())
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.isClosed() || n.guest == nil {
		l.Close()
		return p, errors.New("open port: the machine is not up")
	}
	n.ports[p] = l
	guest := n.guest
	n.work.Go(func() { n.servePort(l, p, guest) })
	n.audit.Record(audit.Event{Kind: audit.Port, Addr: p.Address, Port: p.HostPort, Reason: fmt.Sprintf("opened for port %d of the machine", p.GuestPort)})
	return p, nil
}

func (n *Network) isClosed() bool {
	select {
	case <-n.closed:
		return true
	default:
		return false
	}
}

// plainError returns what the system says, without what net adds.
func plainError(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	return err
}

// ClosePort ends the publication of the port of the host with this number.
// Connections that are made stay.
func (n *Network) ClosePort(hostPort int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for p, l := range n.ports {
		if p.HostPort == hostPort {
			l.Close()
			delete(n.ports, p)
			n.audit.Record(audit.Event{Kind: audit.Port, Addr: p.Address, Port: p.HostPort, Reason: "closed"})
			return nil
		}
	}
	return fmt.Errorf("port %d of this computer is none of the machine's", hostPort)
}

// Ports returns what is published, in the order of the host's ports.
func (n *Network) Ports() []plan.Port {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]plan.Port, 0, len(n.ports))
	for p := range n.ports {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b plan.Port) int { return a.HostPort - b.HostPort })
	return all
}

// servePort connects whoever connects to l with the guest.
func (n *Network) servePort(l net.Listener, p plan.Port, guest Guest) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n.work.Go(func() {
		select {
		case <-n.closed:
			cancel()
		case <-ctx.Done():
		}
	})
	slots := make(chan struct{}, maxPortConns)
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		conn, err := l.Accept()
		if err != nil {
			return
		}
		conns.Go(func() {
			defer func() { <-slots }()
			n.connectGuest(ctx, conn, p, guest)
		})
	}
}

// connectGuest connects conn with the guest. A guest that does not listen looks like a
// host that does not.
func (n *Network) connectGuest(ctx context.Context, conn net.Conn, p plan.Port, connect Guest) {
	defer conn.Close()
	reset := func() {
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
	}
	guest, err := connect(ctx, p.GuestPort)
	if err != nil {
		n.log.Debug("connect to the guest", "port", p.GuestPort, "err", err)
		reset()
		return
	}
	stop := context.AfterFunc(ctx, func() {
		conn.Close()
		guest.Close()
	})
	defer stop()
	joinHalves(conn, guest)
}

// joinHalves copies in both directions until both have ended, or one has failed.
func joinHalves(a, b net.Conn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := copyHalf(a, b, copyBuffer); err != nil {
			a.Close()
			b.Close()
		}
	}()
	if _, err := copyHalf(b, a, copyBuffer); err != nil {
		a.Close()
		b.Close()
	}
	<-done
	a.Close()
	b.Close()
}

func isNotConnected(err error) bool { return errors.Is(err, syscall.ENOTCONN) }
