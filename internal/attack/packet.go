package attack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// packets aims with packets that no kernel would send.
func packets() []attempt {
	return []attempt{
		{name: "ICMP echo to a public address", try: expectSilence(icmpEcho), trace: traceOf("icmp")},
		{name: "IPv6", try: expectSilence(ipv6), trace: traceOf("ipv6")},
		{name: "IP options", try: expectSilence(ipOptions), trace: traceOf("ip options")},
		{name: "IP fragments", try: expectSilence(fragment), trace: traceOf("ip fragment")},
		{name: "another IP protocol", try: expectSilence(sctp), trace: traceOf("protocol 132")},
		{name: "another source address", try: expectSilence(otherSource), trace: traceOf("source address")},
		{name: "ARP for another machine", try: expectSilence(otherARP), trace: traceOf("arp")},
		{name: "20,000 connections at once", try: synFlood, trace: traceOf("10.0.0.0/16")},
	}
}

// card is the machine's network card, for whole frames.
type card struct {
	fd      int
	mac     net.HardwareAddr
	gateway net.HardwareAddr
	addr    netip.Addr
}

// gatewayMAC is that of package vnet, which is no part of this program's guest side.
var gatewayMAC = net.HardwareAddr{0x52, 0x54, 0x00, 0x66, 0x6c, 0x79}

func openCard() (*card, error) {
	found, err := filepath.Glob("/sys/class/net/*/device")
	if err != nil || len(found) == 0 {
		return nil, errors.Join(err, errors.New("there is no network card"))
	}
	ifi, err := net.InterfaceByName(filepath.Base(filepath.Dir(found[0])))
	if err != nil {
		return nil, err
	}
	const all = 0x0300 // ETH_P_ALL in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		return nil, os.NewSyscallError("open the network card", err)
	}
	c := &card{fd: fd, mac: ifi.HardwareAddr, gateway: gatewayMAC, addr: netip.AddrFrom4([4]byte{192, 168, 127, 2})}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifi.Index}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("open the network card", err)
	}
	tv := unix.NsecToTimeval(int64(20 * time.Millisecond))
	return c, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
}

// expectSilence sends a frame and expects that nothing comes back that serves who
// sent it: nothing but ICMP that says no.
func expectSilence(frame func(c *card, t Target) []byte) func(context.Context, Target) (bool, string) {
	return func(ctx context.Context, t Target) (bool, string) {
		c, err := openCard()
		if err != nil {
			return gotThrough("%v", err)
		}
		defer unix.Close(c.fd)
		sent := frame(c, t)
		if _, err := unix.Write(c.fd, sent); err != nil {
			return gotThrough("send: %v", err)
		}
		how := "no answer"
		buf := make([]byte, 70_000)
		for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); {
			n, from, err := unix.Recvfrom(c.fd, buf, 0)
			if err != nil {
				continue
			}
			if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
				continue
			}
			answer := buf[:n]
			switch {
			case isUnreachable(answer):
				how = "ICMP: unreachable"
			case concerns(sent, answer):
				return gotThrough("an answer: %x", answer[:min(n, 60)])
			}
		}
		return true, how
	}
}

// isUnreachable reports whether a frame is ICMP's destination unreachable.
func isUnreachable(frame []byte) bool {
	return len(frame) > 34 && frame[12] == 0x08 && frame[13] == 0 && frame[23] == unix.IPPROTO_ICMP && frame[34] == 3
}

// concerns reports whether answer comes from where sent went: from its IPv4
// destination, or is of its other protocol.
func concerns(sent, answer []byte) bool {
	if len(answer) < 34 || len(sent) < 34 || !bytes.Equal(sent[12:14], answer[12:14]) {
		return false
	}
	switch binary.BigEndian.Uint16(sent[12:]) {
	case 0x0800:
		return bytes.Equal(sent[30:34], answer[26:30])
	case 0x0806:
		return len(sent) >= 42 && len(answer) >= 42 && bytes.Equal(sent[38:42], answer[28:32])
	}
	return true
}

func (c *card) frame(ethertype uint16, payload []byte) []byte {
	f := append([]byte{}, c.gateway...)
	f = append(f, c.mac...)
	f = binary.BigEndian.AppendUint16(f, ethertype)
	return append(f, payload...)
}

// ipv4 returns a packet. options are whole words; fragment is the field with flags
// and offset.
func ipv4(src, dst netip.Addr, protocol byte, fragment uint16, options, payload []byte) []byte {
	head := 20 + len(options)
	p := make([]byte, head, head+len(payload))
	p[0] = 0x40 | byte(head/4)
	binary.BigEndian.PutUint16(p[2:], uint16(head+len(payload)))
	binary.BigEndian.PutUint16(p[4:], uint16(rand.Uint32()))
	binary.BigEndian.PutUint16(p[6:], fragment)
	p[8], p[9] = 64, protocol
	copy(p[12:], src.AsSlice())
	copy(p[16:], dst.AsSlice())
	copy(p[20:], options)
	binary.BigEndian.PutUint16(p[10:], checksum(0, p))
	return append(p, payload...)
}

// checksum is that of RFC 1071.
func checksum(sum uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// syn returns the first segment of a connection.
func syn(src, dst netip.Addr, srcPort, dstPort uint16) []byte {
	s := make([]byte, 20)
	binary.BigEndian.PutUint16(s, srcPort)
	binary.BigEndian.PutUint16(s[2:], dstPort)
	binary.BigEndian.PutUint32(s[4:], rand.Uint32())
	s[12], s[13] = 5<<4, 0x02
	binary.BigEndian.PutUint16(s[14:], 65535)
	pseudo := append(append(src.AsSlice(), dst.AsSlice()...), 0, unix.IPPROTO_TCP, 0, 20)
	sum := ^checksum(0, pseudo)
	binary.BigEndian.PutUint16(s[16:], checksum(uint32(sum), s))
	return s
}

// address returns where packets are aimed at: the allowed host if there is one, since
// connections to that are answered.
func address(t Target) netip.Addr {
	if t.Allowed != "" {
		if addrs, err := net.DefaultResolver.LookupNetIP(context.Background(), "ip4", t.Allowed); err == nil && len(addrs) > 0 {
			return addrs[0].Unmap()
		}
	}
	return netip.MustParseAddr(t.Public)
}

func icmpEcho(c *card, t Target) []byte {
	m := []byte{8, 0, 0, 0, 0, 1, 0, 1, 'm', 'a', 'y', 'f', 'l', 'y'}
	binary.BigEndian.PutUint16(m[2:], checksum(0, m))
	return c.frame(0x0800, ipv4(c.addr, netip.MustParseAddr(t.Public), unix.IPPROTO_ICMP, 0, nil, m))
}

func ipv6(c *card, _ Target) []byte {
	p := make([]byte, 40)
	p[0], p[6], p[7] = 0x60, 59, 64 // no next header
	src, dst := netip.MustParseAddr("fd00::2").As16(), netip.MustParseAddr("2606:4700::1111").As16()
	copy(p[8:], src[:])
	copy(p[24:], dst[:])
	return c.frame(0x86dd, p)
}

func ipOptions(c *card, t Target) []byte {
	routeRecord := []byte{7, 7, 4, 0, 0, 0, 0, 0} // RFC 791 3.1, and an end
	dst := address(t)
	return c.frame(0x0800, ipv4(c.addr, dst, unix.IPPROTO_TCP, 0, routeRecord, syn(c.addr, dst, 40001, 443)))
}

func fragment(c *card, t Target) []byte {
	const moreFragments = 0x2000
	dst := address(t)
	return c.frame(0x0800, ipv4(c.addr, dst, unix.IPPROTO_TCP, moreFragments, nil, syn(c.addr, dst, 40002, 443)[:16]))
}

func sctp(c *card, t Target) []byte {
	return c.frame(0x0800, ipv4(c.addr, address(t), unix.IPPROTO_SCTP, 0, nil, make([]byte, 32)))
}

func otherSource(c *card, t Target) []byte {
	src, dst := netip.MustParseAddr("192.168.127.77"), address(t)
	return c.frame(0x0800, ipv4(src, dst, unix.IPPROTO_TCP, 0, nil, syn(src, dst, 40003, 443)))
}

func otherARP(c *card, _ Target) []byte {
	p := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	p = append(append(p, c.mac...), c.addr.AsSlice()...)
	p = append(append(p, 0, 0, 0, 0, 0, 0), 192, 168, 127, 3)
	f := c.frame(0x0806, p)
	copy(f, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	return f
}

// synFlood begins connections to addresses all over, and then expects that the
// machine's network still works.
func synFlood(ctx context.Context, t Target) (bool, string) {
	c, err := openCard()
	if err != nil {
		return gotThrough("%v", err)
	}
	defer unix.Close(c.fd)
	const count = 20_000
	for i := range count {
		dst := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		frame := c.frame(0x0800, ipv4(c.addr, dst, unix.IPPROTO_TCP, 0, nil, syn(c.addr, dst, uint16(1024+i), 443)))
		for {
			_, err := unix.Write(c.fd, frame)
			if err == nil {
				break
			}
			if !errors.Is(err, unix.ENOBUFS) || ctx.Err() != nil {
				return gotThrough("send: %v", err)
			}
			time.Sleep(time.Millisecond) // the card's queue is full
		}
	}
	begun := time.Now()
	if refused, how := stillAnswers(ctx); !refused {
		return false, how
	}
	return true, fmt.Sprintf("the network answers after them, in %v", time.Since(begun).Round(time.Millisecond))
}

// stillAnswers asks for a name, for as long as ctx lasts.
func stillAnswers(ctx context.Context) (bool, string) {
	for ctx.Err() == nil {
		each, cancel := context.WithTimeout(ctx, 5*time.Second)
		ok, _ := unknownName(each, "udp", "192.168.127.1:53", "after-the-flood.attack.invalid")
		cancel()
		if ok {
			return true, ""
		}
	}
	return gotThrough("nobody answers any more")
}
