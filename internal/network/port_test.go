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
