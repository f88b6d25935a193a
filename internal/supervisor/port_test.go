package supervisor

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/test/fakevmm"
)

// talk begins a conversation with a guest whose agent answers streams by serve.
func talk(t *testing.T, serve func(stream net.Conn)) *guest {
	t.Helper()
	host, port := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		session, err := wire.Accept(port, bufio.NewReader(port), nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer session.Close()
		for {
			stream, err := session.Accept()
			if err != nil {
				return
			}
			serve(stream)
		}
	}()
	session, err := wire.Dial(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		session.Close()
		port.Close()
		<-done
	})
	return &guest{session: session}
}

// What a guest has written before it closed a stream is there for a host that reads it later: a
// user looks at output for as long as he likes.
func TestReadLater(t *testing.T) {
	if !alone(t) {
		return
	}
	bubble(t, func(t *testing.T) {
		want := bytes.Repeat([]byte("output"), 10_000)
		g := talk(t, func(stream net.Conn) {
			stream.Write(want)
			stream.Close()
		})
		stream, err := g.open()
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		time.Sleep(time.Hour)
		if got, err := io.ReadAll(stream); err != nil || !bytes.Equal(got, want) {
			t.Errorf("after an hour: %d bytes, %v; want %d", len(got), err, len(want))
		}
	})
}

// A connection to a port of a guest is one of which each direction ends by itself.
func TestPortHalves(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, tt := range []struct {
		name  string
		guest func(t *testing.T, frames *wire.FrameReader, out *wire.FrameWriter)
		host  func(t *testing.T, conn net.Conn)
	}{
		{"the host ends first", func(t *testing.T, in *wire.FrameReader, out *wire.FrameWriter) {
			var got []byte
			for {
				kind, payload, err := in.Next()
				if err != nil || kind == wire.FrameStdinEOF {
					break
				}
				got = append(got, payload...)
			}
			time.Sleep(time.Hour)
			out.Write(wire.FrameStdout, nil) // it asks whether somebody is there
			out.Write(wire.FrameStdout, append(got, " answered"...))
			out.Write(wire.FrameEnd, nil)
		}, func(t *testing.T, conn net.Conn) {
			io.WriteString(conn, "question")
			conn.(interface{ CloseWrite() error }).CloseWrite()
			if got, err := io.ReadAll(conn); string(got) != "question answered" || err != nil {
				t.Errorf("the answer is %q, %v", got, err)
			}
		}},
		{"the guest ends first", func(t *testing.T, in *wire.FrameReader, out *wire.FrameWriter) {
			out.Write(wire.FrameStdout, []byte("answer"))
			out.Write(wire.FrameEnd, nil)
			if kind, payload, err := in.Next(); kind != wire.FrameStdin || string(payload) != "late" || err != nil {
				t.Errorf("the guest gets %d, %q, %v; want what was written late", kind, payload, err)
			}
			in.Next()
		}, func(t *testing.T, conn net.Conn) {
			if got, err := io.ReadAll(conn); string(got) != "answer" || err != nil {
				t.Errorf("the answer is %q, %v", got, err)
			}
			time.Sleep(time.Hour)
			if _, err := io.WriteString(conn, "late"); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}},
		{"it breaks off", func(t *testing.T, in *wire.FrameReader, out *wire.FrameWriter) {
			out.Write(wire.FrameStdout, []byte("part"))
		}, func(t *testing.T, conn net.Conn) {
			if got, err := io.ReadAll(conn); string(got) != "part" || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%q, %v; want a part, and that it is one", got, err)
			}
		}},
		{"it is reset", func(t *testing.T, in *wire.FrameReader, out *wire.FrameWriter) {
			out.Write(wire.FrameStdout, []byte("part"))
			out.WriteError(syscall.ECONNRESET)
		}, func(t *testing.T, conn net.Conn) {
			if got, err := io.ReadAll(conn); string(got) != "part" || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%q, %v; want a part, and that it was reset", got, err)
			}
		}},
		{"nobody takes more", func(t *testing.T, in *wire.FrameReader, out *wire.FrameWriter) {
			in.Next()
			out.Write(wire.FrameEnd, nil)
		}, func(t *testing.T, conn net.Conn) {
			ended := make(chan error)
			go func() {
				_, err := io.ReadAll(conn)
				ended <- err
			}()
			var err error
			for sent := 0; err == nil && sent < 4*wire.MaxWindow; sent += 1 << 10 {
				_, err = conn.Write(make([]byte, 1<<10))
			}
			if err == nil {
				t.Error("all was written to nobody")
			}
			if err := <-ended; err != nil {
				t.Errorf("the answer ends with %v; want its end", err)
			}
		}},
		{"it is silent when the host leaves", func(t *testing.T, in *wire.FrameReader, out *wire.FrameWriter) {
			in.Next()
			time.Sleep(time.Hour)
		}, func(t *testing.T, conn net.Conn) {
			ended := make(chan error)
			go func() {
				_, err := conn.Read(make([]byte, 1))
				ended <- err
			}()
			synctest.Wait()
			conn.Close()
			begun := time.Now()
			if err := <-ended; err == nil || time.Since(begun) > 0 {
				t.Errorf("a read ends with %v after %v; want an error at once", err, time.Since(begun))
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := talk(t, func(stream net.Conn) {
					defer stream.Close()
					var req wire.Request
					if err := wire.ReadMessage(stream, &req); err != nil || req.Op != wire.OpConnect {
						t.Errorf("%v, %v; want a connection", req.Op, err)
					}
					wire.WriteMessage(stream, wire.Connected{})
					tt.guest(t, wire.NewFrameReader(stream), wire.NewFrameWriter(stream))
				})
				conn, err := guestPorts{g}.Connect(t.Context(), 80)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				tt.host(t, conn)
			})
		})
	}
}

// A guest that says nothing, or reads nothing, holds up nobody for longer than his time.
func TestWithin(t *testing.T) {
	if !alone(t) {
		return
	}
	const patience = 3 * time.Second
	tooLong := errors.New("too long")
	for _, tt := range []struct {
		name  string
		serve func(net.Conn)
		f     func(guestStream) error
	}{
		{"says nothing", func(net.Conn) {}, func(stream guestStream) error {
			_, err := stream.Read(make([]byte, 1))
			return err
		}},
		{"reads nothing", func(net.Conn) {}, func(stream guestStream) error {
			_, err := stream.Write(make([]byte, 2*wire.MaxWindow))
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := talk(t, tt.serve)
				ctx, cancel := context.WithTimeoutCause(t.Context(), patience, tooLong)
				defer cancel()
				begun := time.Now()
				if err := g.within(ctx, tt.f); !errors.Is(err, tooLong) || time.Since(begun) != patience {
					t.Errorf("within() = %v after %v; want %v after %v", err, time.Since(begun), tooLong, patience)
				}
			})
		})
	}
}

// deaf is a session with a guest that does not read its port: nobody can even open a stream.
type deaf struct {
	pipes
	ended chan struct{}
}

func (d deaf) Open() (net.Conn, error) {
	<-d.ended
	return nil, io.ErrClosedPipe
}

func TestWithinDeaf(t *testing.T) {
	d := deaf{ended: make(chan struct{})}
	defer close(d.ended)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (&guest{session: d}).within(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("within() = %v; want %v", err, context.Canceled)
	}
}

// A guest that does not send its transcripts is asked to power off when their time is over.
func TestSilentTranscripts(t *testing.T) {
	if !alone(t) {
		return
	}
	bubble(t, func(t *testing.T) {
		r := newRig(t, always(fakevmm.Script{fakevmm.Step(wire.OpTranscripts): {Silent: true}}), nil)
		m := r.up(t)
		begun := time.Now()
		err := r.fetchTranscripts(m.guest, r.machine.File("transcripts"))
		if took := time.Since(begun); err == nil || took != transcriptTimeout {
			t.Errorf("fetchTranscripts() = %v after %v; want an error after %v", err, took, transcriptTimeout)
		}
		begun = time.Now()
		if r.powerOff(m.guest); !m.vm.ended() || time.Since(begun) != 0 {
			t.Errorf("the guest ended: %v, after %v; want that it powers off at once", m.vm.ended(), time.Since(begun))
		}
		m.Close()
		r.checkEnded(t)
	})
}
