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
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/dial"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// maxPortConns bounds the connections to one published port at once. Who connects
// to more waits.
const maxPortConns = 256

// published is a port of the host that leads to one of the guest. Its fields that change
// are Network.mu's.
type published struct {
	plan.Port
	host  *dial.Port
	open  bool          // connections are accepted
	shut  func()        // ends what serves them, not those that are made
	known chan struct{} // closed once the guest has said whether somebody listens
	told  bool          // known is closed
	slots chan struct{}
}

// Publish opens the ports that the plan asks for, and lets others be opened. guest
// is behind them.
//
// A connection that is accepted cannot be refused any more, and who waits for a service
// takes it for up. So the host listens only while somebody does in the guest.
func (n *Network) Publish(guest Guest) error {
	n.mu.Lock()
	n.guest = guest
	n.mu.Unlock()
	var all []*published
	for _, p := range n.policy.Load().Network().Ports {
		opened, err := n.reserve(p)
		if err != nil {
			return err
		}
		all = append(all, opened)
	}
	n.work.Go(func() { n.watchPorts(guest) })
	n.await(all...)
	return nil
}

// knownTimeout bounds the wait for what the guest says of ports that are opened.
const knownTimeout = 2 * time.Second

// await waits for that: from then on, a command's end says that the host knows of its ports.
func (n *Network) await(opened ...*published) {
	timeout := time.After(knownTimeout)
	for _, p := range opened {
		select {
		case <-p.known:
		case <-n.closed:
			return
		case <-timeout:
			return
		}
	}
}

// OpenPort publishes a port of the guest. It returns p with the port of the host
// that was chosen. Who connects then is accepted if somebody listens in the guest.
func (n *Network) OpenPort(p plan.Port) (plan.Port, error) {
	same := p.Address == "127.0.0.1" && p.HostPort == p.GuestPort
	if same && n.keepAuto(p.HostPort) {
		return p, nil // it is open, and stays so
	}
	opened, err := n.reserve(p)
	if err != nil {
		return p, err
	}
	if same {
		n.takeBack(p.HostPort)
	}
	n.await(opened)
	return opened.Port, nil
}

// reserve keeps a port of the host for one of the guest, on ::1 if that is to be had.
func (n *Network) reserve(p plan.Port) (*published, error) { return n.reserveAs(p, false) }

// reserveWhole is reserve for a port that is an error if another program has it on ::1.
func (n *Network) reserveWhole(p plan.Port) (*published, error) { return n.reserveAs(p, true) }

func (n *Network) reserveAs(p plan.Port, whole bool) (*published, error) {
	addr, err := netip.ParseAddr(p.Address)
	if err != nil {
		return nil, fmt.Errorf("open port: %w", err)
	}
	host, err := dial.Reserve(netip.AddrPortFrom(addr, uint16(p.HostPort)))
	if err != nil {
		err = fmt.Errorf("open port %d of this computer: %w", p.HostPort, plainError(err))
		args := fault.Args{"address": p.Address, "port": strconv.Itoa(p.HostPort), "guest-port": strconv.Itoa(p.GuestPort)}
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			return nil, fault.Wrap(err, fault.PortTaken, args)
		case errors.Is(err, syscall.EACCES):
			return nil, fault.Wrap(err, fault.PortPrivileged, args)
		}
		return nil, err
	}
	p.HostPort = host.Number()
	if host.Half && whole {
		host.Close()
		return nil, fault.New(fault.PortTaken, fault.Args{"address": "::1", "port": strconv.Itoa(p.HostPort), "guest-port": strconv.Itoa(p.GuestPort)},
			"another program has port %d of ::1", p.HostPort)
	}
	if host.Half && n.half != nil {
		n.half(p)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.isClosed() || n.guest == nil {
		host.Close()
		return nil, errors.New("open port: the machine is not up")
	}
	opened := &published{Port: p, host: host, known: make(chan struct{}), slots: make(chan struct{}, maxPortConns)}
	n.ports[p] = opened
	n.portsEdited()
	n.audit.Record(audit.Event{Kind: audit.Port, Addr: p.Address, Port: p.HostPort, Reason: fmt.Sprintf("opened for port %d of the machine", p.GuestPort)})
	return opened, nil
}

// portsEdited has watchPorts look at ports again.
func (n *Network) portsEdited() {
	select {
	case n.edited <- struct{}{}:
	default:
	}
}

// watchRetry is the time after which a guest that has broken off is asked again.
const watchRetry = time.Second

// watchPorts lets ports accept connections while somebody listens in the guest.
func (n *Network) watchPorts(guest Guest) {
	for !n.isClosed() {
		select {
		case <-n.edited: // what follows sees it
		default:
		}
		n.mu.Lock()
		var ports []int
		for p := range n.ports {
			ports = append(ports, p.GuestPort)
		}
		n.mu.Unlock()
		slices.Sort(ports)
		ports = slices.Compact(ports)
		ctx, cancel := context.WithCancel(context.Background())
		var watch sync.WaitGroup
		again := make(chan struct{})
		if len(ports) > 0 {
			watch.Go(func() {
				err := guest.Watch(ctx, ports, func(listening []int) { n.listen(guest, ports, listening) })
				if ctx.Err() != nil {
					return
				}
				n.log.Debug("watch the ports of the guest", "err", err)
				n.listen(guest, ports, nil)
				select {
				case <-ctx.Done():
				case <-time.After(watchRetry):
					close(again)
				}
			})
		}
		select {
		case <-n.edited:
		case <-again:
		case <-n.closed:
		}
		cancel()
		watch.Wait()
	}
}

// listen lets those of ports accept connections on which somebody listens in the guest.
func (n *Network) listen(guest Guest, ports, listening []int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.isClosed() {
		return
	}
	for _, p := range n.ports {
		if !slices.Contains(ports, p.GuestPort) {
			continue
		}
		if open := slices.Contains(listening, p.GuestPort); open != p.open {
			n.switchLocked(p, guest, open)
		}
		if !p.told {
			p.told = true
			close(p.known)
		}
	}
}

// switchLocked lets a port accept connections, or refuse them.
func (n *Network) switchLocked(p *published, guest Guest, open bool) {
	p.open = open
	if !open {
		p.shut()
		p.host.Refuse()
		return
	}
	listeners, err := p.host.Listen()
	if err != nil {
		n.log.Debug("listen on a published port", "port", p.HostPort, "err", err)
		p.open = false
		return
	}
	shut := make(chan struct{})
	p.shut = func() { close(shut) }
	for _, l := range listeners {
		n.work.Go(func() { n.servePort(l, shut, p, guest) })
	}
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
	var found *published
	for _, p := range n.ports {
		if p.HostPort == hostPort {
			found = p
		}
	}
	n.mu.Unlock()
	if found == nil {
		return fmt.Errorf("port %d of this computer is none of the machine's", hostPort)
	}
	n.leaveAuto(hostPort)
	n.closePort(found)
	return nil
}

// closePort ends a publication, once.
func (n *Network) closePort(p *published) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.isClosed() || n.ports[p.Port] != p {
		return
	}
	if p.open {
		p.shut()
	}
	p.host.Close()
	delete(n.ports, p.Port)
	n.portsEdited()
	n.audit.Record(audit.Event{Kind: audit.Port, Addr: p.Address, Port: p.HostPort, Reason: "closed"})
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

// acceptRetry is the time after which it is tried again to accept a connection.
const acceptRetry = 100 * time.Millisecond

// servePort connects whoever connects to l with the guest, until shut.
func (n *Network) servePort(l net.Listener, shut <-chan struct{}, p *published, guest Guest) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n.work.Go(func() {
		select {
		case <-n.closed:
			cancel()
		case <-ctx.Done():
		}
	})
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		select {
		case p.slots <- struct{}{}:
		case <-shut: // a guest may end to listen, and begin again, while there is no slot
			return
		case <-ctx.Done():
			return
		}
		conn, err := l.Accept()
		if err != nil {
			<-p.slots
			// There may be too many files open for a moment: who is queued is
			// connected already, and waits.
			select {
			case <-shut:
				return
			case <-ctx.Done():
				return
			case <-time.After(acceptRetry):
				continue
			}
		}
		conns.Go(func() {
			defer func() { <-p.slots }()
			n.connectGuest(ctx, conn, p.GuestPort, guest)
		})
	}
}

// connectGuest connects conn with a port of the guest. Where nobody listens any more, it
// is reset.
func (n *Network) connectGuest(ctx context.Context, conn net.Conn, port int, to Guest) {
	defer conn.Close()
	reset := func() {
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
	}
	guest, err := to.Connect(ctx, port)
	if err != nil {
		n.log.Debug("connect to the guest", "port", port, "err", err)
		reset()
		return
	}
	stop := context.AfterFunc(ctx, func() {
		reset()
		conn.Close()
		guest.Close()
	})
	defer stop()
	joinHalves(conn, guest)
}

// joinHalves copies in both directions until both have ended, or one has failed: then the
// connection is broken for both ends, and not just ended.
func joinHalves(a, b net.Conn) {
	breakOff := func() {
		for _, c := range []net.Conn{a, b} {
			if tcp, ok := c.(*net.TCPConn); ok {
				tcp.SetLinger(0)
			}
			c.Close()
		}
	}
	var halves, watches sync.WaitGroup
	half := func(dst, src net.Conn) {
		_, err := copyHalf(dst, src, copyBuffer)
		if err != nil {
			breakOff()
		} else if tcp, ok := src.(*net.TCPConn); ok {
			watches.Go(func() {
				if wasReset(tcp) {
					breakOff()
				}
			})
		}
	}
	halves.Go(func() { half(a, b) })
	half(b, a)
	halves.Wait()
	a.Close()
	b.Close()
	watches.Wait()
}

// wasReset waits, after the end of what conn sends, until it is closed or broken, and reports
// whether it was broken. Who has ended only his direction still reads. Who has left looks the
// same until the kernel's probes, or what is written, are answered by a reset: nobody else
// would find that out while the other end says nothing.
func wasReset(conn *net.TCPConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	return raw.Read(func(fd uintptr) bool {
		errno, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		return err == nil && errno != 0
	}) == nil
}

func isNotConnected(err error) bool { return errors.Is(err, syscall.ENOTCONN) }
