package vnet

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/mayfly-vm/mayfly/internal/budget"
	"github.com/mayfly-vm/mayfly/internal/network/link"
)

// accepting accepts all connections and runs serve on each, which must close it.
func accepting(serve func(net.Conn)) func(context.Context, *Attempt) {
	return func(_ context.Context, a *Attempt) {
		if c, err := a.Accept(); err == nil {
			serve(c)
		}
	}
}

func mustDial(t testing.TB, g *guest, dst netip.AddrPort) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := g.dial(ctx, dst)
	if err != nil {
		t.Fatalf("dial %v: %v", dst, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAttempt(t *testing.T) {
	checkGoroutines(t)
	seen := make(chan *Attempt, 1)
	s := newStackFor(t, Config{TCP: func(_ context.Context, a *Attempt) {
		c, err := a.Accept()
		if err != nil {
			t.Errorf("Accept() = %v", err)
			return
		}
		defer c.Close()
		if _, err := a.Accept(); err == nil {
			t.Error("a second Accept() = nil; want an error")
		}
		a.Reject() // no effect
		if got := c.LocalAddr().String(); got != web.String() {
			t.Errorf("LocalAddr() = %s; want %v, where the guest wanted to go", got, web)
		}
		io.WriteString(c, "hello")
		seen <- a
	}})
	c := mustDial(t, newGuest(t, s), web)
	got, err := io.ReadAll(c)
	if string(got) != "hello" || err != nil {
		t.Errorf("the guest read %q, %v; want hello, nil", got, err)
	}
	a := <-seen
	if a.Src.Addr() != Guest || a.Dst != web {
		t.Errorf("Attempt from %v to %v; want from %v to %v", a.Src, a.Dst, Guest, web)
	}
}

func TestReject(t *testing.T) {
	checkGoroutines(t)
	for name, reject := range map[string]func(*Attempt){
		"Reject":  (*Attempt).Reject,
		"nothing": func(*Attempt) {},
	} {
		s := newStackFor(t, Config{TCP: func(_ context.Context, a *Attempt) { reject(a) }})
		g := newGuest(t, s)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := g.dial(ctx, web)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: dial = %v; want connection refused", name, err)
		}
		waitFor(t, "free slots", func() bool { return s.conns.taken() == 0 && s.cfg.Budget.Used() == 0 })
	}
}

// The guest ends its direction, and still gets the whole answer.
func TestHalfClose(t *testing.T) {
	checkGoroutines(t)
	s := newStackFor(t, Config{TCP: accepting(func(c net.Conn) {
		defer c.Close()
		got, err := io.ReadAll(c)
		if err != nil {
			t.Errorf("read to the end of the guest's direction: %v", err)
		}
		c.Write(append([]byte("got "), got...))
		c.(interface{ CloseWrite() error }).CloseWrite()
	})})
	c := mustDial(t, newGuest(t, s), web)
	io.WriteString(c, "question")
	c.(interface{ CloseWrite() error }).CloseWrite()
	got, err := io.ReadAll(c)
	if string(got) != "got question" || err != nil {
		t.Errorf("the guest read %q, %v; want the answer, nil", got, err)
	}
}

func TestAbort(t *testing.T) {
	checkGoroutines(t)
	accepted := make(chan net.Conn, 1)
	s := newStackFor(t, Config{TCP: accepting(func(c net.Conn) { accepted <- c })})
	c := mustDial(t, newGuest(t, s), web)
	ours := <-accepted
	io.WriteString(ours, "the guest need not get this")
	Abort(ours)
	Abort(ours) // may be called again
	if _, err := io.ReadAll(c); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("the guest's read = %v; want connection reset", err)
	}
	waitFor(t, "free slots after Abort", func() bool { return s.conns.taken() == 0 && s.cfg.Budget.Used() == 0 })
	if _, err := ours.Read(make([]byte, 1)); err == nil {
		t.Error("read after Abort = nil; want an error")
	}
}

// A guest may use a port again at once for the same host, though we ended the
// first connection.
func TestPortAgain(t *testing.T) {
	checkGoroutines(t)
	s := newStackFor(t, Config{TCP: accepting(func(c net.Conn) { c.Close() })})
	g := newGuest(t, s)
	for i := range 3 {
		// Less than the second after which the guest repeats its SYN.
		ctx, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond)
		c, err := gonet.DialTCPWithBind(ctx, g.stack, fullAddress(netip.AddrPortFrom(Guest, 5000)), fullAddress(web), ipv4.ProtocolNumber)
		cancel()
		if err != nil {
			t.Fatalf("connection %d from one port: %v", i, err)
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read = %v; want EOF", err)
		}
		c.Close()
		waitFor(t, "end of the connection", func() bool { return s.conns.taken() == 0 && len(g.stack.RegisteredEndpoints()) == 0 })
	}
}

func TestMaxConns(t *testing.T) {
	checkGoroutines(t)
	refused := make(chan link.Refusal, 1)
	s := newStackFor(t, Config{
		TCP:      accepting(func(c net.Conn) { io.Copy(io.Discard, c); c.Close() }),
		Refused:  func(r link.Refusal) { refused <- r },
		MaxConns: 2,
	})
	g := newGuest(t, s)
	first := mustDial(t, g, web)
	mustDial(t, g, web)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := g.dial(ctx, web); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("dial beyond MaxConns = %v; want connection refused", err)
	}
	if r := <-refused; r.Kind != KindConns || r.Dst != web {
		t.Errorf("refused %+v; want %q, %v", r, KindConns, web)
	}
	first.Close()
	waitFor(t, "the first connection's slot", func() bool { return s.conns.taken() < 2 })
	mustDial(t, g, web)
}

// Beyond a few, connections have small buffers, which still carry data well.
func TestManyConns(t *testing.T) {
	checkGoroutines(t)
	var last atomic.Pointer[conn]
	b := budget.New(budget.Default)
	s := newStackFor(t, Config{Budget: b, TCP: accepting(func(c net.Conn) {
		last.Store(c.(*conn))
		io.CopyBuffer(struct{ io.Writer }{c}, c, make([]byte, chunk))
		c.Close()
	})})
	g := newGuest(t, s)
	for i, want := range sizes {
		// As if others had taken all but what this size asks for.
		taken := budget.Default - b.Used() - want.spare - want.cost
		b.Take(taken, 0)
		c := mustDial(t, g, web)
		const bytes = 16 << 20
		start := time.Now()
		if got, want := exchange(t, c, bytes, 1), digest(bytes, 1); got != want {
			t.Errorf("echo: digest %x; want %x", got, want)
		}
		t.Logf("size %d: an echo of %d MiB took %v", i, bytes>>20, time.Since(start))
		o := last.Load().ep.SocketOptions()
		if r, s := o.GetReceiveBufferSize(), o.GetSendBufferSize(); r != want.receive || s != want.send {
			t.Errorf("size %d has buffers of %d and %d bytes; want %d and %d", i, s, r, want.send, want.receive)
		}
		b.Give(taken)
		c.Close()
		waitFor(t, "end of the connection", func() bool { return b.Used() == 0 })
	}
	b.Take(budget.Default-budget.Reserve, 0)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := g.dial(ctx, web); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("dial without any budget = %v; want connection refused", err)
	}
}

// A host that sends byte by byte to a guest that does not read fills no memory, and what it
// sent arrives.
func TestSmallWrites(t *testing.T) {
	checkGoroutines(t)
	const bytes = 20_000
	s := newStackFor(t, Config{TCP: accepting(func(c net.Conn) {
		defer c.Close()
		for i := range bytes {
			if _, err := c.Write([]byte{byte(i)}); err != nil {
				t.Error(err)
				return
			}
		}
	})})
	var wq waiter.Queue
	g := newGuest(t, s)
	ep, terr := g.stack.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, &wq)
	if terr != nil {
		t.Fatal(terr)
	}
	ep.SocketOptions().SetReceiveBufferSize(16<<10, true)
	before := heapInUse()
	if terr := ep.Connect(fullAddress(web)); terr != nil {
		if _, ok := terr.(*tcpip.ErrConnectStarted); !ok {
			t.Fatal(terr)
		}
	}
	c := gonet.NewTCPConn(&wq, ep)
	defer c.Close()
	time.Sleep(time.Second)
	if grown := int64(heapInUse()) - int64(before); grown > 2<<20 {
		t.Errorf("%d KiB are held for a guest that does not read; want at most 2 MiB", grown>>10)
	} else {
		t.Logf("%d KiB are held", grown>>10)
	}
	c.SetDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(c)
	if len(got) != bytes || err != nil {
		t.Fatalf("%d bytes arrive, %v; want %d", len(got), err, bytes)
	}
	for i, b := range got {
		if b != byte(i) {
			t.Fatalf("byte %d is %d; want %d", i, b, byte(i))
		}
	}
}

// A reset is told also while nobody reads, and a deadline ends a small write that waits.
func TestReset(t *testing.T) {
	checkGoroutines(t)
	reset, expired := make(chan bool), make(chan error, 1)
	s := newStackFor(t, Config{TCP: accepting(func(c net.Conn) {
		defer c.Close()
		OnReset(c, func() { close(reset) })
		c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		for {
			if _, err := c.Write([]byte("x")); err != nil {
				expired <- err
				break
			}
		}
		<-reset
	})})
	g := newGuest(t, s)
	c := mustDial(t, g, web)
	if err := <-expired; !errors.Is(err, os.ErrDeadlineExceeded) {
		if netErr, ok := errors.AsType[net.Error](err); !ok || !netErr.Timeout() {
			t.Errorf("a write after its deadline: %v; want a timeout", err)
		}
	}
	for _, ep := range g.stack.RegisteredEndpoints() {
		ep.Abort()
	}
	select {
	case <-reset:
	case <-time.After(patience):
		t.Error("nobody is told of the reset")
		close(reset)
	}
	c.Close()
}

// waitFor polls for what happens in a moment and tells nobody.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s in %v", what, patience)
		}
	}
}

// synFrame is a raw SYN from the guest's port.
func synFrame(port uint16, dst netip.AddrPort) []byte {
	f := ipFrame(header.TCPProtocolNumber, dst.Addr(), header.TCPMinimumSize)
	h := header.TCP(f[34:])
	h.Encode(&header.TCPFields{
		SrcPort: port, DstPort: dst.Port(), SeqNum: 1000, DataOffset: header.TCPMinimumSize,
		Flags: header.TCPFlagSyn, WindowSize: 65535,
	})
	return f
}

// Tens of thousands of attempts, of which many are never answered, cost neither
// memory nor later connections.
func TestSYNFlood(t *testing.T) {
	checkGoroutines(t)
	for name, decide := range map[string]func(context.Context, *Attempt){
		"rejected": func(_ context.Context, a *Attempt) { a.Reject() },
		"accepted": accepting(func(c net.Conn) { c.Close() }),
	} {
		t.Run(name, func(t *testing.T) {
			s := newStackFor(t, Config{TCP: func(ctx context.Context, a *Attempt) {
				if a.Dst != web {
					decide(ctx, a)
					return
				}
				accepting(func(c net.Conn) { io.WriteString(c, "ok"); c.Close() })(ctx, a)
			}})
			s.handshake = 100 * time.Millisecond
			ours, vmm := socketpair(t)
			s.Attach(ours)
			before := heapInUse()
			flood(t, vmm, 20_000)
			waitFor(t, "end of the attempts", func() bool { return s.conns.taken() == 0 })
			// What ends may take a moment to let go of its memory.
			waitFor(t, "heap of at most 8 MiB more than before the flood", func() bool { return int64(heapInUse())-int64(before) <= 8<<20 })
			got, err := io.ReadAll(mustDial(t, newGuest(t, s), web))
			if string(got) != "ok" || err != nil {
				t.Errorf("after the flood the guest read %q, %v; want ok, nil", got, err)
			}
		})
	}
}

// flood sends n SYNs, none to web, and returns when the stack has seen them.
func flood(t *testing.T, vmm net.Conn, n int) {
	t.Helper()
	vmm.SetDeadline(time.Now().Add(patience))
	pong := make(chan error, 1)
	go func() { // a guest that answers nothing
		for {
			frame, err := readFrame(vmm)
			if err != nil || frame[23] == uint8(header.ICMPv4ProtocolNumber) {
				pong <- err
				return
			}
		}
	}()
	for i := range n {
		dst := netip.AddrPortFrom(web.Addr(), uint16(1+i%100))
		if err := writeFrame(vmm, synFrame(uint16(1024+i), dst)); err != nil {
			t.Fatal(err)
		}
	}
	// The answer to this comes after all that was sent before. It may be
	// lost while others wait, so repeat it.
	for {
		writeFrame(vmm, pingFrame())
		select {
		case err := <-pong:
			if err != nil {
				t.Fatal(err)
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// A program in the guest that reads nothing stops neither who ends its connection
// nor Close.
func TestGuestStopsReading(t *testing.T) {
	checkGoroutines(t)
	accepted := make(chan net.Conn, 1)
	s := newStackFor(t, Config{TCP: accepting(func(c net.Conn) { accepted <- c })})
	g := newGuest(t, s)
	mustDial(t, g, web)
	c := <-accepted
	// The guest's window fills, and then our buffer.
	c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	n, err := c.Write(make([]byte, 64<<20))
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("write of 64 MiB to a guest that does not read = %d, %v; want a time-out", n, err)
	}
	Abort(c)
}

// A VMM that stands still reads nothing at all.
func TestVMMStopsReading(t *testing.T) {
	checkGoroutines(t)
	s := newStackFor(t, Config{Datagram: func(_ context.Context, _, _ netip.AddrPort, p []byte) ([]byte, bool) {
		return p, true
	}})
	ours, vmm := socketpair(t)
	s.Attach(ours)
	before := heapInUse()
	question := udpFrame(netip.AddrPortFrom(Gateway, 53), make([]byte, MaxDatagram))
	for range 20_000 { // 80 MB of answers
		if err := writeFrame(vmm, question); err != nil {
			t.Fatal(err)
		}
	}
	if grown := int64(heapInUse()) - int64(before); grown > 16<<20 {
		t.Errorf("%d KiB more in use; want at most 16 MiB", grown>>10)
	}
	s.Close()
}

// A machine's next VMM has a new guest, which knows no old connections.
func TestAttachAgain(t *testing.T) {
	checkGoroutines(t)
	accepted := make(chan net.Conn, 1)
	s := newStackFor(t, Config{TCP: accepting(func(c net.Conn) { accepted <- c })})
	mustDial(t, newGuest(t, s), web)
	old := <-accepted
	g := newGuest(t, s)
	if _, err := old.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("read of the old guest's connection = %v; want an error", err)
	}
	mustDial(t, g, web)
	(<-accepted).Close()
}

// Close ends what waits: callbacks, handshakes and reads.
func TestClose(t *testing.T) {
	checkGoroutines(t)
	called := make(chan string, 3)
	s := New(Config{TCP: func(ctx context.Context, a *Attempt) {
		switch a.Dst.Port() {
		case 1:
			called <- "undecided"
			<-ctx.Done()
		case 2:
			called <- "in a handshake"
			a.Accept()
		case 3:
			c, err := a.Accept()
			if err != nil {
				t.Errorf("Accept() = %v", err)
				return
			}
			called <- "reading"
			c.Read(make([]byte, 1))
		}
	}})
	g := newGuest(t, s)
	mustDial(t, g, netip.AddrPortFrom(web.Addr(), 3))
	for _, port := range []uint16{1, 2} { // beside g's back, which answers with RST only later
		writeFrame(g.vmm, synFrame(9, netip.AddrPortFrom(web.Addr(), port)))
	}
	for range 3 {
		<-called
	}
	start := time.Now()
	s.Close()
	s.Close()
	if d := time.Since(start); d > handshakeTimeout/2 {
		t.Errorf("Close() took %v; want no time", d)
	}
	ours, vmm := socketpair(t)
	s.Attach(ours)
	if _, err := vmm.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read after Attach to a closed stack = %v; want EOF", err)
	}
}

// 300 MB arrive as they were sent, in both directions at once.
func TestIntegrity(t *testing.T) {
	checkGoroutines(t)
	size := int64(150 << 20) // each way
	if testing.Short() {
		size = 8 << 20
	}
	s := newStackFor(t, Config{TCP: accepting(func(c net.Conn) {
		defer c.Close()
		got := exchange(t, c, size, 1)
		if want := digest(size, 2); got != want {
			t.Errorf("from the guest: digest %x; want %x", got, want)
		}
	})})
	c := mustDial(t, newGuest(t, s), web)
	if got, want := exchange(t, c, size, 2), digest(size, 1); got != want {
		t.Errorf("to the guest: digest %x; want %x", got, want)
	}
	t.Logf("%d retransmissions", s.stack.Stats().TCP.Retransmits.Value())
}

// exchange sends size bytes that follow from seed, and returns the digest of
// all that comes.
func exchange(t *testing.T, c net.Conn, size int64, seed byte) [sha256.Size]byte {
	done := make(chan error, 1)
	go func() {
		_, err := io.CopyBuffer(struct{ io.Writer }{c}, io.LimitReader(&counter{next: seed}, size), make([]byte, 100_001))
		c.(interface{ CloseWrite() error }).CloseWrite()
		done <- err
	}()
	h := sha256.New()
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{c}, make([]byte, 128<<10)); err != nil {
		t.Errorf("receive: %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("send: %v", err)
	}
	return sum(h)
}

func digest(size int64, seed byte) [sha256.Size]byte {
	h := sha256.New()
	io.CopyBuffer(h, io.LimitReader(&counter{next: seed}, size), make([]byte, 64<<10))
	return sum(h)
}

func sum(h hash.Hash) [sha256.Size]byte { return [sha256.Size]byte(h.Sum(nil)) }

// counter is an endless sequence in which no two long stretches are alike.
type counter struct {
	next byte
	n    uint32
}

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		c.n++
		if c.n%251 == 0 {
			c.next += byte(c.n >> 12)
		}
		c.next++
		p[i] = c.next
	}
	return len(p), nil
}
