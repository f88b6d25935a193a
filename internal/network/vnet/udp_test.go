package vnet

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/mayfly-vm/mayfly/internal/network/link"
)

// ipFrame is a frame from the guest to dst with room for a body.
func ipFrame(proto tcpip.TransportProtocolNumber, dst netip.Addr, body int) []byte {
	f := make([]byte, 14+20+body)
	guest, _ := net.ParseMAC(GuestMAC)
	gateway, _ := net.ParseMAC(GatewayMAC)
	header.Ethernet(f).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(guest), DstAddr: tcpip.LinkAddress(gateway), Type: header.IPv4ProtocolNumber,
	})
	ip := header.IPv4(f[14:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(20 + body), TTL: 64, Protocol: uint8(proto),
		SrcAddr: tcpip.AddrFrom4(Guest.As4()), DstAddr: tcpip.AddrFrom4(dst.As4()),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	return f
}

func udpFrame(dst netip.AddrPort, payload []byte) []byte {
	f := ipFrame(header.UDPProtocolNumber, dst.Addr(), 8+len(payload))
	header.UDP(f[34:]).Encode(&header.UDPFields{SrcPort: 1, DstPort: dst.Port(), Length: uint16(8 + len(payload))})
	copy(f[42:], payload)
	return f
}

// pingFrame asks the gateway for an echo.
func pingFrame() []byte {
	f := ipFrame(header.ICMPv4ProtocolNumber, Gateway, 8)
	echo := header.ICMPv4(f[34:])
	echo.SetType(header.ICMPv4Echo)
	echo.SetChecksum(header.ICMPv4Checksum(echo, 0))
	return f
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestDatagram(t *testing.T) {
	checkGoroutines(t)
	resolver := netip.MustParseAddrPort("8.8.8.8:53")
	s := newStackFor(t, Config{Datagram: func(_ context.Context, src, dst netip.AddrPort, p []byte) ([]byte, bool) {
		if src.Addr() != Guest || dst != resolver {
			t.Errorf("datagram from %v to %v; want from %v to %v", src, dst, Guest, resolver)
		}
		return append([]byte("re: "), p...), true
	}})
	c := newGuest(t, s).dialUDP(t, resolver)
	// Two questions at once from one port, as a C library asks for A and
	// AAAA.
	for _, q := range []string{"A", "AAAA"} {
		c.Write([]byte(q))
	}
	got := map[string]bool{}
	buf := make([]byte, MaxDatagram)
	for range 2 {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got[string(buf[:n])] = true
	}
	if !got["re: A"] || !got["re: AAAA"] {
		t.Errorf("the guest got %v; want both answers", got)
	}
	long := bytes.Repeat([]byte("x"), MaxDatagram-4)
	c.Write(long)
	if n, err := c.Read(buf); n != MaxDatagram || err != nil {
		t.Errorf("answer of %d bytes, %v; want %d, nil", n, err, MaxDatagram)
	}
}

func TestDatagramRejected(t *testing.T) {
	checkGoroutines(t)
	var asked atomic.Int32
	s := newStackFor(t, Config{Datagram: func(context.Context, netip.AddrPort, netip.AddrPort, []byte) ([]byte, bool) {
		asked.Add(1)
		return nil, false
	}})
	ours, vmm := socketpair(t)
	s.Attach(ours)
	vmm.SetReadDeadline(time.Now().Add(patience))
	for _, size := range []int{10, MaxDatagram + 1} {
		question := udpFrame(web, make([]byte, size))
		writeFrame(vmm, question)
		frame, err := readFrame(vmm)
		if err != nil {
			t.Fatalf("no answer to %d bytes: %v", size, err)
		}
		ip, icmp := header.IPv4(frame[14:]), header.ICMPv4(frame[34:])
		if ip.SourceAddress().String() != web.Addr().String() || icmp.Type() != header.ICMPv4DstUnreachable ||
			icmp.Code() != header.ICMPv4PortUnreachable || !bytes.Equal(icmp.Payload()[:28], question[14:42]) {
			t.Errorf("answer to %d bytes = %x; want port unreachable from %v, and what was sent", size, frame, web.Addr())
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("%d calls of Datagram; want 1, not for more than MaxDatagram", n)
	}
}

// Too many questions are lost, and no more than maxDatagrams are under way.
func TestDatagramFlood(t *testing.T) {
	checkGoroutines(t)
	release := make(chan bool)
	var calls atomic.Int32
	s := newStackFor(t, Config{Datagram: func(ctx context.Context, _, _ netip.AddrPort, p []byte) ([]byte, bool) {
		calls.Add(1)
		<-release
		return p, true
	}})
	ours, vmm := socketpair(t)
	s.Attach(ours)
	for range 10 * maxDatagrams {
		writeFrame(vmm, udpFrame(netip.AddrPortFrom(Gateway, 53), []byte("?")))
	}
	// The reader answers in order: with this answer, it has seen them all.
	writeFrame(vmm, pingFrame())
	vmm.SetReadDeadline(time.Now().Add(patience))
	frame, err := readFrame(vmm)
	if err != nil || header.ICMPv4(frame[34:]).Type() != header.ICMPv4EchoReply {
		t.Fatalf("first frame = %x, %v; want an echo reply", frame, err)
	}
	waitFor(t, "call for each free place", func() bool { return calls.Load() == maxDatagrams })
	close(release)
	for i := range maxDatagrams {
		if _, err := readFrame(vmm); err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
	}
	if n := calls.Load(); n != maxDatagrams {
		t.Errorf("%d calls; want %d", n, maxDatagrams)
	}
}

func TestRefused(t *testing.T) {
	checkGoroutines(t)
	refused := make(chan link.Refusal, 1)
	s := newStackFor(t, Config{Refused: func(r link.Refusal) { refused <- r }})
	ours, vmm := socketpair(t)
	s.Attach(ours)
	mdns := netip.MustParseAddrPort("224.0.0.251:5353")
	writeFrame(vmm, udpFrame(mdns, []byte("?")))
	if r := <-refused; r.Kind != link.KindUDP || r.Dst != mdns {
		t.Errorf("refused %+v; want %q, %v", r, link.KindUDP, mdns)
	}
}

// The gateway answers ARP and ping; nobody else does.
func TestGateway(t *testing.T) {
	checkGoroutines(t)
	ours, vmm := socketpair(t)
	newStackFor(t, Config{}).Attach(ours)
	vmm.SetDeadline(time.Now().Add(patience))
	guest, _ := net.ParseMAC(GuestMAC)
	arpFor := func(target netip.Addr) []byte {
		f := make([]byte, 14+28)
		header.Ethernet(f).Encode(&header.EthernetFields{
			SrcAddr: tcpip.LinkAddress(guest), DstAddr: header.EthernetBroadcastAddress, Type: header.ARPProtocolNumber,
		})
		a := header.ARP(f[14:])
		a.SetIPv4OverEthernet()
		a.SetOp(header.ARPRequest)
		copy(a.HardwareAddressSender(), guest)
		copy(a.ProtocolAddressSender(), Guest.AsSlice())
		copy(a.ProtocolAddressTarget(), target.AsSlice())
		return f
	}
	// The guest's own address, as in its search for a duplicate, and a
	// neighbour's get no answer: the first frame is the gateway's.
	for _, target := range []netip.Addr{Guest, netip.MustParseAddr("192.168.127.77"), Gateway} {
		writeFrame(vmm, arpFor(target))
	}
	frame, err := readFrame(vmm)
	if err != nil {
		t.Fatal(err)
	}
	a := header.ARP(frame[14:])
	if got := net.HardwareAddr(a.HardwareAddressSender()).String(); a.Op() != header.ARPReply ||
		netip.AddrFrom4([4]byte(a.ProtocolAddressSender())) != Gateway || got != GatewayMAC {
		t.Errorf("answer %x from %s; want a reply of %v at %s", []byte(a), got, Gateway, GatewayMAC)
	}
	if dst := fmt.Sprint(net.HardwareAddr(frame[:6])); dst != GuestMAC {
		t.Errorf("answer to %s; want %s", dst, GuestMAC)
	}
}
