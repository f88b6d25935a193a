package network

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/budget"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/vnet"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// deaf is a service of this computer that takes connections and reads nothing.
func deaf(t *testing.T) uint16 {
	t.Helper()
	// With a small buffer from the beginning, or megabytes go through until it is full.
	small := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10) })
	}}
	l, err := small.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var conns []net.Conn
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			c.Close()
		}
	})
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

// uploads makes connections to the service and sends more than anybody takes, until the
// machine gets no more of them, or has so many.
func uploads(t *testing.T, n *Network, k *kernel, port uint16, most int) (to netip.AddrPort, count int) {
	t.Helper()
	to = netip.AddrPortFrom(n.names.Pool.Addr(plan.HostName), port)
	for count < most {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		conn, err := k.dial(ctx, to)
		cancel()
		if err != nil {
			return to, count
		}
		count++
		go io.Copy(conn, zeros{})
	}
	return to, count
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// smallNetwork is one with a budget for a few connections to this computer.
func smallNetwork(t *testing.T, port uint16) (*Network, *budget.Budget) {
	t.Helper()
	log, err := audit.Open(filepath.Join(t.TempDir(), "audit"), "m")
	if err != nil {
		t.Fatal(err)
	}
	b := budget.New(budget.Reserve + 2<<20)
	n, err := New(Config{
		Plan:  plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressAllowlist, Allow: []plan.Rule{{Host: plan.HostName, Port: int(port)}}},
		Audit: log, Log: slog.New(slog.DiscardHandler), Budget: b,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Close()
		log.Close()
	})
	return n, b
}

// The connections of a program that ends are free at once, though their host reads nothing.
func TestUploadsOfEndedProgram(t *testing.T) {
	port := deaf(t)
	n, b := smallNetwork(t, port)
	k := newKernel(t, n)
	_, count := uploads(t, n, k, port, 50)
	if count < 10 {
		t.Fatalf("%d connections; want some more", count)
	}
	for _, ep := range k.stack.RegisteredEndpoints() {
		ep.Abort()
	}
	for deadline := time.Now().Add(time.Minute); b.Used() > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d KiB of %d connections are still taken", b.Used()>>10, count)
		}
	}
}

// A kernel that sends the rest of an ended program's data for minutes keeps no other program
// from the network.
func TestUploadsMakeRoom(t *testing.T) {
	port := deaf(t)
	n, _ := smallNetwork(t, port)
	k := newKernel(t, n)
	to, count := uploads(t, n, k, port, 50)
	// Refused at first: none has been blocked for long enough.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for made := 0; made < 3; {
		// A kernel asks less and less often.
		each, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
		conn, err := k.dial(each, to)
		cancel()
		switch {
		case err == nil:
			defer conn.Close()
			made++
		case ctx.Err() != nil:
			t.Fatalf("connection %d after %d that are blocked: %v", made+1, count, err)
		default:
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// Floods of packets, names and uploads are held within the budget, and all is given back.
func TestFloods(t *testing.T) {
	port := deaf(t)
	log, err := audit.Open(filepath.Join(t.TempDir(), "audit"), "m")
	if err != nil {
		t.Fatal(err)
	}
	b := budget.New(budget.Default)
	n, err := New(Config{
		Plan:  plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressAllowlist, Allow: []plan.Rule{{Host: plan.HostName, Port: int(port)}}},
		Audit: log, Log: slog.New(slog.DiscardHandler), Budget: b,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Close()
		log.Close()
	})
	k := newKernel(t, n)
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	before, routines, files := heap(), runtime.NumGoroutine(), descriptors(t)
	question := []byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05names\x07example\x00\x00\x01\x00\x01")
	for i := range 10_000 {
		question[13] = byte('a' + i%26)
		if i%2 == 0 {
			k.send(packet(17, uint16(i), 53, question))
		} else {
			syn := make([]byte, 16)
			binary.BigEndian.PutUint32(syn, uint32(i))
			syn[8], syn[9] = 5<<4, 2
			k.send(packet(6, uint16(i), uint16(i), syn))
		}
	}
	// What is on its way when the last packet was sent is no flood's: it goes by itself.
	const most = 32 << 20
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		grown := heap() - before
		if grown <= most {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d MiB are held after names and first packets; want at most %d", grown>>20, most>>20)
		}
	}
	if more := descriptors(t) - files; more > 16 {
		t.Errorf("%d descriptors are open after names and first packets; want none of theirs", more)
	}
	_, count := uploads(t, n, k, port, 200) // of each size of connection
	if count < 10 {
		t.Fatalf("%d uploads; want some more", count)
	}
	grown, more := heap()-before, runtime.NumGoroutine()-routines
	t.Logf("%d uploads hold %d MiB, those of the guest's kernel included, and %d goroutines; counted: %d MiB", count, grown>>20, more, b.Used()>>20)
	// The other end of each is here: 256 KiB, and a goroutine; and that of the service.
	if own := int64(count) * 300 << 10; grown > budget.Default+own {
		t.Errorf("%d MiB are held; want at most %d", grown>>20, (budget.Default+own)>>20)
	}
	if more > 6*count+2000 {
		t.Errorf("%d goroutines for %d uploads", more, count)
	}
	// One for each, and the service's.
	if more := descriptors(t) - files; more > 2*count+16 {
		t.Errorf("%d descriptors are open for %d uploads", more, count)
	}
	for _, ep := range k.stack.RegisteredEndpoints() {
		ep.Abort()
	}
	// The service keeps its own.
	for deadline := time.Now().Add(time.Minute); b.Used() > 0 || descriptors(t)-files > count+16; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d KiB of %d connections are still taken, and %d descriptors", b.Used()>>10, count, descriptors(t)-files)
		}
	}
}

// descriptors returns how many this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// packet returns a frame with the transport header's ports in front of rest.
func packet(protocol byte, from, to uint16, rest []byte) []byte {
	transport := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), to)
	if protocol == 17 {
		transport = binary.BigEndian.AppendUint32(transport, uint32(8+len(rest))<<16)
	}
	transport = append(transport, rest...)
	gateway, _ := net.ParseMAC(vnet.GatewayMAC)
	guest, _ := net.ParseMAC(vnet.GuestMAC)
	f := append(append(append([]byte{}, gateway...), guest...), 8, 0)
	ip := make([]byte, 20)
	ip[0], ip[8], ip[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(ip[2:], uint16(20+len(transport)))
	copy(ip[12:], vnet.Guest.AsSlice())
	copy(ip[16:], vnet.Gateway.AsSlice())
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
	return append(append(f, ip...), transport...)
}
