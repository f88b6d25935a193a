package wire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/yamux"
	"golang.org/x/sys/unix"
)

// socketPair returns two connected sockets, which buffer as QEMU's do.
func socketPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	t.Cleanup(func() { conns[0].Close(); conns[1].Close() })
	return conns[0], conns[1]
}

// serveEcho is the guest's loop: a conversation after the other over one port,
// with streams that echo.
func serveEcho(port net.Conn) {
	r := bufio.NewReaderSize(port, MaxFrame)
	for {
		session, err := Accept(port, r, nil)
		if err != nil {
			return
		}
		for {
			stream, err := session.Accept()
			if err != nil {
				break
			}
			go func() {
				io.Copy(stream, stream)
				stream.Close()
			}()
		}
		session.Close()
	}
}

// startEcho runs serveEcho until the test ends.
func startEcho(t testing.TB, port net.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() { serveEcho(port) })
	t.Cleanup(func() {
		port.Close()
		wg.Wait()
	})
}

func dial(t testing.TB, port net.Conn) *yamux.Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	session, err := Dial(ctx, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session.Session
}

func checkEcho(t testing.TB, session *yamux.Session, n int) {
	t.Helper()
	stream, err := session.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	stream.SetDeadline(time.Now().Add(time.Minute))
	want := make([]byte, n)
	rand.Read(want)
	go stream.Write(want)
	got := make([]byte, n)
	if _, err := io.ReadFull(stream, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back different", n)
	}
}

func TestDial(t *testing.T) {
	host, guest := socketPair(t)
	startEcho(t, guest)
	session := dial(t, host)
	var wg sync.WaitGroup
	for _, n := range []int{1, MaxFrame, 5 << 20} {
		wg.Go(func() { checkEcho(t, session, n) })
	}
	wg.Wait()
	session.Close()
	if _, err := host.Write([]byte{0}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write to the port after the session's end: %v; want %v", err, net.ErrClosed)
	}
}

// Whatever is under way from before is skipped on both sides.
func TestDialSkipsLeftovers(t *testing.T) {
	var old [nonceLen]byte
	rand.Read(old[:])
	mark := func(kind byte) []byte { return appendMark(nil, kind, old) }
	// Frames of the multiplexer: data of stream 1, a window, a go away.
	frames := []byte("\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x05hello" +
		"\x00\x01\x00\x01\x00\x00\x00\x03\x00\x00\x00\x00" + "\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	noise := make([]byte, 60_000)
	rand.Read(noise)
	for _, tt := range []struct {
		name            string
		toHost, toGuest []byte
	}{
		{"nothing", nil, nil},
		{"noise", noise, noise},
		{"part of a mark", mark(markAck)[:markLen-1], mark(markSyn)[:markLen-1]},
		{"part of the magic", []byte(magic[:9]), []byte(magic[:9])},
		{"many first bytes", bytes.Repeat([]byte{magic[0]}, 1000), bytes.Repeat([]byte{magic[0]}, 1000)},
		{"another's marks", append(mark(markAck), mark(markOK)...), append(mark(markSyn), mark(markGo)[:10]...)},
		{"another's go only", mark(markOK), mark(markGo)},
		{"another's syns", bytes.Repeat(mark(markAck), 20), bytes.Repeat(mark(markSyn), 20)},
		{"a conversation", frames, append(append(mark(markSyn), mark(markGo)...), frames...)},
		{"unknown kinds", mark(200), append(mark(0), mark(255)...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			host, guest := socketPair(t)
			if _, err := guest.Write(tt.toHost); err != nil {
				t.Fatal(err)
			}
			if _, err := host.Write(tt.toGuest); err != nil {
				t.Fatal(err)
			}
			startEcho(t, guest)
			checkEcho(t, dial(t, host), 100_000)
		})
	}
}

// Each syn gets an ack, and what comes after the go is the conversation's.
func TestAcceptAnswersEverySyn(t *testing.T) {
	host, guest := socketPair(t)
	a, b := [nonceLen]byte{1}, [nonceLen]byte{2}
	var in []byte
	for _, nonce := range [][nonceLen]byte{a, b, b, b} {
		in = appendMark(in, markSyn, nonce)
	}
	in = appendMark(in, markGo, a) // not the last syn's
	in = appendMark(in, markGo, b)
	in = append(in, "\x00\x01\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00"...) // opens stream 1
	if _, err := host.Write(in); err != nil {
		t.Fatal(err)
	}
	session, err := Accept(guest, bufio.NewReader(guest), nil)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := session.AcceptStream()
	if err != nil || stream.StreamID() != 1 {
		t.Fatalf("the first stream: %v, %v; want stream 1", stream, err)
	}
	var want []byte
	for _, nonce := range [][nonceLen]byte{a, b, b, b} {
		want = appendMark(want, markAck, nonce)
	}
	want = appendMark(want, markOK, b)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(host, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("Accept answered %x; want %x", got, want)
	}
	host.Close()
	session.Close()
}

// A port without buffers shows whether a side writes while the other must.
func TestDialUnbuffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, guest := net.Pipe()
		accepted := make(chan *yamux.Session)
		go func() {
			time.Sleep(10 * synInterval) // it boots
			session, err := Accept(guest, bufio.NewReader(guest), nil)
			if err != nil {
				t.Error(err)
			}
			accepted <- session
		}()
		session, err := Dial(t.Context(), host)
		if err != nil {
			t.Fatal(err)
		}
		session.Close()
		guest.Close()
		(<-accepted).Close()
	})
}

// A test in a bubble fails when a goroutine is left behind.
func TestDialEndsWithContext(t *testing.T) {
	tooLong := errors.New("too long")
	for _, tt := range []struct {
		name  string
		guest func(port net.Conn)
	}{
		{"silent", func(net.Conn) {}},
		{"reads only", func(port net.Conn) { io.Copy(io.Discard, port) }},
		{"another nonce", func(port net.Conn) {
			go io.Copy(io.Discard, port)
			for {
				if _, err := port.Write(appendMark(nil, markAck, [nonceLen]byte{1})); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}},
		{"no ok", func(port net.Conn) {
			r := bufio.NewReader(port)
			_, nonce, err := readMark(r)
			if err != nil {
				t.Error(err)
			}
			port.Write(appendMark(nil, markAck, nonce))
			io.Copy(io.Discard, r)
		}},
		{"ok before go", func(port net.Conn) {
			r := bufio.NewReader(port)
			_, nonce, err := readMark(r)
			if err != nil {
				t.Error(err)
			}
			port.Write(appendMark(nil, markOK, nonce))
			io.Copy(io.Discard, r)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				host, guest := net.Pipe()
				var wg sync.WaitGroup
				wg.Go(func() { tt.guest(guest) })
				defer wg.Wait()
				defer guest.Close()
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, tooLong)
				defer cancel()
				start := time.Now()
				session, err := Dial(ctx, host)
				if session != nil || !errors.Is(err, tooLong) {
					t.Errorf("Dial() = %v, %v; want nil, %v", session, err, tooLong)
				}
				if d := time.Since(start); d != time.Minute {
					t.Errorf("Dial() took %v; want 1m", d)
				}
				if _, err := host.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
					t.Errorf("the port after Dial: %v; want it closed", err)
				}
			})
		})
	}
}

func TestDialCancelledBefore(t *testing.T) {
	host, _ := socketPair(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Dial(ctx, host); !errors.Is(err, context.Canceled) {
		t.Errorf("Dial() = %v; want %v", err, context.Canceled)
	}
}

func TestDialGuestGone(t *testing.T) {
	host, guest := socketPair(t)
	guest.Close()
	if _, err := Dial(t.Context(), host); err == nil {
		t.Error("Dial() = nil; want an error")
	}
	if err := host.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the port after Dial: %v; want it closed", err)
	}
}

// A guest that talks for ever is given up on, without reading it for ever.
func TestDialFlood(t *testing.T) {
	for name, piece := range map[string][]byte{
		"zeros":       make([]byte, MaxFrame),
		"first bytes": bytes.Repeat([]byte{magic[0]}, MaxFrame),
		"acks":        bytes.Repeat(appendMark(nil, markAck, [nonceLen]byte{}), 1000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host, guest := socketPair(t)
			go io.Copy(io.Discard, guest)
			flooded := make(chan int)
			go func() {
				n := 0
				for {
					k, err := guest.Write(piece)
					n += k
					if err != nil {
						flooded <- n
						return
					}
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := Dial(ctx, host); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Dial() = %v; want an error before the deadline", err)
			}
			if n := <-flooded; n > 2*maxGarbage {
				t.Errorf("Dial() read up to %d bytes; want at most %d", n, 2*maxGarbage)
			}
		})
	}
}

func TestAcceptEnd(t *testing.T) {
	for _, in := range [][]byte{nil, []byte("x"), appendMark(nil, markSyn, [nonceLen]byte{}), appendMark(nil, markSyn, [nonceLen]byte{})[:20]} {
		port := struct {
			io.Writer
			io.Closer
		}{io.Discard, keepOpen{}}
		if _, err := Accept(port, bufio.NewReader(bytes.NewReader(in)), nil); err == nil {
			t.Errorf("Accept(%q) = nil; want an error", in)
		}
	}
}

// virtioPort is a port as a guest has it: it stays open while the host's side
// comes and goes, and what the host did not read is lost.
type virtioPort struct{ qemu, guest net.Conn }

func newVirtioPort(t testing.TB) *virtioPort {
	qemu, guest := socketPair(t)
	return &virtioPort{qemu, guest}
}

// connect returns the host's end, and the function that waits for its end.
func (p *virtioPort) connect(t testing.TB) (host net.Conn, wait func()) {
	host, theirs := socketPair(t)
	p.qemu.SetReadDeadline(time.Time{})
	var wg sync.WaitGroup
	wg.Go(func() {
		io.Copy(p.qemu, theirs)
		p.qemu.SetReadDeadline(time.Now())
	})
	wg.Go(func() { io.Copy(theirs, p.qemu) })
	return host, func() { wg.Wait(); theirs.Close() }
}

// The guest gets back to Accept when a new host greets it, whatever the old one
// left in the middle.
func TestReconnect(t *testing.T) {
	port := newVirtioPort(t)
	startEcho(t, port.guest)
	before := runtime.NumGoroutine()
	for round := range 4 {
		host, wait := port.connect(t)
		session := dial(t, host)
		checkEcho(t, session, 300_000)
		// The host dies with streams open and bytes under way.
		stream, err := session.Open()
		if err != nil {
			t.Fatal(err)
		}
		if round%2 == 0 {
			if _, err := stream.Write(make([]byte, 200_000)); err != nil {
				t.Fatal(err)
			}
		}
		session.Close()
		wait()
	}
	host, wait := port.connect(t)
	session := dial(t, host)
	checkEcho(t, session, 10)
	session.Close()
	wait()
	checkGoroutines(t, before+3) // the guest's last session is still open
}

// A guest that was saved in the middle of a conversation is restored with another
// host. The first that it hears of it is enough: every further syn is a wait.
func TestRestored(t *testing.T) {
	host, guest := socketPair(t)
	startEcho(t, guest)
	host.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(host)
	for range 3 {
		var nonce [nonceLen]byte
		rand.Read(nonce[:])
		if _, err := host.Write(appendMark(nil, markSyn, nonce)); err != nil {
			t.Fatal(err)
		}
		if err := await(r, markAck, nonce); err != nil {
			t.Fatalf("no answer to one syn: %v", err)
		}
		if _, err := host.Write(appendMark(nil, markGo, nonce)); err != nil {
			t.Fatal(err)
		}
		if err := await(r, markOK, nonce); err != nil {
			t.Fatal(err)
		}
		// A stream that is never closed, with a little in it.
		frames := append(muxFrame(muxWindow, muxSyn, 1, 0), muxFrame(muxData, 0, 1, 5, []byte("hello")...)...)
		if _, err := host.Write(frames); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Peek(muxHeader); err != nil { // it has come
			t.Fatal(err)
		}
	}
}

// checkGoroutines waits until at most n goroutines run.
func checkGoroutines(t testing.TB, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines; want at most %d\n%s", runtime.NumGoroutine(), n, buf[:runtime.Stack(buf, true)])
		}
	}
}

func FuzzReadMark(f *testing.F) {
	f.Add([]byte(magic))
	f.Add(appendMark([]byte("garbage\xf7"), markSyn, [nonceLen]byte{1}))
	f.Add(append([]byte(magic[:15]), appendMark(nil, markGo, [nonceLen]byte{1})...))
	f.Fuzz(func(t *testing.T, in []byte) {
		kind, nonce, err := readMark(bufio.NewReader(bytes.NewReader(in)))
		at := bytes.Index(in, []byte(magic))
		whole := at >= 0 && len(in) >= at+markLen
		if whole != (err == nil) {
			t.Fatalf("readMark() = %v; a whole mark: %v", err, whole)
		}
		if whole && !bytes.HasPrefix(in[at:], appendMark(nil, kind, nonce)) {
			t.Errorf("readMark() = %d, %x; want the mark at %d", kind, nonce, at)
		}
	})
}

// FuzzAccept plays any host, FuzzSession any guest.
func FuzzAccept(f *testing.F) {
	greeting := appendMark(appendMark(nil, markSyn, [nonceLen]byte{1}), markGo, [nonceLen]byte{1})
	f.Add(greeting)
	f.Add(append(bytes.Clone(greeting), "\x00\x01\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00"...))
	f.Add(append(bytes.Clone(greeting), greeting...))
	f.Fuzz(func(t *testing.T, in []byte) {
		port := struct {
			io.Writer
			io.Closer
		}{io.Discard, keepOpen{}}
		r := bufio.NewReader(bytes.NewReader(in))
		for {
			session, err := Accept(port, r, nil)
			if err != nil {
				return
			}
			for {
				if _, err := session.Accept(); err != nil {
					break
				}
			}
			session.Close()
		}
	})
}
