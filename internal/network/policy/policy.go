// Package policy decides what a machine may reach.
//
// It is pure: a plan.Network goes in, a Set comes out, and a Set answers
// questions about names, connections and requests without looking at anything
// else. It resolves no name and opens no connection. Whether an address that a
// name turned out to have is a public one is asked here, too (Public).
package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/plan"
)

// Set is a policy. It does not change: another policy is another Set.
type Set struct {
	network plan.Network
	names   map[string][]plan.Rule // by exact name
	below   map[string][]plan.Rule // "*.example.org", by "example.org"
	addrs   map[netip.Addr][]plan.Rule
	denied  []plan.Rule
	secrets map[string][]string // hosts of secrets, as in names and below ("*." kept), to the names of the secrets
}

// Verdict is the answer to a question.
type Verdict struct {
	Allow bool
	// Ask says that no rule speaks of a connection, so that the user is to be asked: a name
	// may be known, and a connection waits.
	Ask bool
	// Once says that only the connections may pass that waited for the rule.
	Once bool
	// Intercept says that the connection's TLS is to be ended here, so that
	// each request is seen.
	Intercept bool
	// Private says that the host's addresses need not be public.
	Private bool
	// Bound says that the connection is for this name only, and that what is
	// in it (the name in TLS, the host of a request) must agree.
	Bound bool
	// Limited says that a request is only allowed with this method or path, and so
	// with nothing that gives it another (Override).
	Limited bool
	// Rule is what decided, as a user would write it.
	Rule string
	// Reason says in one line why not.
	Reason string
}

// New returns the policy of a machine's network. denied are rules that win over
// all others.
func New(n plan.Network, denied ...plan.Rule) *Set {
	s := &Set{
		network: n,
		names:   make(map[string][]plan.Rule),
		below:   make(map[string][]plan.Rule),
		addrs:   make(map[netip.Addr][]plan.Rule),
		denied:  denied,
		secrets: make(map[string][]string),
	}
	for _, r := range n.Allow {
		s.add(r)
	}
	for _, secret := range n.Secrets {
		for _, host := range secret.Hosts {
			s.secrets[host] = append(s.secrets[host], secret.Name)
			// Whoever gives a secret to a host means that it is reached.
			if n.Listed() && len(s.rules(host, webTLS)) == 0 {
				s.add(plan.Rule{Host: host, Port: webTLS, From: "secret " + secret.Name})
			}
		}
	}
	return s
}

func (s *Set) add(r plan.Rule) {
	if addr, err := netip.ParseAddr(r.Host); err == nil {
		addr = addr.Unmap()
		s.addrs[addr] = append(s.addrs[addr], r)
	} else if parent, ok := strings.CutPrefix(r.Host, "*."); ok {
		s.below[parent] = append(s.below[parent], r)
	} else {
		s.names[r.Host] = append(s.names[r.Host], r)
	}
}

// Network returns what the policy was made of.
func (s *Set) Network() plan.Network { return s.network }

// Denied returns the rules that win over all others.
func (s *Set) Denied() []plan.Rule { return s.denied }

// The web's ports: those that a rule without one means.
const (
	web    = 80
	webTLS = 443
)

func hasPort(r plan.Rule, port uint16) bool {
	if r.Port == 0 {
		return isWeb(port)
	}
	return r.Port == int(port)
}

func isWeb(port uint16) bool { return port == web || port == webTLS }

// anyPort asks for the rules of a name, whatever their port.
const anyPort = 0

// rules returns the rules for name and port.
func (s *Set) rules(name string, port uint16) []plan.Rule {
	var found []plan.Rule
	add := func(rules []plan.Rule) {
		for _, r := range rules {
			if port == anyPort || hasPort(r, port) {
				found = append(found, r)
			}
		}
	}
	add(s.names[name])
	for parent := range parents(name) {
		add(s.below[parent])
	}
	return found
}

// parents yields the names above name, the nearest first.
func parents(name string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for {
			_, parent, ok := strings.Cut(name, ".")
			if !ok || !yield(parent) {
				return
			}
			name = parent
		}
	}
}

// hasSecret reports whether a secret may be sent to name.
func (s *Set) hasSecret(name string) bool {
	if len(s.secrets[name]) > 0 {
		return true
	}
	for parent := range parents(name) {
		if len(s.secrets["*."+parent]) > 0 {
			return true
		}
	}
	return false
}

// deniedBy returns the rule that forbids the host with this name or address.
func (s *Set) deniedBy(host string, port uint16) (plan.Rule, bool) {
	i := slices.IndexFunc(s.denied, func(r plan.Rule) bool {
		if r.Port != 0 && r.Port != int(port) {
			return false
		}
		if parent, ok := strings.CutPrefix(r.Host, "*."); ok {
			return strings.HasSuffix(host, "."+parent)
		}
		return r.Host == host
	})
	if i < 0 {
		return plan.Rule{}, false
	}
	return s.denied[i], true
}

func deny(rule, format string, args ...any) Verdict {
	return Verdict{Rule: rule, Reason: fmt.Sprintf(format, args...)}
}

const notOnList = "not on the list of allowed hosts"

// public reports whether what no rule speaks of may be reached if it is public.
func (s *Set) public() bool { return s.network.Egress == plan.EgressPublic || s.network.Learn }

// asks reports whether the user is asked about what no rule speaks of.
func (s *Set) asks() bool { return s.network.Egress == plan.EgressAsk && !s.network.Learn }

const ruleAsk = "egress " + plan.EgressAsk

// ask is the verdict on a connection that no rule speaks of.
func ask(format string, args ...any) Verdict {
	v := deny(ruleAsk, format, args...)
	v.Ask = true
	return v
}

// Name decides whether a name is one that the machine may know: whether there is
// a port on which it could be reached.
func (s *Set) Name(name string) Verdict {
	if r, ok := s.deniedBy(name, anyPort); ok {
		return deny("deny "+r.String(), "denied")
	}
	if rules := s.rules(name, anyPort); len(rules) > 0 {
		return Verdict{Allow: true, Private: isPrivate(rules), Rule: rules[0].String(), Bound: !s.public()}
	}
	if name == plan.HostName {
		return deny("", "no rule opens a port of %s", plan.HostName)
	}
	if s.public() {
		return Verdict{Allow: true, Rule: egressRule(s.network)}
	}
	if s.asks() {
		// Bound: nobody but the machine is told of a name that it may have made up.
		return Verdict{Allow: true, Ask: true, Bound: true, Rule: ruleAsk}
	}
	return deny("", notOnList)
}

func egressRule(n plan.Network) string {
	if n.Learn {
		return "learn"
	}
	return "egress " + n.Egress
}

func isPrivate(rules []plan.Rule) bool {
	return slices.ContainsFunc(rules, func(r plan.Rule) bool { return r.Private })
}

// Connect decides on a connection to a name, or to an address that is written as one.
func (s *Set) Connect(name string, port uint16) Verdict {
	if addr, err := netip.ParseAddr(name); err == nil {
		return s.Addr(addr, port)
	}
	if r, ok := s.deniedBy(name, port); ok {
		return deny("deny "+r.String(), "denied")
	}
	rules := s.rules(name, port)
	if len(rules) == 0 {
		switch v := s.Name(name); {
		case !v.Allow:
			return v
		case v.Ask:
			return ask(notOnList)
		case s.asks() && name != plan.HostName:
			return ask("port %d of this host is not allowed", port)
		case !s.public() || name == plan.HostName:
			return deny("", "port %d of this host is not allowed", port)
		case len(s.rules(name, anyPort)) > 0 && !s.network.Learn:
			return deny("", "the rules of this host do not name port %d", port)
		}
		return Verdict{Allow: true, Intercept: isWeb(port) && s.hasSecret(name) || s.judged(port), Rule: egressRule(s.network)}
	}
	v := Verdict{Allow: true, Private: isPrivate(rules), Rule: rules[0].String(), Bound: true, Once: once(rules)}
	passthrough := slices.ContainsFunc(rules, func(r plan.Rule) bool { return r.Passthrough })
	limited := !slices.ContainsFunc(rules, func(r plan.Rule) bool { return !limits(r) })
	switch {
	case name == plan.HostName:
		v.Bound = false // a service on loopback knows nothing of this name
		v.Intercept = limited
	case limited, isWeb(port) && s.hasSecret(name):
		v.Intercept = true
	case passthrough:
	case v.Private:
		// A company's own servers have certificates of the company's, which
		// the host trusts and an image does not.
		v.Intercept = isWeb(port) || slices.ContainsFunc(rules, isMirror)
	default:
		// Without looking into it, nobody knows whom a request on an
		// allowed connection is for.
		v.Intercept = !s.public() && isWeb(port)
	}
	return v
}

// once reports whether all rules are for connections that waited.
func once(rules []plan.Rule) bool {
	return !slices.ContainsFunc(rules, func(r plan.Rule) bool { return !r.Once })
}

// isMirror reports whether a rule is for where packages come from, which is the web
// whatever the port.
func isMirror(r plan.Rule) bool { return strings.HasPrefix(r.From, plan.FromPreset) }

// limits reports whether r lets only some requests pass.
func limits(r plan.Rule) bool { return len(r.Methods) > 0 || len(r.Paths) > 0 }

// Addr decides on a connection to an address that belongs to no name that the
// machine has asked for.
func (s *Set) Addr(addr netip.Addr, port uint16) Verdict {
	addr = addr.Unmap()
	if r, ok := s.deniedBy(addr.String(), port); ok {
		return deny("deny "+r.String(), "denied")
	}
	var v Verdict
	for _, r := range s.addrs[addr] {
		if hasPort(r, port) && (!v.Allow || v.Once) {
			v = Verdict{Allow: true, Private: r.Private, Rule: r.String(), Once: r.Once}
		}
	}
	if v.Allow {
		return v
	}
	if s.public() {
		return Verdict{Allow: true, Intercept: s.judged(port), Rule: egressRule(s.network)}
	}
	if s.asks() {
		return ask("an address and no name")
	}
	return deny("", "an address and no name: only names can be allowed, or a rule for the address")
}

// Request decides on one HTTP request. path is escaped, as in the request.
func (s *Set) Request(name string, port uint16, method, path string) Verdict {
	v := s.Connect(name, port)
	if !v.Allow {
		return v
	}
	rules := s.rules(name, port)
	if len(rules) == 0 {
		return v
	}
	clean, pathErr := CleanPath(path)
	var reason string
	for _, r := range rules {
		switch {
		case len(r.Methods) > 0 && !slices.Contains(r.Methods, method):
			reason = cmp.Or(reason, fmt.Sprintf("the method %s is not allowed here", shorten(method)))
		case len(r.Paths) > 0 && pathErr != nil:
			reason = pathErr.Error()
		case len(r.Paths) > 0 && !slices.ContainsFunc(r.Paths, func(prefix string) bool { return below(clean, prefix) }):
			reason = "this path is not allowed"
		default:
			v.Rule = r.String()
			v.Limited = !slices.ContainsFunc(rules, func(r plan.Rule) bool { return !limits(r) })
			return v
		}
	}
	return deny(rules[0].String(), "%s", reason)
}

// below reports whether path is prefix or something below it.
func below(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || strings.HasSuffix(prefix, "/") || rest[0] == '/')
}

func shorten(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
