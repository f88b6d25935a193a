package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/plan"
)

// breaking is a guest whose connections say a part of what they were to say, and break.
type breaking struct{ *echo }

func (breaking) Connect(context.Context, int) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		io.WriteString(theirs, "part")
		io.ReadFull(theirs, make([]byte, 1))
		theirs.Close()
	}()
	return brokenOff{ours}, nil
}

// brokenOff is a connection that has no end but a failure.
type brokenOff struct{ net.Conn }

func (c brokenOff) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// A connection to a published port that breaks in the machine is reset: its end would say that
// all was said.
func TestPortsBreak(t *testing.T) {
	n, _ := newNetwork(t, plan.Network{Mode: plan.NetworkNone, Ports: []plan.Port{{Address: "127.0.0.1", GuestPort: 80}}})
	if err := n.Publish(breaking{newEcho(80)}); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", n.Ports()[0].HostPort))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	got := make([]byte, len("part"))
	if _, err := io.ReadFull(conn, got); string(got) != "part" || err != nil {
		t.Fatalf("%q, %v; want a part", got, err)
	}
	io.WriteString(conn, "x")
	if _, err := conn.Read(got); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("behind the part comes %v; want that the connection was reset", err)
	}
}

// hung is the guest's end of a connection to a service that takes all and answers nothing.
type hung struct {
	net.Conn
	ended chan struct{} // the other direction has
}

func (h hung) CloseWrite() error {
	close(h.ended)
	return nil
}

// Who has ended his direction still gets answers. Who is gone frees what the connection holds,
// also when the guest never answers.
func TestPortsAreLeft(t *testing.T) {
	for _, tt := range []struct {
		name  string
		leave func(client *net.TCPConn) error
	}{
		{"by a reset", func(client *net.TCPConn) error {
			client.SetLinger(0)
			return client.Close()
		}},
		{"by an end of both directions", func(client *net.TCPConn) error {
			return client.Close()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			dialed, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			client := dialed.(*net.TCPConn)
			defer client.Close()
			// As the kernel's own times, in seconds instead of a minute.
			raw, err := client.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_TCP, unix.TCP_LINGER2, 1) })
			if err != nil {
				t.Fatal(err)
			}
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			err = conn.(*net.TCPConn).SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 9})
			if err != nil {
				t.Fatal(err)
			}
			ours, theirs := net.Pipe()
			defer theirs.Close()
			guest := hung{ours, make(chan struct{})}
			joined := make(chan struct{})
			go func() {
				defer close(joined)
				joinHalves(conn, guest)
			}()
			if err := client.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			<-guest.ended
			go io.WriteString(theirs, "late")
			got := make([]byte, len("late"))
			if _, err := io.ReadFull(client, got); string(got) != "late" || err != nil {
				t.Fatalf("who has ended his direction gets %q, %v; want an answer", got, err)
			}
			if err := tt.leave(client); err != nil {
				t.Fatal(err)
			}
			select {
			case <-joined:
			case <-time.After(time.Minute):
				t.Error("the connection of who has left is still held")
				ours.Close()
				<-joined
			}
			if _, err := theirs.Read(got); err != io.EOF {
				t.Errorf("the guest's end gives %v; want its end", err)
			}
		})
	}
}
