package agent

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// A connection to a port ends for the program as it does for who has connected, and the other
// way round.
func TestConnect(t *testing.T) {
	g := startGuest(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	connect := func(t *testing.T) (*client.Connection, *net.TCPConn) {
		t.Helper()
		conn, err := client.Connect(g.open(t), l.Addr().(*net.TCPAddr).Port)
		if err != nil {
			t.Fatal(err)
		}
		served, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			served.Close()
			conn.Close()
		})
		return conn, served.(*net.TCPConn)
	}
	long := bytes.Repeat([]byte("text"), 1<<20)

	t.Run("both directions", func(t *testing.T) {
		conn, served := connect(t)
		go func() {
			conn.Write(long)
			conn.CloseWrite()
		}()
		if got, err := io.ReadAll(served); !bytes.Equal(got, long) || err != nil {
			t.Errorf("the program gets %d bytes, %v; want %d", len(got), err, len(long))
		}
		go func() {
			served.Write(long)
			served.Close()
		}()
		if got, err := io.ReadAll(conn); !bytes.Equal(got, long) || err != nil {
			t.Errorf("the host gets %d bytes, %v; want %d", len(got), err, len(long))
		}
	})
	t.Run("the host breaks off", func(t *testing.T) {
		conn, served := connect(t)
		conn.Write([]byte("part"))
		if _, err := io.ReadFull(served, make([]byte, len("part"))); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if _, err := served.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the program gets %v; want that it was reset", err)
		}
	})
	t.Run("the program breaks off", func(t *testing.T) {
		conn, served := connect(t)
		served.SetLinger(0)
		served.Close()
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the host gets %v; want that it was reset", err)
		}
	})
	// As of an upload that is too large.
	t.Run("the program answers and leaves", func(t *testing.T) {
		conn, served := connect(t)
		io.WriteString(served, "no")
		served.CloseWrite()
		if got, err := io.ReadAll(conn); string(got) != "no" || err != nil {
			t.Errorf("the answer is %q, %v", got, err)
		}
		served.Close()
		var err error
		for err == nil {
			_, err = conn.Write(long)
		}
	})
}

// Who has left while a program takes nothing, and nobody takes what it says, is no reason to hold
// its connection for ever.
func TestConnectToDeafProgram(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	host, stream := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		connect(stream, &wire.Connect{Port: l.Addr().(*net.TCPAddr).Port})
	}()
	defer stream.Close()
	program, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	var answer wire.Connected
	if err := wire.ReadMessage(host, &answer); err != nil || answer.Error != "" {
		t.Fatalf("%q, %v; want a connection", answer.Error, err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		frames := wire.NewFrameWriter(host)
		for frames.Write(wire.FrameStdin, make([]byte, wire.MaxFrame)) == nil {
		}
	}()
	stream.SetWriteDeadline(time.Unix(1, 0))
	io.WriteString(program, "to nobody")
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the connection is still there")
		program.Close()
		<-ended
	}
	host.Close()
	<-sent
}

// A program that says nothing is still connected while somebody is there, and reset when nobody is.
func TestConnectToSilentProgram(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	program, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	host, stream := net.Pipe()
	defer host.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		sendToHost(stream, conn.(*net.TCPConn), time.Millisecond)
	}()
	frames := wire.NewFrameReader(host)
	for range 3 {
		if kind, payload, err := frames.Next(); kind != wire.FrameStdout || len(payload) != 0 || err != nil {
			t.Fatalf("frame %d of %q, %v; want an empty one", kind, payload, err)
		}
	}
	io.WriteString(program, "text")
	for got := ""; got != "text"; {
		kind, payload, err := frames.Next()
		if kind != wire.FrameStdout || err != nil {
			t.Fatalf("frame %d after %q, %v; want what the program says", kind, got, err)
		}
		got += string(payload)
	}
	host.Close()
	if _, err := program.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the program gets %v; want that it was reset", err)
	}
	<-ended
}
