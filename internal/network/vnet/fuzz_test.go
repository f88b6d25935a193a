package vnet

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Whatever a guest sends, the filter and the stack behind it survive: a panic of
// the stack would be the end of the machine's supervisor.
func FuzzStack(f *testing.F) {
	f.Add(synFrame(5, web), udpFrame(web, []byte("?")))
	f.Add(pingFrame(), ipFrame(132, web.Addr(), 4))
	ack := synFrame(5, web)
	header.TCP(ack[34:]).SetFlags(uint8(header.TCPFlagAck | header.TCPFlagFin))
	f.Add(synFrame(5, web), ack)

	s := newStackFor(f, Config{
		TCP: accepting(func(c net.Conn) { io.Copy(c, c); c.Close() }),
		Datagram: func(_ context.Context, _, _ netip.AddrPort, p []byte) ([]byte, bool) {
			return p, len(p)%2 == 0
		},
	})
	ours, vmm := socketpair(f)
	s.Attach(ours)
	go io.Copy(io.Discard, vmm)
	f.Fuzz(func(t *testing.T, first, second []byte) {
		for _, frame := range [][]byte{first, second} {
			if len(frame) < header.EthernetMinimumSize || len(frame) > MTU {
				return // a wrong length would only end the conversation
			}
			if err := writeFrame(vmm, frame); err != nil {
				t.Fatalf("the stack has closed the connection: %v", err)
			}
		}
	})
}
