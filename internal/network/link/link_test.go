package link

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

func testEndpoint(refused func(Refusal)) *Endpoint {
	return New(Config{Gateway: gateway, Guest: guest, MAC: gatewayMAC, Refused: refused})
}

// A ping to the world fails at once, by an answer that the guest's kernel
// understands.
func TestProhibited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := make(chan Refusal, 1)
		e := testEndpoint(func(r Refusal) { refused <- r })
		ours, vmm := net.Pipe()
		e.Connect(ours)
		defer e.Disconnect()

		ping := ip4(protoICMP, far, append(icmpOf(8), make([]byte, 56)...))
		vmm.Write(wired(ping))
		answer, err := newFrameReader(vmm).next()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(answer[:14], append(append(bytes.Clone(guestMAC), gatewayMAC...), 8, 0)) {
			t.Errorf("Ethernet header %x; want from the gateway to the guest, IPv4", answer[:14])
		}
		ip := header.IPv4(answer[14:])
		if !ip.IsValid(len(ip)) || !ip.IsChecksumValid() || addr4(ip[12:]) != gateway.Addr() || addr4(ip[16:]) != guest {
			t.Errorf("IP header %x; want one from %v to %v", []byte(ip[:20]), gateway.Addr(), guest)
		}
		icmp := header.ICMPv4(ip.Payload())
		if icmp.Type() != 3 || icmp.Code() != 13 || !bytes.Equal(icmp[8:], ping[14:14+28]) {
			t.Errorf("ICMP %x; want type 3, code 13, and what was sent", []byte(icmp))
		}
		if sum := icmp.Checksum(); sum != header.ICMPv4Checksum(icmp, 0) {
			t.Errorf("ICMP checksum %#x; want %#x", sum, header.ICMPv4Checksum(icmp, 0))
		}
		if r := <-refused; r.Kind != KindICMP || r.Dst.Addr() != far {
			t.Errorf("refused %+v; want %q to %v", r, KindICMP, far)
		}
	})
}

// A bad length ends the conversation, but not the Endpoint.
func TestBadFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := make(chan Refusal, 1)
		e := testEndpoint(func(r Refusal) { refused <- r })
		for range 2 {
			ours, vmm := net.Pipe()
			e.Connect(ours)
			vmm.Write([]byte{255, 0, 0, 0})
			if _, err := vmm.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("read after a bad frame = %v; want EOF", err)
			}
			if r := <-refused; r.Kind != KindFrame {
				t.Errorf("refused %+v; want %q", r, KindFrame)
			}
			vmm.Close()
		}
		e.Disconnect()
		e.Disconnect()
	})
}

// A guest that does not read costs bounded memory and no time, and what is
// written when it reads again is whole frames.
func TestSendQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := testEndpoint(nil)
		ours, vmm := net.Pipe()
		e.Connect(ours)
		defer e.Disconnect()
		sent := 0
		for i := range 1000 {
			frame := bytes.Repeat([]byte{byte(i)}, 10_000)
			pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(wired(frame))})
			var list stack.PacketBufferList
			list.PushBack(pkt)
			n, _ := e.WritePackets(list)
			sent += n
			pkt.DecRef()
		}
		if most := 2 * (maxQueued/10_000 + 1); sent < 10 || sent > most {
			t.Errorf("%d of 1000 frames of 10 kB were queued; want at most %d", sent, most)
		}
		fr := newFrameReader(vmm)
		for i := range sent {
			frame, err := fr.next()
			if err != nil || len(frame) != 10_000 || frame[0] != frame[9999] {
				t.Fatalf("frame %d of %d = %d bytes, %v", i, sent, len(frame), err)
			}
		}
	})
}

func TestWithoutVMM(t *testing.T) {
	var list stack.PacketBufferList
	if n, err := testEndpoint(nil).WritePackets(list); n != 0 || err != nil {
		t.Errorf("WritePackets() = %d, %v; want 0, nil", n, err)
	}
}

func TestLastAddr(t *testing.T) {
	for in, want := range map[string]string{
		"192.168.127.1/24": "192.168.127.255",
		"10.1.2.3/8":       "10.255.255.255",
		"10.1.2.3/30":      "10.1.2.3",
		"10.1.2.3/32":      "10.1.2.3",
	} {
		if got := lastAddr(netip.MustParsePrefix(in)).String(); got != want {
			t.Errorf("lastAddr(%s) = %s; want %s", in, got, want)
		}
	}
}

func BenchmarkFilter(b *testing.B) {
	f := testFilter()
	frame := ip4(protoTCP, far, ports(443, 1400))
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		f.check(frame)
	}
}

func BenchmarkFrameReader(b *testing.B) {
	stream := bytes.Repeat(wired(frameOf(MTU+ethernetLen)), 8)
	var r bytes.Reader
	fr := newFrameReader(&r)
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(stream)
		for range 8 {
			fr.next()
		}
	}
}
