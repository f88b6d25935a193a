package network

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/intercept"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// newNetwork makes a network that ends with t, and returns the path of its record.
func newNetwork(t *testing.T, p plan.Network) (*Network, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit")
	log, err := audit.Open(path, "m")
	if err != nil {
		t.Fatal(err)
	}
	n, err := New(Config{Plan: p, Audit: log, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Close()
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return n, path
}

// echo is a guest whose ports below 1000 say back what they hear, with its end. Somebody
// listens on those that it was told.
type echo struct {
	mu        sync.Mutex
	listening []int
	changed   chan struct{} // closed by the next change
}

func newEcho(listening ...int) *echo {
	return &echo{listening: listening, changed: make(chan struct{})}
}

func (e *echo) listen(ports ...int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listening = ports
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *echo) Watch(ctx context.Context, _ []int, seen func([]int)) error {
	for {
		e.mu.Lock()
		now, changed := e.listening, e.changed
		e.mu.Unlock()
		if slices.Contains(now, 0) {
			return errors.New("the guest broke off")
		}
		seen(now)
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (*echo) Connect(_ context.Context, port int) (net.Conn, error) {
	if port >= 1000 {
		return nil, fmt.Errorf("nobody listens on port %d", port)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		conn, err := l.Accept()
		l.Close() // not before: who waits to be accepted would be reset
		if err != nil {
			return
		}
		defer conn.Close()
		io.Copy(conn, conn)
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		l.Close()
	}
	return conn, err
}

// until waits for a connection to the port to be what it is to be.
func until(t *testing.T, addr string, port int, accepted bool) {
	t.Helper()
	var err error
	for range 1000 {
		var conn net.Conn
		if conn, err = net.Dial("tcp", net.JoinHostPort(addr, fmt.Sprint(port))); err == nil {
			conn.Close()
		}
		if accepted && err == nil || !accepted && errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("a connection to port %d of %s: %v; want it accepted: %t", port, addr, err, accepted)
}

// A port accepts connections while somebody listens in the guest, and refuses them
// otherwise, so that who waits for a service does not take it for up.
func TestPortsRefuse(t *testing.T) {
	n, _ := newNetwork(t, plan.Network{Mode: plan.NetworkNone, Ports: []plan.Port{{Address: "127.0.0.1", GuestPort: 80}}})
	guest := newEcho()
	if err := n.Publish(guest); err != nil {
		t.Fatal(err)
	}
	port := n.Ports()[0].HostPort
	until(t, "127.0.0.1", port, false)
	guest.listen(80, 80, 99999, -1)
	until(t, "127.0.0.1", port, true)
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil {
		until(t, "::1", port, true)
		// A port of another program's there is left to it, and that is said.
		var half []int
		n.half = func(p plan.Port) { half = append(half, p.HostPort) }
		other := l.Addr().(*net.TCPAddr).Port
		_, err := n.OpenPort(plan.Port{Address: "127.0.0.1", HostPort: other, GuestPort: 82})
		if err == nil {
			err = n.ClosePort(other)
		}
		if fault.CodeOf(err) != fault.PortTaken && (err != nil || !slices.Equal(half, []int{other})) {
			t.Errorf("a port that another program has on ::1: %v, told of %v", err, half)
		}
		l.Close()
	}
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	hear := func() {
		t.Helper()
		io.WriteString(conn, "hi")
		if _, err := io.ReadFull(conn, make([]byte, 2)); err != nil {
			t.Errorf("a connection that was made: %v", err)
		}
	}
	hear()
	guest.listen(81)
	until(t, "127.0.0.1", port, false)
	// What is connected stays, and the port is still the machine's.
	hear()
	if _, err := n.OpenPort(plan.Port{Address: "127.0.0.1", HostPort: port, GuestPort: 81}); fault.CodeOf(err) != fault.PortTaken {
		t.Errorf("a port that refuses: %v; want it taken", err)
	}
	// A port that is opened while somebody listens is there at once.
	second, err := n.OpenPort(plan.Port{Address: "127.0.0.1", GuestPort: 81})
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", second.HostPort)); err != nil {
		t.Errorf("a port that was opened: %v", err)
	} else {
		conn.Close()
	}
	guest.listen(0) // breaks off
	until(t, "127.0.0.1", second.HostPort, false)
	guest.listen(80)
	until(t, "127.0.0.1", port, true)
	if err := n.ClosePort(port); err != nil {
		t.Error(err)
	}
	until(t, "127.0.0.1", port, false)
}

// A guest that begins and ends to listen again and again holds nothing of ours, also while
// there are as many connections as there may be.
func TestPortsFlap(t *testing.T) {
	n, _ := newNetwork(t, plan.Network{Mode: plan.NetworkNone, Ports: []plan.Port{{Address: "127.0.0.1", GuestPort: 80}}})
	guest := newEcho()
	if err := n.Publish(guest); err != nil {
		t.Fatal(err)
	}
	port := n.Ports()[0].HostPort
	n.mu.Lock()
	for _, p := range n.ports {
		for range cap(p.slots) {
			p.slots <- struct{}{}
		}
	}
	n.mu.Unlock()
	flap := func(times int) int {
		for range times {
			guest.listen(80)
			until(t, "127.0.0.1", port, true)
			guest.listen()
			until(t, "127.0.0.1", port, false)
		}
		return runtime.NumGoroutine()
	}
	const times = 20
	before := flap(2)
	if after := flap(times); after > before+times {
		t.Errorf("%d goroutines, and after %d changes %d", before, times, after)
	}
	if err := n.ClosePort(port); err != nil {
		t.Error(err)
	}
}

// short is a listener for which there are too many files open at first.
type short struct {
	net.Listener
	failures atomic.Int64
}

func (l *short) Accept() (net.Conn, error) {
	if l.failures.Add(-1) >= 0 {
		return nil, syscall.EMFILE
	}
	return l.Listener.Accept()
}

// A port that could not accept a connection accepts the next.
func TestPortsShort(t *testing.T) {
	n, _ := newNetwork(t, plan.Network{Mode: plan.NetworkNone})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	few := &short{Listener: l}
	few.failures.Store(3)
	shut, done := make(chan struct{}), make(chan struct{})
	p := &published{Port: plan.Port{GuestPort: 80}, slots: make(chan struct{}, 1)}
	go func() {
		defer close(done)
		n.servePort(few, shut, p, newEcho())
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(conn, "hi")
	if _, err := io.ReadFull(conn, make([]byte, 2)); err != nil {
		t.Errorf("a connection after those that were too many: %v", err)
	}
	conn.Close()
	close(shut)
	l.Close()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("it is served after its end")
	}
}

func TestPorts(t *testing.T) {
	n, path := newNetwork(t, plan.Network{Mode: plan.NetworkNone, Ports: []plan.Port{{Address: "127.0.0.1", GuestPort: 80}}})
	if _, err := n.OpenPort(plan.Port{Address: "127.0.0.1", GuestPort: 80}); err == nil {
		t.Error("a port is open before there is a guest")
	}
	if err := n.Publish(newEcho(80, 1000)); err != nil {
		t.Fatal(err)
	}
	first := n.Ports()
	if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", first[0].HostPort)); err != nil {
		t.Errorf("when it is published: %v; want a connection, since the guest listens", err)
	} else {
		conn.Close()
	}
	if len(first) != 1 || first[0].HostPort == 0 {
		t.Fatalf("Ports() = %+v; want the one of the plan", first)
	}
	for _, half := range []bool{true, false} {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", first[0].HostPort))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "hello")
		if half {
			conn.(*net.TCPConn).CloseWrite()
			if got, err := io.ReadAll(conn); string(got) != "hello" || err != nil {
				t.Errorf("the port answers %q, %v; want what it was told, and its end", got, err)
			}
		}
		conn.Close()
	}
	_, err := n.OpenPort(first[0])
	if fault.CodeOf(err) != fault.PortTaken || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("a port that is taken: %v, %q; want that", err, fault.CodeOf(err))
	}
	closed, err := n.OpenPort(plan.Port{Address: "127.0.0.1", GuestPort: 1000})
	if err != nil {
		t.Fatal(err)
	}
	// Nobody listens in the guest: it looks as if nobody did here.
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", closed.HostPort))
	if err == nil {
		conn.SetDeadline(time.Now().Add(time.Minute))
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a port on which nobody listens: %v; want the end", err)
		}
		conn.Close()
	}
	if err := n.ClosePort(closed.HostPort); err != nil {
		t.Error(err)
	}
	if err := n.ClosePort(closed.HostPort); err == nil {
		t.Error("a port can be closed twice")
	}
	var opened int
	if err := audit.Read(path, func(e audit.Event) error {
		if e.Kind == audit.Port {
			opened++
		}
		return nil
	}); err != nil || opened != 3 {
		t.Errorf("%d lines about ports, %v; want 3", opened, err)
	}
}

// What the owner of a machine says last holds.
func TestChanges(t *testing.T) {
	n, _ := newNetwork(t, plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressAllowlist, Allow: []plan.Rule{{Host: "a.example"}}})
	allowed := func(name string) bool { return n.Policy().Connect(name, 443).Allow }
	if !allowed("a.example") || allowed("b.example") {
		t.Fatal("the plan's policy is not in force")
	}
	n.Allow(plan.Rule{Host: "b.example"})
	n.Deny(plan.Rule{Host: "a.example"})
	if allowed("a.example") || !allowed("b.example") {
		t.Error("after allow b and deny a the old policy holds")
	}
	n.Allow(plan.Rule{Host: "a.example"})
	if !allowed("a.example") {
		t.Error("what was denied cannot be allowed again")
	}
	n.SetEgress(plan.EgressPublic)
	n.Deny(plan.Rule{Host: "c.example"})
	if !allowed("d.example") || allowed("c.example") {
		t.Error("egress public, with one host denied, is something else")
	}
	n.SetEgress(plan.EgressNone)
	if allowed("d.example") || !allowed("a.example") {
		t.Error("egress none leaves more, or less, than the rules")
	}
}

// A name is answered only if the machine may know it, and is then not looked up.
func TestKnows(t *testing.T) {
	n, path := newNetwork(t, plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressAllowlist, Allow: []plan.Rule{{Host: "a.example"}}})
	if err := n.knows(t.Context(), "a.example", "A"); err != nil {
		t.Error(err)
	}
	for _, question := range []string{"A", "AAAA", "TXT"} {
		if err := n.knows(t.Context(), "b.example", question); err == nil {
			t.Error("a name without a rule is known")
		}
	}
	if err := n.knows(t.Context(), plan.HostName, "A"); err == nil {
		t.Error("the host's name is known without a rule")
	}
	var names []string
	if err := audit.Read(path, func(e audit.Event) error {
		names = append(names, e.Name)
		return nil
	}); err != nil || strings.Join(names, " ") != "b.example "+plan.HostName {
		t.Errorf("recorded: %q, %v; want each name once", names, err)
	}
}

// What is denied is denied at its addresses, too, under whatever name.
func TestDeniedAddresses(t *testing.T) {
	n, _ := newNetwork(t, plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressPublic, Allow: []plan.Rule{{Host: "mine.example"}}})
	bad, other := netip.MustParseAddrPort("93.184.216.34:443"), netip.MustParseAddrPort("93.184.216.35:443")
	n.Deny(plan.Rule{Host: other.Addr().String()})
	n.mu.Lock()
	n.denied[bad.Addr()] = "bad.example" // as if it were looked up
	n.mu.Unlock()
	if why := n.forbid("evil.example", bad); why != "" {
		t.Errorf("before bad.example is denied: %q", why)
	}
	n.change("deny bad.example", func(_ *plan.Network, denied *[]plan.Rule) { *denied = append(*denied, plan.Rule{Host: "bad.example"}) })
	for name, want := range map[string]bool{"evil.example": true, "": true, "mine.example": false} {
		for _, to := range []netip.AddrPort{bad, other} {
			if why := n.forbid(name, to); (why != "") != want {
				t.Errorf("forbid(%q, %v) = %q; want %v", name, to, why, want)
			}
		}
	}
	if _, err := n.dialName(t.Context(), bad.Addr().String(), 443); !errors.Is(err, intercept.ErrDenied) {
		t.Errorf("dial the address of bad.example: %v; want it denied", err)
	}
	// A flow that is under way ends.
	f := &flow{network: n, name: "evil.example", dst: netip.MustParseAddrPort("198.18.0.9:443"), host: bad, cancel: func() {}}
	n.mu.Lock()
	n.flows[f] = struct{}{}
	n.mu.Unlock()
	n.cutDenied()
	n.mu.Lock()
	reason := f.reason
	delete(n.flows, f)
	n.mu.Unlock()
	const want = "cut: the address is that of bad.example, which is denied"
	if reason != want {
		t.Errorf("the flow ended with %q", reason)
	}
	// So does one whose host answers only now.
	f = &flow{network: n, name: "evil.example", dst: f.dst, cancel: func() {}}
	if f.reached(bad); f.reason != want {
		t.Errorf("a flow that came to the address later ended with %q", f.reason)
	}
}

// A host that is denied, and whose servers for names never answer, keeps no other from being
// denied at its addresses, and holds up only who connects first.
func TestDeniedWithoutAnswer(t *testing.T) {
	n, _ := newNetwork(t, plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressPublic})
	bad := netip.MustParseAddr("93.184.216.34")
	// Who connects and soon goes away is no reason not to ask again.
	gone, leave := context.WithCancel(t.Context())
	var asked atomic.Int64
	n.lookup = func(ctx context.Context, name string, _ bool) ([]netip.Addr, error) {
		if name == "bad.example" {
			return []netip.Addr{bad}, ctx.Err()
		}
		if asked.Add(1) == 2 {
			leave()
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for _, host := range []string{"silent.example", "quiet.example", "bad.example"} {
		n.change("deny "+host, func(_ *plan.Network, denied *[]plan.Rule) { *denied = append(*denied, plan.Rule{Host: host}) })
	}
	n.learnDenied(gone)
	n.learnDenied(t.Context())
	if why := n.forbid("other.example", netip.AddrPortFrom(bad, 443)); why == "" {
		t.Error("the address of bad.example is not denied")
	}
	begun := time.Now()
	n.learnDenied(t.Context())
	if took := time.Since(begun); took > deniedNamesTime/2 {
		t.Errorf("to look again took %v", took)
	}
	if got := asked.Load(); got != 4 {
		t.Errorf("hosts without an answer were asked for %d times; want 4", got)
	}
}

// A host whose certificate comes from an authority that only the user has added is
// believed. Others are read by the system's own way, and not before they are needed.
func TestRoots(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	cert := server.Certificate()
	a := plan.Authority{Subject: "test", Certificate: cert.Raw}
	system := a
	system.System = true
	if roots, err := rootsOf([]plan.Authority{system}); err != nil || roots != nil {
		t.Errorf("rootsOf one that the system has = %v, %v; want none", roots, err)
	}
	roots, err := rootsOf([]plan.Authority{system, a})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots}); err != nil {
		t.Error(err)
	}
	all, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	if all.AddCert(cert); !roots.Equal(all) {
		t.Error("the system's are not believed any more")
	}
	if _, err := rootsOf([]plan.Authority{{Subject: "bad", Certificate: []byte("x")}}); err == nil {
		t.Error("what is no certificate is believed")
	}
}
