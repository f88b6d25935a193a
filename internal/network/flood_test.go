package network

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/budget"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// deaf is a service of this computer that takes connections and reads nothing.
func deaf(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
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
			conn.(*net.TCPConn).SetReadBuffer(4 << 10)
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
// machine gets no more of them.
func uploads(t *testing.T, n *Network, k *kernel, port uint16) (to netip.AddrPort, count int) {
	t.Helper()
	to = netip.AddrPortFrom(n.names.Pool.Addr(plan.HostName), port)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		conn, err := k.dial(ctx, to)
		cancel()
		if err != nil {
			return to, count
		}
		if count++; count > MaxConns {
			t.Fatal("there is no end of connections")
		}
		go io.Copy(conn, zeros{})
	}
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
	_, count := uploads(t, n, k, port)
	if count < 10 {
		t.Fatalf("%d connections; want some more", count)
	}
	for _, ep := range k.stack.RegisteredEndpoints() {
		ep.Abort()
	}
	for deadline := time.Now().Add(5 * time.Second); b.Used() > 0; time.Sleep(5 * time.Millisecond) {
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
	to, count := uploads(t, n, k, port)
	time.Sleep(blockedTime)
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		conn, err := k.dial(ctx, to)
		cancel()
		if err != nil {
			t.Fatalf("a connection after %d that are blocked: %v", count, err)
		}
		defer conn.Close()
	}
}
