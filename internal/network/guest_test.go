package network

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"

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
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/mayfly-vm/mayfly/internal/network/vnet"
)

// kernel is a TCP/IP stack in the place of a machine's kernel, behind the socket of a VMM.
type kernel struct {
	stack *stack.Stack
	vmm   net.Conn
}

// newKernel attaches one to n.
func newKernel(t *testing.T, n *Network) *kernel {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		ends[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	mac, err := net.ParseMAC(vnet.GuestMAC)
	if err != nil {
		t.Fatal(err)
	}
	k := &kernel{vmm: ends[1], stack: stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})}
	// Its buffers are in the same process as what is measured.
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: 32 << 10, Max: 32 << 10}
	if err := k.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &send); err != nil {
		t.Fatal(err)
	}
	wire := channel.New(4096, vnet.MTU+header.EthernetMinimumSize, tcpip.LinkAddress(mac))
	wire.LinkEPCapabilities = stack.CapabilityRXChecksumOffload
	const nic = 1
	address := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{
		Address: tcpip.AddrFrom4(vnet.Guest.As4()), PrefixLen: vnet.PrefixBits,
	}}
	if err := k.stack.CreateNIC(nic, ethernet.New(wire)); err != nil {
		t.Fatal(err)
	}
	if err := k.stack.AddProtocolAddress(nic, address, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	k.stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, Gateway: tcpip.AddrFrom4(vnet.Gateway.As4()), NIC: nic}})
	n.Attach(ends[0])
	ctx, stop := context.WithCancel(context.Background())
	var pumps sync.WaitGroup
	pumps.Go(func() {
		r := bufio.NewReaderSize(k.vmm, 256<<10)
		for {
			var head [4]byte
			if _, err := io.ReadFull(r, head[:]); err != nil {
				return
			}
			frame := make([]byte, binary.BigEndian.Uint32(head[:]))
			if _, err := io.ReadFull(r, frame); err != nil {
				return
			}
			pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
			wire.InjectInbound(0, pkt)
			pkt.DecRef()
		}
	})
	pumps.Go(func() {
		for pkt := wire.ReadContext(ctx); pkt != nil; pkt = wire.ReadContext(ctx) {
			frame := pkt.ToView().AsSlice()
			pkt.DecRef()
			if k.send(frame) != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		stop()
		k.vmm.Close()
		pumps.Wait()
		k.stack.Destroy()
	})
	return k
}

// send sends a frame as it is.
func (k *kernel) send(frame []byte) error {
	_, err := k.vmm.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
	return err
}

func (k *kernel) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return gonet.DialContextTCP(ctx, k.stack, tcpip.FullAddress{NIC: 1, Addr: tcpip.AddrFrom4(to.Addr().As4()), Port: to.Port()}, ipv4.ProtocolNumber)
}
