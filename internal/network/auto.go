package network

import (
	"slices"
	"sync"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// Ports that are forwarded by themselves are the machine's choice, so they are bounded in
// number and rate, and only such as a user of this host has no reason to trust.
const (
	// maxAuto bounds how many there are at once.
	maxAuto = 16
	// minAuto is the first that is taken: those below are root's.
	minAuto = 1024
	// autoBurst bounds how many are opened in autoInterval, and noticeBurst of how many
	// ports the user is told in that time.
	autoBurst    = 32
	noticeBurst  = 16
	autoInterval = time.Minute
	// maxNoticed bounds the ports of a guest that are known.
	maxNoticed = 64
)

// wellKnown are ports at which programs of a host expect one of its own services, and send it
// passwords, commands or code: they are forwarded only by name.
var wellKnown = []int{
	1080, 3128, 8118, 9050, 9150, // proxies
	1433, 1521, 3050, 3306, 5432, 5433, 5984, 6379, 6380, 7474, 7687, 8086, 8123, 9042, 9200, 9300, 11211, 26257, 27017, 27018, 28015, // databases
	2049, 3260, 3389, 4045, 5900, 5901, 5902, 5903, 6000, 6001, // files and screens
	2375, 2376, 2377, 2379, 2380, 4243, 6443, 7946, 8200, 8500, 10250, 10255, 10257, 10259, 16443, // containers, clusters, their secrets
	1099, 2345, 4711, 5005, 5037, 5555, 5678, 6009, 9000, 9003, 9221, 9222, 9223, 9229, 9230, 38697, // debuggers, and browsers and phones under remote control
	1883, 4222, 4369, 5671, 5672, 8883, 9092, 9093, 15672, 61616, // queues
	1234, 11434, // models that run here
	1025, 2525, 4190, // mail
	3689, 4713, 5353, 5355, 6463, 8384, 22000, 24800, // programs of a desktop
	2222, 8022, // SSH
}

// Why says why a port of the guest is not forwarded by itself.
type Why string

// The reasons.
const (
	WhyLow       Why = "low"        // below 1024
	WhyWellKnown Why = "well-known" // programs of a host trust what they find there
	WhyTaken     Why = "taken"      // another program of this host has it, or had it
	WhyClosed    Why = "closed"     // the user has ended it
	WhyMany      Why = "many"       // enough are
	WhyFailed    Why = "failed"     // this host does not let us
)

// Listener is a port of the guest on which a program listens.
type Listener struct {
	Port int
	// Published says that a port of this host leads to it, and Auto that this is so
	// because it listens. Else Why says why it does not, if it was to.
	Published, Auto bool
	Why             Why
}

// noticed is what is known of the guest's ports.
type noticed struct {
	tell func(Listener) // nil for nobody

	mu     sync.Mutex // guards what follows; Network.mu may be locked while it is
	auto   bool       // they are forwarded
	ports  []int      // sorted
	opened map[int]*published
	// left are ports of this host that another program had, or that the user has closed.
	// They are not taken any more: a guest would only have to wait for the moment in which
	// such a program starts again.
	left map[int]Why
	why  map[int]Why // of ports

	opens, tells allowance
	again        *time.Timer // tries again what opens has refused; nil for no such thing
}

func newNoticed(auto bool, tell func(Listener)) *noticed {
	return &noticed{
		tell: tell, auto: auto, opened: make(map[int]*published), left: make(map[int]Why), why: make(map[int]Why),
		opens: allowance{burst: autoBurst}, tells: allowance{burst: noticeBurst},
	}
}

// allowance is for burst of something in autoInterval.
type allowance struct {
	burst, used int
	began       time.Time
}

func (a *allowance) take() bool {
	if now := time.Now(); now.Sub(a.began) >= autoInterval {
		a.began, a.used = now, 0
	}
	a.used = min(a.used+1, a.burst+1)
	return a.used <= a.burst
}

// Noticed takes on which ports the guest says that programs listen. Ports that are forwarded
// by themselves are until it does no more.
func (n *Network) Noticed(ports []int) {
	g := n.noticed
	g.mu.Lock()
	defer g.mu.Unlock()
	ports = slices.DeleteFunc(slices.Clone(ports), func(p int) bool { return p < 1 || p > 65535 })
	slices.Sort(ports)
	ports = slices.Compact(ports)
	ports = ports[:min(len(ports), maxNoticed)]
	before := g.ports
	g.ports = ports
	n.forwardLocked()
	for _, port := range ports {
		if g.tell == nil || slices.Contains(before, port) {
			continue
		}
		l := n.listenerLocked(port)
		if l.Published && !l.Auto {
			continue // its user has said so
		}
		if g.tells.take() {
			g.tell(l)
		}
	}
}

// SetAutoPorts lets ports be forwarded by themselves, or ends that.
func (n *Network) SetAutoPorts(on bool) {
	g := n.noticed
	g.mu.Lock()
	defer g.mu.Unlock()
	g.auto = on
	n.forwardLocked()
}

// Listeners returns on which ports programs listen, sorted, and whether they are forwarded by
// themselves.
func (n *Network) Listeners() (all []Listener, auto bool) {
	g := n.noticed
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, port := range g.ports {
		all = append(all, n.listenerLocked(port))
	}
	return all, g.auto
}

// listenerLocked says of a port what is known; noticed.mu is held.
func (n *Network) listenerLocked(port int) Listener {
	g := n.noticed
	l := Listener{Port: port, Auto: g.opened[port] != nil, Why: g.why[port]}
	n.mu.Lock()
	defer n.mu.Unlock()
	for p := range n.ports {
		l.Published = l.Published || p.GuestPort == port
	}
	if l.Published {
		l.Why = ""
	}
	return l
}

// forwardLocked opens and closes ports of this host; noticed.mu is held.
func (n *Network) forwardLocked() {
	g := n.noticed
	for port, p := range g.opened {
		if !g.auto || !slices.Contains(g.ports, port) {
			n.closePort(p)
			delete(g.opened, port)
		}
	}
	clear(g.why)
	if !g.auto {
		return
	}
	n.mu.Lock()
	given := make(map[int]bool) // the user has published them
	for p := range n.ports {
		given[p.GuestPort] = true
	}
	n.mu.Unlock()
	for _, port := range g.ports {
		if given[port] {
			continue
		}
		if why := n.forwardOneLocked(port); why != "" {
			g.why[port] = why
		}
	}
}

// forwardOneLocked opens a port of this host, or says why not.
func (n *Network) forwardOneLocked(port int) Why {
	g := n.noticed
	switch {
	case port < minAuto:
		return WhyLow
	case slices.Contains(wellKnown, port):
		return WhyWellKnown
	case g.left[port] != "":
		return g.left[port]
	case len(g.opened) >= maxAuto:
		return WhyMany // until one ends
	case !g.opens.take():
		n.againLocked()
		return WhyMany
	}
	p, err := n.reserveWhole(plan.Port{Address: "127.0.0.1", HostPort: port, GuestPort: port})
	switch {
	case err == nil:
		g.opened[port] = p
		n.mu.Lock()
		guest := n.guest
		n.mu.Unlock()
		n.listen(guest, []int{port}, []int{port}) // which it has just said
		return ""
	case fault.CodeOf(err) == fault.PortTaken:
		g.left[port] = WhyTaken
		return WhyTaken
	}
	n.log.Debug("forward a port", "port", port, "err", err)
	return WhyFailed
}

// againLocked has ports opened once more may be; noticed.mu is held.
func (n *Network) againLocked() {
	g := n.noticed
	if g.again != nil || n.isClosed() {
		return
	}
	g.again = time.AfterFunc(time.Until(g.opens.began.Add(autoInterval)), func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.again = nil; !n.isClosed() {
			n.forwardLocked()
		}
	})
}

// endAuto ends that, behind n.cancel.
func (n *Network) endAuto() {
	g := n.noticed
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.again != nil {
		g.again.Stop()
	}
}

// keepAuto lets a port of this host that was opened by itself be the user's, and reports whether
// there is one.
func (n *Network) keepAuto(hostPort int) bool {
	g := n.noticed
	g.mu.Lock()
	defer g.mu.Unlock()
	_, was := g.opened[hostPort]
	if was {
		delete(g.opened, hostPort)
		n.forwardLocked() // another one may be open now
	}
	return was
}

// takeBack forgets that a port of this host is left, because the user has opened it.
func (n *Network) takeBack(hostPort int) {
	g := n.noticed
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.left, hostPort)
}

// leaveAuto leaves a port of this host from now on, because the user closes it. It closes the
// one that was opened by itself, if any: meanwhile that may be another than the user's.
func (n *Network) leaveAuto(hostPort int) {
	g := n.noticed
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left[hostPort] = WhyClosed
	if was := g.opened[hostPort]; was != nil {
		n.closePort(was)
		delete(g.opened, hostPort)
		n.forwardLocked() // another one may be open now
	}
}
