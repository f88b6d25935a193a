package agent

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// The host hears who listens, on whatever address, and who ends to.
func TestPorts(t *testing.T) {
	listen := func(network, addr string) (net.Listener, int) {
		l, err := net.Listen(network, addr)
		if err != nil {
			t.Skipf("listen on %s: %v", addr, err)
		}
		t.Cleanup(func() { l.Close() })
		return l, l.Addr().(*net.TCPAddr).Port
	}
	first, a := listen("tcp4", "127.0.0.1:0")
	second, b := listen("tcp6", "[::1]:0")
	second.Close()
	free, c := listen("tcp4", "127.0.0.1:0")
	free.Close()

	host, guest := net.Pipe()
	defer host.Close()
	done := make(chan struct{})
	changes, ended := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
		tellPorts(guest, []int{a, b, c}, newAnswers(), says(changes), &looks{ended: ended})
	}()
	want := func(ports ...int) {
		t.Helper()
		for { // what is seen between is no matter
			var got wire.Listening
			if err := wire.ReadMessage(host, &got); err != nil {
				t.Fatal(err)
			}
			if slices.Equal(got.Ports, ports) {
				return
			}
		}
	}
	want(a)
	second, err := net.Listen("tcp6", second.Addr().String())
	if err != nil {
		t.Skip(err) // another program has it now
	}
	defer second.Close()
	changes <- struct{}{}
	want(a, b)
	first.Close()
	close(changes) // from now on it asks by itself
	want(b)
	second.Close()
	want()
	close(ended)
	<-done
}

// says has a kernel that tells of changes by a channel.
func says(changes <-chan struct{}) func() (<-chan struct{}, func()) {
	return func() (<-chan struct{}, func()) { return changes, func() {} }
}

// A stream that the host has given up does not take the place of the one after it.
func TestPortsAskedAnew(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	var a agent
	ask := func() (net.Conn, func()) {
		host, guest := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer guest.Close()
			a.ports(guest, &wire.Ports{Ports: []int{l.Addr().(*net.TCPAddr).Port}})
		}()
		return host, func() { host.Close(); <-done }
	}
	first, giveUp := ask()
	host, end := ask()
	defer end()
	var got wire.Listening
	for _, stream := range []net.Conn{host, first} {
		if err := wire.ReadMessage(stream, &got); err != nil || len(got.Ports) != 0 {
			t.Fatalf("%v, %v; want nobody to listen", got, err)
		}
	}
	giveUp()
	if l, err = net.Listen("tcp", l.Addr().String()); err != nil {
		t.Skip(err) // another program has it now
	}
	defer l.Close()
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		host.Write([]byte{0})
		wire.ReadMessage(host, &got)
		host.Write([]byte{0})
	}()
	a.lookAtPorts()
	<-heard
	if len(got.Ports) != 1 {
		t.Errorf("%v; want the port", got)
	}
}

// Who hears that a command has ended has heard before who listens.
func TestLookAtPorts(t *testing.T) {
	var a agent
	a.lookAtPorts() // nobody has asked about ports
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	host, guest := net.Pipe()
	defer host.Close()
	ended, done, heard := make(chan struct{}), make(chan struct{}), newAnswers()
	asked := &looks{asked: make(chan chan struct{}), ended: ended}
	go func() {
		defer close(done)
		// The kernel says nothing.
		tellPorts(guest, []int{l.Addr().(*net.TCPAddr).Port}, heard, says(make(chan struct{})), asked)
	}()
	var got wire.Listening
	if err := wire.ReadMessage(host, &got); err != nil || len(got.Ports) != 0 {
		t.Fatalf("%v, %v; want nobody to listen", got, err)
	}
	if l, err = net.Listen("tcp", l.Addr().String()); err != nil {
		t.Skip(err) // another program has it now
	}
	defer l.Close()
	a.looks = map[*looks]bool{asked: true}
	heard.add() // the first
	var opened atomic.Bool
	read := make(chan struct{})
	go func() {
		wire.ReadMessage(host, &got)
		opened.Store(true) // the port on the host
		heard.add()
		close(read)
	}()
	a.lookAtPorts()
	if !opened.Load() {
		t.Error("the command went on before the host had heard")
	}
	<-read
	if len(got.Ports) != 1 {
		t.Errorf("%v; want the port", got)
	}
	close(ended)
	<-done
}

func TestListenerOf(t *testing.T) {
	for line, want := range map[string]int{
		"   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1":  8000,
		"   0: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000": 80,
		"   1: 0100007F:1F40 0100007F:A1B2 01 00000000:00000000 00:00000000 00000000     0        0 1":  0,
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt":                   0,
		"":                       0,
		"0: 0100007F:1F400 0 0A": 0,
		"0: nothing 0 0A":        0,
	} {
		if got, ok := listenerOf(line); got != want || ok != (want != 0) {
			t.Errorf("listenerOf(%q) = %d, %t; want %d", line, got, ok, want)
		}
	}
}

// A kernel that does not tell is asked.
func TestListenChangesNone(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "instances"), 0o700); err != nil {
		t.Fatal(err)
	}
	record := filepath.Join(dir, "options/record-cmd")
	if err := errors.Join(os.Mkdir(filepath.Dir(record), 0o700), os.WriteFile(record, []byte("1\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	changes, stop := listenChanges(dir)
	defer stop()
	if text, err := os.ReadFile(record); string(text) != "1\n" {
		t.Errorf("for others, names of programs are recorded: %q, %v; want 1", text, err)
	}
	if changes != nil {
		t.Error("a kernel that traces nothing tells of sockets")
	}
	if left, err := os.ReadDir(filepath.Join(dir, "instances")); err != nil || len(left) > 0 {
		t.Errorf("%v, %v is left", left, err)
	}
}
