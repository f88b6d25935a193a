// Package network plays a machine its network.
//
// The machine's network card is a socket to the VMM. Behind it is a TCP/IP stack
// of its own for each machine (vnet), in which every host of the internet seems to
// be there. What a machine really reaches is decided when it sends the first
// packet of a connection (policy): refused connections are reset at once, others
// are made anew from the host (dial), and where requests matter they are looked
// into (intercept). Names have addresses that exist only in this machine (dns).
// Everything is recorded (audit).
//
// A plan.Network flows in, and the values of its secrets. Nothing of the guest's
// is trusted: not its packets, not its names, not that it waits or reads.
package network

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayfly-vm/mayfly/internal/budget"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/dial"
	"github.com/mayfly-vm/mayfly/internal/network/dns"
	"github.com/mayfly-vm/mayfly/internal/network/intercept"
	"github.com/mayfly-vm/mayfly/internal/network/link"
	"github.com/mayfly-vm/mayfly/internal/network/policy"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/network/vnet"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// MaxConns bounds the connections of a machine at once; what is more is refused.
const MaxConns = 1024

// Config is what a Network is made of.
type Config struct {
	Plan    plan.Network
	Secrets []secret.Secret
	Proxies dial.Proxies // through which connections leave the host
	Audit   *audit.Log
	Log     *slog.Logger
	// Budget is what the machine may make us hold; nil for one of the network's own.
	Budget *budget.Budget
	// Ask says whom to ask under plan.EgressAsk; without anybody, nothing is asked.
	Ask Asker
	// Half is called with a published port that another program of this host has on ::1;
	// nil for nobody.
	Half func(p plan.Port)
	// Noticed is called with a port on which a program of the guest begins to listen,
	// unless the user has published it; nil for nobody.
	Noticed func(Listener)
}

// Guest is what is behind published ports. What it says is a guest's, and not trusted.
type Guest interface {
	// Connect connects to a port of the guest.
	Connect(ctx context.Context, port int) (net.Conn, error)
	// Watch calls seen with those of ports on which somebody listens in the guest, at
	// once and whenever that changes, until ctx ends or the guest breaks off.
	Watch(ctx context.Context, ports []int, seen func(listening []int)) error
}

// Network is the network of one machine. Its methods may be called from several
// goroutines.
type Network struct {
	log    *slog.Logger
	half   func(p plan.Port)
	audit  *audit.Log
	dialer *dial.Dialer
	lookup func(ctx context.Context, name string, private bool) ([]netip.Addr, error) // the dialer's
	names  *dns.Responder
	proxy  *intercept.Proxy
	stack  *vnet.Stack // nil in the modes without

	closed <-chan struct{}    // by Close
	cancel context.CancelFunc // closes closed
	work   sync.WaitGroup

	policy atomic.Pointer[policy.Set]
	edit   sync.Mutex     // held while the policy is changed
	once   map[target]int // flows that pass by rules that say Once; guarded by edit

	questions *questions
	noticed   *noticed

	edited chan struct{} // has a value when ports has changed

	mu      sync.Mutex
	guest   Guest // nil until Publish
	flows   map[*flow]struct{}
	private map[*privateConn]struct{}
	ports   map[plan.Port]*published
	// denied has the hosts that are denied by name, by their addresses.
	denied map[netip.Addr]string
	// unknown has those of which nobody could say where they are, since when.
	unknown map[string]time.Time

	lastName   string // the name that was denied last
	lastDenied time.Time
}

// New makes the network of a machine.
func New(cfg Config) (*Network, error) {
	n := &Network{
		log: cfg.Log, half: cfg.Half, audit: cfg.Audit,
		dialer:  dial.New(),
		flows:   make(map[*flow]struct{}),
		private: make(map[*privateConn]struct{}),
		ports:   make(map[plan.Port]*published),
		edited:  make(chan struct{}, 1),
		denied:  make(map[netip.Addr]string),
		unknown: make(map[string]time.Time),
		once:    make(map[target]int), questions: newQuestions(cfg.Ask),
		noticed: newNoticed(cfg.Plan.AutoPorts, cfg.Noticed),
	}
	n.lookup = n.dialer.Lookup
	if cfg.Budget == nil {
		cfg.Budget = budget.New(budget.Default)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.closed, n.cancel = ctx.Done(), cancel
	n.policy.Store(policy.New(cfg.Plan))
	n.dialer.Forbid = n.forbid
	n.dialer.SetProxies(cfg.Proxies)
	if cfg.Plan.Mode == plan.NetworkUser {
		roots, err := rootsOf(cfg.Plan.Authorities)
		if err != nil {
			n.cancel()
			return nil, err
		}
		n.dialer.Roots = roots
		n.names = &dns.Responder{Pool: dns.NewPool(), Decide: n.knows}
		n.proxy, err = intercept.New(intercept.Config{
			Policy:  n.policy.Load,
			Secrets: secret.NewTable(cfg.Secrets),
			Dial:    n.dialName,

			WebProxy: n.webProxy, DialProxy: n.dialer.DialProxy,
			Roots:  roots,
			Denied: n.whyCut,
			Record: n.audit.Record,
			Budget: cfg.Budget,
		})
		if err != nil {
			n.cancel()
			return nil, err
		}
		n.stack = vnet.New(vnet.Config{
			TCP: n.tcp, Datagram: n.datagram, Refused: n.refused, MaxConns: MaxConns,
			Budget: cfg.Budget, MakeRoom: n.makeRoom,
		})
	}
	return n, nil
}

// rootsOf returns who is believed of hosts: nil for those of this computer, which are read
// when the first host is asked, unless there are more.
func rootsOf(authorities []plan.Authority) (*x509.CertPool, error) {
	var roots *x509.CertPool
	for _, a := range authorities {
		if a.System {
			continue
		}
		cert, err := x509.ParseCertificate(a.Certificate)
		if err != nil {
			return nil, fmt.Errorf("the authority %s: %w", a.Subject, err)
		}
		if roots == nil {
			if roots, err = x509.SystemCertPool(); err != nil {
				return nil, fmt.Errorf("read this computer's authorities: %w", err)
			}
		}
		roots.AddCert(cert)
	}
	return roots, nil
}

// Attach connects the socket of a VMM's network card, which it takes over.
func (n *Network) Attach(conn net.Conn) { n.stack.Attach(conn) }

// Authority returns the certificate that a guest has to trust, in PEM; nil in the
// modes without interception.
func (n *Network) Authority() []byte {
	if n.proxy == nil {
		return nil
	}
	return n.proxy.Authority()
}

// Close ends all connections and waits for them.
func (n *Network) Close() {
	n.cancel()
	n.endAuto()
	n.mu.Lock()
	for _, p := range n.ports {
		p.host.Close()
	}
	for f := range n.flows {
		f.endLocked("the machine ended")
	}
	n.mu.Unlock()
	// The proxy's requests write to connections of the stack.
	if n.proxy != nil {
		n.proxy.Close()
	}
	if n.stack != nil {
		n.stack.Close()
	}
	n.work.Wait()
}

// Policy returns the policy that is in force.
func (n *Network) Policy() *policy.Set { return n.policy.Load() }

// Allow adds a rule, also for a host that was denied. One without a port is also for the
// ports of the host about which there are questions.
func (n *Network) Allow(r plan.Rule) {
	n.change("allow "+r.String(), func(p *plan.Network, denied *[]plan.Rule) {
		*denied = slices.DeleteFunc(*denied, func(d plan.Rule) bool {
			return d.Host == r.Host && (d.Port == 0 || d.Port == r.Port)
		})
		p.Allow = append(p.Allow, r)
		if r.Port != 0 {
			return
		}
		for _, t := range n.waiting(r) {
			if t.port != 80 && t.port != 443 {
				asked := r
				asked.Port = int(t.port)
				p.Allow = append(p.Allow, asked)
			}
		}
	})
}

// Deny refuses a host from now on, and takes its rules away. A rule without a port
// stands for all ports.
func (n *Network) Deny(r plan.Rule) {
	n.change("deny "+r.String(), func(p *plan.Network, denied *[]plan.Rule) {
		p.Allow = slices.DeleteFunc(p.Allow, func(a plan.Rule) bool {
			return a.Host == r.Host && (r.Port == 0 || a.Port == r.Port)
		})
		*denied = append(*denied, r)
	})
	n.learnDenied(context.Background())
	n.cutDenied()
}

// SetEgress changes what may be reached without a rule: plan.EgressPublic,
// EgressAllowlist, EgressAsk or EgressNone.
func (n *Network) SetEgress(egress string) {
	n.change("egress "+egress, func(p *plan.Network, _ *[]plan.Rule) { p.Egress, p.Learn = egress, false })
}

// change puts another policy in force and ends what it no longer lets pass.
func (n *Network) change(what string, f func(p *plan.Network, denied *[]plan.Rule)) {
	n.edit.Lock()
	defer n.edit.Unlock()
	n.changeLocked(what, nil, f)
}

// changeLocked is change with edit held. Questions about once are answered by that; what is
// empty for a change that nobody asked for.
func (n *Network) changeLocked(what string, once []target, f func(p *plan.Network, denied *[]plan.Rule)) {
	old := n.policy.Load()
	p, denied := old.Network(), slices.Clone(old.Denied())
	p.Allow = slices.Clone(p.Allow)
	f(&p, &denied)
	n.policy.Store(policy.New(p, denied...))
	if what != "" {
		n.audit.Record(audit.Event{Kind: audit.Policy, Rule: what})
	}
	n.settle(once)
	n.recheck()
}

// knows decides whether the machine may know a name: dns.Responder.Decide.
func (n *Network) knows(ctx context.Context, name, question string) error {
	deny := func(rule, reason string) error {
		if !n.askedAgain(name) {
			n.audit.Record(audit.Event{Kind: audit.Name, Verdict: audit.Deny, Proto: question, Name: name, Rule: rule, Reason: reason})
		}
		return errors.New(reason)
	}
	v := n.policy.Load().Name(name)
	if !v.Allow {
		return deny(v.Rule, v.Reason)
	}
	if why := neverAskedName(name); v.Ask && why != "" {
		return deny(v.Rule, why)
	}
	if v.Bound || name == plan.HostName {
		// It is looked up when somebody connects, and not to find out
		// whether it is there: a question would tell whoever serves it.
		return nil
	}
	if n.dialer.Proxied(name) {
		// Whether there is such a name, the proxy knows.
		if err := n.dialer.CheckProxied(ctx, name, 443, v.Private); err != nil {
			return deny("", err.Error())
		}
		return nil
	}
	addrs, err := n.dialer.Lookup(ctx, name, v.Private)
	switch {
	case errors.Is(err, dial.ErrNotFound):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", dns.ErrFailed, err)
	}
	if err := n.dialer.Check(name, addrs, v.Private); err != nil {
		return deny("", err.Error())
	}
	return nil
}

// askedAgain reports whether the name that was denied last was the same one, a moment
// ago: programs ask for each kind of address.
func (n *Network) askedAgain(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	again := n.lastName == name && time.Since(n.lastDenied) < time.Second
	n.lastName, n.lastDenied = name, time.Now()
	return again
}

// dialName connects to a name for an intercepted connection.
func (n *Network) dialName(ctx context.Context, name string, port uint16) (net.Conn, error) {
	v := n.policy.Load().Connect(name, port)
	if !v.Allow {
		return nil, fmt.Errorf("%w: %s", intercept.ErrDenied, v.Reason)
	}
	if name == plan.HostName {
		return n.dialer.DialLoopback(ctx, port)
	}
	n.learnDenied(ctx)
	var conn net.Conn
	var err error
	if addr, notAddr := netip.ParseAddr(name); notAddr == nil {
		conn, err = n.dialer.DialAddr(ctx, netip.AddrPortFrom(addr, port), v.Private)
	} else {
		conn, err = n.dialer.Dial(ctx, name, port, v.Private)
	}
	if _, ok := errors.AsType[*dial.AddressError](err); ok {
		err = fmt.Errorf("%w: %w", intercept.ErrDenied, err)
	}
	if err == nil && v.Private {
		conn = n.keepPrivate(conn, func(p *policy.Set) policy.Verdict { return p.Connect(name, port) })
	}
	return conn, err
}

// webProxy returns the proxy for a request without TLS, once it may be made.
func (n *Network) webProxy(ctx context.Context, name string, port uint16) (*url.URL, error) {
	proxy := n.webProxyOf(name, port)
	if proxy == nil {
		return nil, nil
	}
	v := n.policy.Load().Connect(name, port)
	if !v.Allow {
		return nil, fmt.Errorf("%w: %s", intercept.ErrDenied, v.Reason)
	}
	n.learnDenied(ctx)
	err := n.dialer.CheckProxied(ctx, name, port, v.Private)
	if _, ok := errors.AsType[*dial.AddressError](err); ok {
		err = fmt.Errorf("%w: %w", intercept.ErrDenied, err)
	}
	return proxy, err
}

func (n *Network) webProxyOf(name string, port uint16) *url.URL {
	if name == plan.HostName {
		return nil
	}
	return n.dialer.WebProxy(name, port)
}

// datagram answers questions for names, whoever they are sent to, and nothing
// else.
func (n *Network) datagram(ctx context.Context, _, dst netip.AddrPort, payload []byte) ([]byte, bool) {
	if isQuestion(dst) {
		return n.names.Answer(ctx, payload), true
	}
	e := audit.Event{
		Kind: audit.Flow, Verdict: audit.Deny, Proto: "udp", Addr: dst.Addr().String(), Port: int(dst.Port()),
		Reason: "no UDP leaves a machine",
	}
	e.Name, _ = n.names.Pool.Name(dst.Addr())
	n.audit.Record(e)
	return nil, false
}

const portDNS = 53

// isQuestion reports whether dst is a place to ask for names.
func isQuestion(dst netip.AddrPort) bool {
	return dst.Port() == portDNS && !dns.Range.Contains(dst.Addr())
}

// isNoise reports whether a packet is one of those that no program of the guest sends.
func isNoise(r link.Refusal) bool {
	switch r.Kind {
	case link.KindICMPError:
		return true // the kernel's answer for a program that ended early
	case link.KindARP:
		return r.Dst.Addr() == vnet.Guest // the kernel announces itself
	case link.KindRARP:
		// QEMU sends it for a guest that was restored, for switches to learn
		// where it is now: net/announce.c.
		return true
	}
	return false
}

// refused records packets that are never let in.
func (n *Network) refused(r link.Refusal) {
	if isNoise(r) {
		return
	}
	e := audit.Event{Kind: audit.Packet, Verdict: audit.Deny, Proto: r.Kind, Port: int(r.Dst.Port())}
	if r.Dst.Addr().IsValid() {
		e.Addr = r.Dst.Addr().String()
		e.Name, _ = n.names.Pool.Name(r.Dst.Addr())
	}
	n.audit.Record(e)
}
