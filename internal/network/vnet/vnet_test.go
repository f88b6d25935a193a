package vnet

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// patience bounds the wait for what happens at once.
const patience = time.Minute

// socketpair returns two ends of a unix stream socket, as a VMM and we have.
func socketpair(t testing.TB) (ours, vmm net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		conns[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conns[i].Close() })
	}
	return conns[0], conns[1]
}

// newStackFor returns an open stack, closed at the test's end.
func newStackFor(t testing.TB, cfg Config) *Stack {
	t.Helper()
	if cfg.TCP == nil {
		cfg.TCP = func(context.Context, *Attempt) {}
	}
	if cfg.Datagram == nil {
		cfg.Datagram = func(context.Context, netip.AddrPort, netip.AddrPort, []byte) ([]byte, bool) { return nil, false }
	}
	s := New(cfg)
	t.Cleanup(s.Close)
	return s
}

// guest is the other end: a second stack in the place of a machine's kernel. Its
// wire shares no code with package link.
type guest struct {
	stack *stack.Stack
	wire  *channel.Endpoint
	vmm   net.Conn
	stop  context.CancelFunc
	pumps sync.WaitGroup
}

// newGuest attaches a guest to s.
func newGuest(t testing.TB, s *Stack) *guest {
	t.Helper()
	ours, vmm := socketpair(t)
	mac, err := net.ParseMAC(GuestMAC)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	g := &guest{
		stack: stack.New(stack.Options{
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocolCUBIC, udp.NewProtocol, icmp.NewProtocol4},
		}),
		wire: channel.New(4096, MTU+header.EthernetMinimumSize, tcpip.LinkAddress(mac)),
		vmm:  vmm,
		stop: stop,
	}
	g.wire.LinkEPCapabilities = stack.CapabilityRXChecksumOffload
	tuneTCP(g.stack)
	must("create the guest's interface", g.stack.CreateNIC(nic, ethernet.New(g.wire)))
	must("add the guest's address", g.stack.AddProtocolAddress(nic, tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4(Guest.As4()), PrefixLen: PrefixBits},
	}, stack.AddressProperties{}))
	gateway := tcpip.AddrFrom4(Gateway.As4())
	g.stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, Gateway: gateway, NIC: nic}})
	s.Attach(ours)
	g.pumps.Go(g.receive)
	g.pumps.Go(func() { g.send(ctx) })
	t.Cleanup(g.close)
	return g
}

func (g *guest) receive() {
	r := bufio.NewReaderSize(g.vmm, 256<<10)
	for {
		frame, err := readFrame(r)
		if err != nil {
			return
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
		g.wire.InjectInbound(0, pkt)
		pkt.DecRef()
	}
}

func (g *guest) send(ctx context.Context) {
	for {
		pkt := g.wire.ReadContext(ctx)
		if pkt == nil {
			return
		}
		err := writeFrame(g.vmm, pkt.ToView().AsSlice())
		pkt.DecRef()
		if err != nil {
			return
		}
	}
}

// close ends the guest; it may be called again.
func (g *guest) close() {
	g.stop()
	g.vmm.Close()
	g.pumps.Wait()
	g.stack.Destroy()
}

func readFrame(r io.Reader) ([]byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint32(n[:]))
	_, err := io.ReadFull(r, frame)
	return frame, err
}

func writeFrame(w io.Writer, frame []byte) error {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(frame)), uint32(len(frame)))
	_, err := w.Write(append(b, frame...))
	return err
}

func (g *guest) dial(ctx context.Context, dst netip.AddrPort) (*gonet.TCPConn, error) {
	return gonet.DialContextTCP(ctx, g.stack, fullAddress(dst), ipv4.ProtocolNumber)
}

func (g *guest) dialUDP(t testing.TB, dst netip.AddrPort) *gonet.UDPConn {
	t.Helper()
	remote := fullAddress(dst)
	c, err := gonet.DialUDP(g.stack, nil, &remote, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

func fullAddress(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFrom4(a.Addr().As4()), Port: a.Port()}
}

// checkGoroutines fails t if goroutines of ours or gVisor's are left at its end,
// after all cleanups.
func checkGoroutines(t testing.TB) {
	t.Cleanup(func() {
		var left string
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); runtime.Gosched() {
			if left = ourGoroutines(); left == "" {
				return
			}
		}
		t.Errorf("goroutines are left:\n%s", left)
	})
}

func ourGoroutines() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for i, g := range strings.Split(string(buf), "\n\n") {
		if i > 0 && (strings.Contains(g, "gvisor.dev") || strings.Contains(g, "internal/network")) {
			left = append(left, g)
		}
	}
	return strings.Join(left, "\n\n")
}

var web = netip.MustParseAddrPort("198.18.0.1:443")
