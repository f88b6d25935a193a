package dial

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func reserved(t *testing.T, addr string) *Port {
	t.Helper()
	p, err := Reserve(netip.MustParseAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// serve accepts, says hello and closes, which leaves the end of the connection on this
// side.
func serve(t *testing.T, p *Port) {
	t.Helper()
	all, err := p.Listen()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(conn, "hello")
				conn.Close()
			}
		}()
	}
}

func hear(host string, port int) (string, error) {
	conn, err := net.Dial("tcp", net.JoinHostPort(host, fmt.Sprint(port)))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	b, err := io.ReadAll(conn)
	return string(b), err
}

func hasIPv6() bool {
	l, err := net.Listen("tcp", "[::1]:0")
	if err == nil {
		l.Close()
	}
	return err == nil
}

// A port is refused until it listens and after, and nobody else gets it meanwhile.
func TestReserve(t *testing.T) {
	p := reserved(t, "127.0.0.1:0")
	hosts := []string{"127.0.0.1"}
	if hasIPv6() {
		hosts = append(hosts, "::1")
	}
	for round := range 3 {
		for _, host := range hosts {
			if _, err := hear(host, p.Number()); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("round %d, %s: %v; want it refused", round, host, err)
			}
			taken := net.JoinHostPort(host, fmt.Sprint(p.Number()))
			if l, err := net.Listen("tcp", taken); !errors.Is(err, unix.EADDRINUSE) {
				t.Errorf("round %d: somebody else listens on %s: %v", round, taken, err)
				if err == nil {
					l.Close()
				}
			}
		}
		if other, err := Reserve(p.addr); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("round %d: reserved twice: %v", round, err)
			if err == nil {
				other.Close()
			}
		}
		serve(t, p)
		for _, host := range hosts {
			if got, err := hear(host, p.Number()); got != "hello" || err != nil {
				t.Errorf("round %d, %s: heard %q, %v", round, host, got, err)
			}
		}
		if _, err := Reserve(p.addr); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("round %d: reserved while it listens: %v", round, err)
		}
		p.Refuse()
	}
	// What is left of its connections does not keep the next from it.
	p.Close()
	again := reserved(t, p.addr.String())
	serve(t, again)
	if got, err := hear("127.0.0.1", again.Number()); got != "hello" || err != nil {
		t.Errorf("the next heard %q, %v", got, err)
	}
}

// A connection that is made outlives the time in which the port listens.
func TestRefuseKeepsConnections(t *testing.T) {
	p := reserved(t, "127.0.0.1:0")
	all, err := p.Listen()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp4", p.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	mine, err := all[0].Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	l := all[0]
	p.Refuse()
	if _, err := l.Accept(); err == nil {
		t.Error("a port that refuses accepts")
	}
	io.WriteString(mine, "hi")
	b := make([]byte, 2)
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "hi" {
		t.Errorf("heard %q, %v", b, err)
	}
}

// Other addresses stand for themselves, and another's port on ::1 is left to it.
func TestReserveAddresses(t *testing.T) {
	p := reserved(t, "0.0.0.0:0")
	serve(t, p)
	if got, err := hear("127.0.0.2", p.Number()); got != "hello" || err != nil {
		t.Errorf("on all addresses: heard %q, %v", got, err)
	}
	if !hasIPv6() {
		t.Skip("this host has no ::1")
	}
	six := reserved(t, "[::]:0")
	serve(t, six)
	for _, host := range []string{"127.0.0.1", "::1"} {
		if got, err := hear(host, six.Number()); got != "hello" || err != nil {
			t.Errorf("on all addresses of both families: heard %q, %v from %s", got, err, host)
		}
	}
	other := reserved(t, "[::1]:0")
	four, err := Reserve(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(other.Number())))
	if errors.Is(err, unix.EADDRINUSE) {
		t.Skip("another program has the port")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer four.Close()
	if !four.Half || other.Half {
		t.Errorf("half of 127.0.0.1 is another's: %v, of ::1: %v", four.Half, other.Half)
	}
	serve(t, four)
	if _, err := hear("::1", other.Number()); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("another's port on ::1: %v; want it refused", err)
	}
}
