package network

import (
	"net"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayfly-vm/mayfly/internal/plan"
)

// freePorts returns numbers of ports that nobody has, from minAuto on.
func freePorts(t *testing.T, count int) (ports []int) {
	t.Helper()
	for len(ports) < count {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if port := l.Addr().(*net.TCPAddr).Port; !slices.Contains(wellKnown, port) {
			ports = append(ports, port)
		}
	}
	slices.Sort(ports)
	return ports
}

func autoNetwork(t *testing.T, auto bool, given ...plan.Port) *Network {
	n, _ := newNetwork(t, plan.Network{Mode: plan.NetworkNone, AutoPorts: auto, Ports: given})
	if err := n.Publish(newEcho()); err != nil {
		t.Fatal(err)
	}
	return n
}

// listenerOf returns what is known of a port of the guest.
func listenerOf(n *Network, port int) Listener {
	all, _ := n.Listeners()
	i := slices.IndexFunc(all, func(l Listener) bool { return l.Port == port })
	if i < 0 {
		return Listener{}
	}
	return all[i]
}

// A port on which a program listens is the same one of this host, and no more when it ends.
func TestAutoPorts(t *testing.T) {
	free := freePorts(t, 2)
	port := free[0]
	n := autoNetwork(t, false)
	n.Noticed([]int{port})
	if got := listenerOf(n, port); got != (Listener{Port: port}) || len(n.Ports()) > 0 {
		t.Errorf("unasked, %+v is published: %v", got, n.Ports())
	}
	n.SetAutoPorts(true)
	want := []plan.Port{{Address: "127.0.0.1", HostPort: port, GuestPort: port}}
	if got := n.Ports(); !slices.Equal(got, want) || !listenerOf(n, port).Auto {
		t.Errorf("Ports() = %v, %+v; want %v", got, listenerOf(n, port), want)
	}
	n.Noticed([]int{free[1]})
	if got := n.Ports(); len(got) != 1 || got[0].HostPort != free[1] {
		t.Errorf("Ports() = %v; want only %d", got, free[1])
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Errorf("the port of a program that has ended: %v", err)
	} else {
		l.Close()
	}
	n.Noticed(nil)
	if got := n.Ports(); len(got) > 0 {
		t.Errorf("Ports() = %v; want none", got)
	}
	n.Noticed([]int{port})
	n.SetAutoPorts(false)
	if got := n.Ports(); len(got) > 0 {
		t.Errorf("Ports() = %v once that is off", got)
	}
}

// A guest cannot take what it likes: no low port, no well-known one, none that another program
// of the host has or had, none that the user closed, and few in all.
func TestAutoPortsAreBounded(t *testing.T) {
	for _, network := range []string{"127.0.0.1", "::1"} {
		other, err := net.Listen("tcp", net.JoinHostPort(network, "0"))
		if err != nil {
			t.Logf("no %s: %v", network, err)
			continue
		}
		port := other.Addr().(*net.TCPAddr).Port
		n := autoNetwork(t, true)
		for range 2 { // also when the other program has ended
			n.Noticed(nil)
			n.Noticed([]int{80, 1023, 5432, port})
			if got := listenerOf(n, port).Why; got != WhyTaken {
				t.Errorf("a port that another program has on %s: %q", network, got)
			}
			other.Close()
		}
		if a, b, c := listenerOf(n, 80).Why, listenerOf(n, 1023).Why, listenerOf(n, 5432).Why; a != WhyLow || b != WhyLow || c != WhyWellKnown || len(n.Ports()) > 0 {
			t.Errorf("%q, %q, %q; %v is published", a, b, c, n.Ports())
		}
	}
	free := freePorts(t, 3*maxAuto)
	n := autoNetwork(t, true)
	n.Noticed(free)
	if got := len(n.Ports()); got > maxAuto || got < maxAuto/2 {
		t.Errorf("%d ports are open; want at most %d", got, maxAuto)
	}
	last := free[len(free)-1]
	if got := listenerOf(n, last).Why; got != WhyMany {
		t.Errorf("one more: %q", got)
	}
	first := n.Ports()[0].HostPort
	if err := n.ClosePort(first); err != nil {
		t.Fatal(err)
	}
	n.Noticed(nil)
	n.Noticed([]int{first})
	if got := listenerOf(n, first); got.Why != WhyClosed || len(n.Ports()) > 0 {
		t.Errorf("one that its user has closed: %+v, %v", got, n.Ports())
	}
	if p, err := n.OpenPort(plan.Port{Address: "127.0.0.1", HostPort: first, GuestPort: first}); err != nil || !listenerOf(n, first).Published {
		t.Errorf("and opens again: %v, %v", p, err)
	}
	n.Noticed(nil)
	if got := n.Ports(); len(got) != 1 {
		t.Errorf("what the user opens ends with the program: %v", got)
	}
}

// A guest whose ports come and go opens few of them, and the user hears of few.
func TestAutoPortsFlood(t *testing.T) {
	free := freePorts(t, 1)
	told := 0
	n := autoNetwork(t, true)
	n.noticed.tell = func(Listener) { told++ }
	opened := 0
	for range 1000 {
		n.Noticed(free)
		opened += len(n.Ports())
		n.Noticed(nil)
	}
	if opened > 2*autoBurst || told > 2*noticeBurst { // a minute may end meanwhile
		t.Errorf("%d were opened, and of %d was told; want at most %d and %d", opened, told, autoBurst, noticeBurst)
	}
	all := make([]int, 0, 1<<16)
	for port := -10; port < 1<<16+10; port++ {
		all = append(all, port, port)
	}
	n.SetAutoPorts(false)
	n.Noticed(all)
	if got, _ := n.Listeners(); len(got) != maxNoticed || got[0].Port != 1 {
		t.Errorf("%d ports are known; want %d", len(got), maxNoticed)
	}
}

// What a user makes of a port that was opened by itself stays when the program ends, and what
// the user publishes is not opened twice.
func TestAutoPortsOfUser(t *testing.T) {
	free := freePorts(t, 2)
	own := plan.Port{Address: "127.0.0.1", HostPort: free[0], GuestPort: free[0]}
	n := autoNetwork(t, true, own)
	told := 0
	n.noticed.tell = func(Listener) { told++ }
	n.Noticed([]int{free[0]})
	if got := listenerOf(n, free[0]); got.Auto || !got.Published || told > 0 || len(n.Ports()) != 1 {
		t.Errorf("%+v, told %d times, %v", got, told, n.Ports())
	}
	n.Noticed(free)
	if _, err := n.OpenPort(plan.Port{Address: "127.0.0.1", HostPort: free[1], GuestPort: free[1]}); err != nil {
		t.Errorf("a port that is open by itself: %v", err)
	}
	n.Noticed(nil)
	if got := n.Ports(); len(got) != 2 || told != 1 {
		t.Errorf("%v, told %d times; want both, and once", got, told)
	}
}

// A port that another program had is left also after its user has tried to open it meanwhile.
func TestAutoPortsThatAreTaken(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := other.Addr().(*net.TCPAddr).Port
	n := autoNetwork(t, true)
	n.Noticed([]int{port})
	if p, err := n.OpenPort(plan.Port{Address: "127.0.0.1", HostPort: port, GuestPort: port}); err == nil {
		t.Fatalf("a port that another program has is opened: %v", p)
	}
	other.Close()
	n.Noticed(nil)
	n.Noticed([]int{port})
	if got := listenerOf(n, port); got.Why != WhyTaken || len(n.Ports()) > 0 {
		t.Errorf("once the other program has ended: %+v, %v", got, n.Ports())
	}
}

// A port that was one too many of a minute is open in the next one, and one that was too many at
// once when its user closes another.
func TestAutoPortsAreTriedAgain(t *testing.T) {
	free := freePorts(t, maxAuto+1)
	synctest.Test(t, func(t *testing.T) {
		n := autoNetwork(t, true)
		for range autoBurst {
			n.Noticed(free[:1])
			n.Noticed(nil)
		}
		n.Noticed(free[:1])
		if got := listenerOf(n, free[0]); got.Why != WhyMany {
			t.Fatalf("one too many of a minute: %+v", got)
		}
		time.Sleep(autoInterval)
		time.Sleep(time.Millisecond) // beside what is woken at that moment, too
		if got := listenerOf(n, free[0]); !got.Auto || got.Why != "" {
			t.Errorf("a minute later: %+v", got)
		}
		n.Noticed(nil)
		for range autoBurst {
			n.Noticed(free[:1])
			n.Noticed(nil)
		}
		n.Noticed(free[:1]) // which nobody waits for when the network ends
	})
	n := autoNetwork(t, true)
	n.Noticed(free)
	open := n.Ports()
	if len(open) == 0 {
		t.Fatal("nothing is open")
	}
	if err := n.ClosePort(open[0].HostPort); err != nil {
		t.Fatal(err)
	}
	if got := listenerOf(n, free[maxAuto]); len(open) == maxAuto && !got.Auto {
		t.Errorf("once another is closed: %+v", got)
	}
}

// FuzzNoticed plays a guest that says anything of its ports.
func FuzzNoticed(f *testing.F) {
	f.Add([]byte{0, 80, 0, 80, 255, 255, 16, 0}, []byte{})
	f.Add([]byte{}, []byte{0, 0})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		n := autoNetwork(t, false)
		for _, said := range [][]byte{first, second} {
			var ports []int
			for ; len(said) > 1; said = said[2:] {
				ports = append(ports, int(said[0])<<8|int(said[1])-1)
			}
			n.Noticed(ports)
			all, _ := n.Listeners()
			for i, l := range all {
				if l.Port < 1 || l.Port > 65535 || i > 0 && all[i-1].Port >= l.Port {
					t.Errorf("Listeners() = %+v", all)
				}
			}
			if len(all) > maxNoticed || len(n.Ports()) > 0 {
				t.Errorf("%d ports are known, %v is published", len(all), n.Ports())
			}
		}
	})
}
