package policy

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/plan"
)

// guards reports whether there are hosts for which something else holds than for all that
// is public, so that it matters whom a connection is for.
func (s *Set) guards() bool {
	return len(s.denied) > 0 || len(s.network.Secrets) > 0 || slices.ContainsFunc(s.network.Allow, limits)
}

// judged reports whether the requests on a connection without a rule are looked at for
// the host that they name: those without TLS, which says it once.
func (s *Set) judged(port uint16) bool { return port == web && !s.network.Learn && s.guards() }

// Notes reports whether it matters what a connection without a rule says in TLS: now, or after
// a change that denies a host.
func (s *Set) Notes(port uint16) bool {
	return !s.network.Learn && (port == webTLS || isWeb(port) && s.guards())
}

// Says decides on a connection without a rule to name, the text of an address for none,
// that says in TLS that it is for the host said.
func (s *Set) Says(name, said string, port uint16) Verdict {
	if said == name || said == "" || !isWeb(port) || !s.guards() {
		return Verdict{Allow: true}
	}
	v := s.Connect(strings.TrimSuffix(said, "."), port)
	switch {
	case !v.Allow:
		return deny(v.Rule, "the name in TLS is %s: %s", said, v.Reason)
	case v.Intercept:
		return deny(v.Rule, "the name in TLS is %s, which is to be connected to by its name", said)
	}
	return v
}

// DeniedAddr returns the rule that forbids what is at addr.
func (s *Set) DeniedAddr(addr netip.Addr, port uint16) (plan.Rule, bool) {
	return s.deniedBy(addr.Unmap().String(), port)
}

// DeniedNames returns the rules that forbid a host by its whole name, where all that is public
// can be reached and their addresses are to be known. Elsewhere there are none: what a user
// denies may be the machine's words, and to look one up would tell its servers.
func (s *Set) DeniedNames() []plan.Rule {
	if !s.public() {
		return nil
	}
	var list []plan.Rule
	for _, r := range s.denied {
		if _, err := netip.ParseAddr(r.Host); err != nil && !strings.HasPrefix(r.Host, "*.") && r.Host != plan.HostName {
			list = append(list, r)
		}
	}
	return list
}
