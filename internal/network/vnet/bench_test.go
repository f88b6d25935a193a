package vnet

import (
	"context"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The network of an idle machine is part of its price (SPECIFICATION.md).
func TestIdle(t *testing.T) {
	before := inUse()
	s := newStackFor(t, Config{})
	ours, _ := socketpair(t)
	start := time.Now()
	s.Attach(ours)
	t.Logf("Attach took %v", time.Since(start))
	used := int64(inUse()) - int64(before)
	t.Logf("an idle network uses %d KiB of heap and stacks", used>>10)
	if used > 4<<20 {
		t.Errorf("an idle network uses %d KiB; want at most 4 MiB", used>>10)
	}
}

func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// BenchmarkStart measures what a network adds to the start of a machine.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		ours, vmm := socketpair(b)
		b.StartTimer()
		s := New(Config{})
		s.Attach(ours)
		b.StopTimer()
		s.Close()
		vmm.Close()
		b.StartTimer()
	}
}

const chunk = 128 << 10 // bytes in a Read or Write, as who splices does it

// BenchmarkUp is from the guest; both ends of the wire run here, and share the
// CPUs.
func BenchmarkUp(b *testing.B) {
	done := make(chan bool)
	s := newStackFor(b, Config{TCP: accepting(func(c net.Conn) {
		io.CopyBuffer(struct{ io.Writer }{io.Discard}, c, make([]byte, chunk))
		c.Close()
		close(done)
	})})
	c := mustDial(b, newGuest(b, s), web)
	benchmarkWrites(b, c)
	<-done
	b.ReportMetric(float64(s.stack.Stats().TCP.Retransmits.Value()), "retransmits")
}

// BenchmarkDown is to the guest.
func BenchmarkDown(b *testing.B) {
	accepted := make(chan net.Conn, 1)
	s := newStackFor(b, Config{TCP: accepting(func(c net.Conn) { accepted <- c })})
	c := mustDial(b, newGuest(b, s), web)
	done := make(chan bool)
	go func() {
		io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, chunk))
		close(done)
	}()
	benchmarkWrites(b, <-accepted)
	<-done
	b.ReportMetric(float64(s.stack.Stats().TCP.Retransmits.Value()), "retransmits")
}

// BenchmarkDownMany is to the guest on 32 connections at once, which have more
// under way than the link's queue holds.
func BenchmarkDownMany(b *testing.B) {
	const conns = 32
	accepted := make(chan net.Conn, conns)
	s := newStackFor(b, Config{TCP: accepting(func(c net.Conn) { accepted <- c })})
	g := newGuest(b, s)
	var readers, writers sync.WaitGroup
	for range conns {
		c := mustDial(b, g, web)
		readers.Go(func() {
			io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, chunk))
		})
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	b.SetBytes(chunk)
	b.ResetTimer()
	for range conns {
		c := <-accepted
		writers.Go(func() {
			for buf := make([]byte, chunk); left.Add(-1) >= 0; {
				c.Write(buf)
			}
			c.Close()
		})
	}
	writers.Wait()
	readers.Wait()
	b.ReportMetric(float64(s.stack.Stats().TCP.Retransmits.Value()), "retransmits")
}

func benchmarkWrites(b *testing.B, c net.Conn) {
	buf := make([]byte, chunk)
	b.SetBytes(chunk)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	c.Close()
}

// BenchmarkConnect is a whole connection with one byte in each direction.
func BenchmarkConnect(b *testing.B) {
	s := newStackFor(b, Config{TCP: accepting(func(c net.Conn) {
		io.ReadFull(c, make([]byte, 1))
		c.Write([]byte{1})
		c.Close()
	}), MaxConns: 1 << 20})
	g := newGuest(b, s)
	for b.Loop() {
		c, err := g.dial(context.Background(), web)
		if err != nil {
			b.Fatal(err)
		}
		c.Write([]byte{1})
		io.ReadFull(c, make([]byte, 1))
		c.Close()
	}
}
