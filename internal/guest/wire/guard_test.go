package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/hashicorp/yamux"
)

func muxFrame(kind byte, flags uint16, stream, length uint32, body ...byte) []byte {
	b := []byte{0, kind}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	b = binary.BigEndian.AppendUint32(b, length)
	return append(b, body...)
}

const (
	muxPing = 2
	muxAck  = 2 // flags
	muxFin  = 4
	muxRst  = 8
)

func guarded(r io.Reader) io.Reader { return &frames{r: bufio.NewReader(r), check: guard} }

func TestGuardPasses(t *testing.T) {
	var in []byte
	for _, frame := range [][]byte{
		muxFrame(muxWindow, muxAck, 1, 1<<20-256<<10),
		muxFrame(muxData, 0, 1, 5, 0, muxPing, 0, muxSyn, 'x'), // a body like a header
		muxFrame(muxData, muxFin, 1, 0),
		muxFrame(muxData, 0, 3, 3000, make([]byte, 3000)...),
		muxFrame(muxWindow, muxRst, 3, 0),
		muxFrame(muxGoAway, 0, 0, 0),
	} {
		in = append(in, frame...)
	}
	if err := iotest.TestReader(guarded(bytes.NewReader(in)), in); err != nil {
		t.Error(err)
	}
	for name, r := range map[string]io.Reader{
		"byte by byte":      iotest.OneByteReader(bytes.NewReader(in)),
		"data with the end": iotest.DataErrReader(bytes.NewReader(in)),
	} {
		got, err := io.ReadAll(guarded(r))
		if err != nil || !bytes.Equal(got, in) {
			t.Errorf("%s: %d bytes, %v; want the same %d, nil", name, len(got), err, len(in))
		}
	}
}

func TestGuardRefuses(t *testing.T) {
	for name, frame := range map[string][]byte{
		"a new stream":                muxFrame(muxWindow, muxSyn, 2, 0),
		"a new stream with data":      muxFrame(muxData, muxSyn, 2, 1, 'x'),
		"a new stream among flags":    muxFrame(muxWindow, math.MaxUint16, 2, 0),
		"a ping":                      muxFrame(muxPing, muxSyn, 0, 1),
		"an answer to no ping":        muxFrame(muxPing, muxAck, 0, 1),
		"an unknown type":             muxFrame(4, 0, 0, 0),
		"another version":             append([]byte{1}, muxFrame(muxData, 0, 1, 0)[1:]...),
		"data larger than any window": muxFrame(muxData, 0, 1, MaxWindow+1),
		"data of 4 GiB":               muxFrame(muxData, 0, 1, math.MaxUint32),
		"half a header":               muxFrame(muxData, 0, 1, 0)[:7],
		"a mark":                      appendMark(nil, markSyn, [nonceLen]byte{}),
	} {
		good := muxFrame(muxData, 0, 1, 2, 'o', 'k')
		got, err := io.ReadAll(guarded(bytes.NewReader(append(bytes.Clone(good), frame...))))
		if err == nil || !bytes.Equal(got, good) {
			t.Errorf("%s: passed on %q, %v; want what was before it and an error", name, got, err)
		}
	}
}

// A guest that does not read and sends what would cost memory ends its own
// conversation, and all who wait for it.
func TestHostileGuest(t *testing.T) {
	const many = 100_000
	for name, frame := range map[string]func(i uint32) []byte{
		"pings":        func(i uint32) []byte { return muxFrame(muxPing, muxSyn, 0, i) },
		"streams":      func(i uint32) []byte { return muxFrame(muxWindow, muxSyn, 2*i+2, 0) },
		"stream 0":     func(uint32) []byte { return muxFrame(muxWindow, muxSyn, 0, 0) },
		"host streams": func(i uint32) []byte { return muxFrame(muxWindow, muxSyn, 2*i+1, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			host, guest := socketPair(t)
			session, err := newClient(host, guarded(host))
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			stream, err := session.Open()
			if err != nil {
				t.Fatal(err)
			}
			for i := range uint32(many) {
				if _, err := guest.Write(frame(i)); err != nil {
					break
				}
			}
			if _, err := stream.Read(make([]byte, 1)); err == nil {
				t.Error("a stream goes on; want the session's end")
			}
			select {
			case <-session.CloseChan():
			case <-time.After(time.Minute):
				t.Fatal("the session goes on")
			}
			checkGoroutines(t, before)
		})
	}
}

// What a guest sends on a stream that the host opened is bounded by a window,
// also when the host does not read it.
func TestReceiveWindow(t *testing.T) {
	host, guest := socketPair(t)
	session, err := newClient(host, guarded(host))
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	stream, err := session.Open()
	if err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, guest)
	guest.Write(muxFrame(muxWindow, muxAck, 1, math.MaxUint32)) // more than 32 bits in all
	sent := 0
	for body := make([]byte, MaxFrame); ; sent += len(body) {
		if _, err := guest.Write(muxFrame(muxData, 0, 1, uint32(len(body)), body...)); err != nil {
			break
		}
		if sent > 64<<20 {
			t.Fatal("the host takes what nobody reads without end")
		}
	}
	if _, err := stream.Write([]byte("x")); err == nil {
		t.Error("Write() = nil after the session's end; want an error")
	}
}

// A guest that stops reading blocks who writes to it only until the session is
// closed.
func TestCloseUnblocks(t *testing.T) {
	before := runtime.NumGoroutine()
	pipe, _ := net.Pipe()
	host := &noticed{Conn: pipe, written: make(chan struct{})}
	session, err := newClient(host, guarded(host))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	blocked := make(chan struct{}, 3)
	for range cap(blocked) {
		wg.Go(func() {
			stream, err := session.Open()
			if err == nil {
				_, err = stream.Write(make([]byte, 8<<20))
			}
			if err == nil {
				t.Error("8 MiB were written to nobody")
			}
			blocked <- struct{}{}
		})
	}
	<-host.written // and never read
	if len(blocked) > 0 {
		t.Error("a write ended before the session")
	}
	session.Close()
	wg.Wait()
	checkGoroutines(t, before)
}

// noticed tells of its first write before that.
type noticed struct {
	net.Conn
	once    sync.Once
	written chan struct{}
}

func (n *noticed) Write(p []byte) (int, error) {
	n.once.Do(func() { close(n.written) })
	return n.Conn.Write(p)
}

// FuzzSession plays a guest that says anything to a host with streams open.
// Nothing may panic, and everything must end when the guest does.
func FuzzSession(f *testing.F) {
	for _, frames := range [][][]byte{
		{muxFrame(muxWindow, muxAck, 1, 786432), muxFrame(muxWindow, muxAck, 3, 786432), muxFrame(muxData, 0, 1, 2, 'h', 'i'), muxFrame(muxData, muxFin, 1, 0)},
		{muxFrame(muxWindow, muxAck, 1, math.MaxUint32), muxFrame(muxWindow, muxAck, 1, math.MaxUint32)},
		{muxFrame(muxWindow, muxRst, 1, 0), muxFrame(muxData, muxAck|muxFin, 1, 1, 'x')},
		{muxFrame(muxData, muxFin, 1, 1, 'x'), muxFrame(muxData, muxFin, 1, 1, 'x')},
		{muxFrame(muxGoAway, 0, 0, 0), muxFrame(muxData, 0, 3, 4, 'x', 'y', 'z', 0)},
		{muxFrame(muxData, 0, 0, 3, 'x', 'y', 'z'), muxFrame(muxWindow, muxSyn, 0, 0)},
		{muxFrame(muxData, muxAck, 1, 262144, make([]byte, 262144)...), muxFrame(muxData, 0, 1, 1, 'x')},
	} {
		f.Add(bytes.Join(frames, nil))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		opened := make(chan struct{})
		port := &script{Reader: bytes.NewReader(in), ready: opened, closed: make(chan struct{})}
		session, err := newClient(port, guarded(port))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 2 {
			stream, err := session.Open()
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				stream.Write([]byte("hello"))
				io.Copy(io.Discard, stream)
				stream.Close()
			})
		}
		close(opened)
		<-port.closed
		wg.Wait()
		if _, err := session.Open(); !errors.Is(err, yamux.ErrSessionShutdown) && !errors.Is(err, yamux.ErrRemoteGoAway) {
			t.Errorf("Open() after the end = %v; want %v", err, yamux.ErrSessionShutdown)
		}
	})
}

// script is a port whose guest says what Reader has once ready is closed, and
// then is gone.
type script struct {
	io.Reader
	ready  <-chan struct{}
	once   sync.Once
	closed chan struct{}
}

func (s *script) Read(p []byte) (int, error) {
	<-s.ready
	return s.Reader.Read(p)
}
func (s *script) Write(p []byte) (int, error) { return len(p), nil }
func (s *script) Close() error                { s.once.Do(func() { close(s.closed) }); return nil }
