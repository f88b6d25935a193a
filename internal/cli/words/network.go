package words

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Policy says what a running machine may reach, and what it was refused.
func Policy(st mayfly.NetworkState) []Row {
	var r rows
	if st.Mode != "user" {
		r.add("network", "%s", st.Mode)
		return r
	}
	r.add("egress", "%s", st.Egress)
	for _, q := range st.Questions {
		// The name as a whole: its end says whose it is.
		r.add("asks", "%s  (for %s, %s)", hostPort(q.Host, q.Port), time.Since(q.Since).Round(time.Second), Connections(q.Connections))
	}
	for _, rule := range st.Deny {
		r.add("deny", "%s", rule)
	}
	for _, rule := range st.Allow {
		var remarks []string
		if rule.Once {
			remarks = append(remarks, "once")
		}
		if rule.Private {
			remarks = append(remarks, "private")
		}
		if rule.Passthrough {
			remarks = append(remarks, "not intercepted")
		}
		if rule.From != "" {
			remarks = append(remarks, rule.From)
		}
		line := rule.String()
		if len(remarks) > 0 {
			line += "  (" + strings.Join(remarks, ", ") + ")"
		}
		r.add("allow", "%s", line)
	}
	for _, s := range st.Secrets {
		r.add("secret", "%s to %s as %s", s.Name, strings.Join(s.Hosts, ", "), strings.Join(s.Places, ", "))
	}
	if text := Denied(st); text != "" {
		r.add("denied", "%s", text)
	}
	if text := Unattended(st); text != "" {
		r.add("denied", "%s", text)
	}
	if text := Needless(st); text != "" {
		r.add("needless", "%s", text)
	}
	return r
}

// shownDenied is the number of hosts that a summary names.
const shownDenied = 5

// Denied says in one line what a machine was refused, without what its coding agents do not
// need, "" for nothing.
func Denied(st mayfly.NetworkState) string {
	return list(slices.DeleteFunc(slices.Clone(st.Denied), isNeedless), st.MoreDenied)
}

// Needless says in one line what a machine was refused that its coding agents try and do
// not need, "" for nothing.
func Needless(st mayfly.NetworkState) string {
	return list(slices.DeleteFunc(slices.Clone(st.Denied), func(d mayfly.Denied) bool { return !isNeedless(d) }), 0)
}

func isNeedless(d mayfly.Denied) bool { return d.Needless != "" }

func list(all []mayfly.Denied, more int) string {
	var parts []string
	for i, d := range all {
		if i >= shownDenied {
			more += d.Count
			continue
		}
		text := hostPort(d.Host, d.Port)
		if d.Count > 1 {
			text += fmt.Sprintf(" (%d)", d.Count)
		}
		parts = append(parts, text)
	}
	if more > 0 {
		parts = append(parts, fmt.Sprintf("%d more", more))
	}
	return strings.Join(parts, ", ")
}

func hostPort(host string, port int) string {
	host = termsafe.Line(host)
	if port == 0 {
		return host
	}
	return fmt.Sprintf("%s:%d", host, port)
}

// Connections counts them.
func Connections(n int) string {
	if n == 1 {
		return "1 connection"
	}
	return fmt.Sprintf("%d connections", n)
}

// Unattended says that nobody was asked, "" if that did not happen.
func Unattended(st mayfly.NetworkState) string {
	if st.Unattended == 0 {
		return ""
	}
	return Connections(st.Unattended) + " without a question, as nobody was there to answer"
}

// DeniedCount is how often a machine was refused what Denied says.
func DeniedCount(st mayfly.NetworkState) int {
	n := st.MoreDenied
	for _, d := range st.Denied {
		if !isNeedless(d) {
			n += d.Count
		}
	}
	return n
}

// OpenToOthers says that others than the host reach a port; "" if they do not.
func OpenToOthers(p mayfly.Port) string {
	if addr, err := netip.ParseAddr(p.Address); err == nil && addr.IsLoopback() {
		return ""
	}
	return fmt.Sprintf("port %d of the host is open to others (%s)", p.HostPort, p.Address)
}

// Listening says in one line that a program of a machine listens, and what forwards its port;
// "" for one that the user has published.
func Listening(machine string, l mayfly.Listening) string {
	switch {
	case l.Auto:
		return fmt.Sprintf("port %d of %s is localhost:%d", l.Port, machine, l.Port)
	case l.Published:
		return ""
	}
	hostPort := l.Port
	if l.Port < 1024 || l.Why == "taken" || l.Why == "failed" {
		hostPort = 0 // any that is free
	}
	return fmt.Sprintf("a program in %s listens on port %d%s: mayfly port %s add %d:%d", machine, l.Port, whyNot[l.Why], machine, hostPort, l.Port)
}

// whyNot says why a port is not forwarded by itself.
var whyNot = map[string]string{
	"low":        ", which is below 1024 and not taken by itself",
	"well-known": ", at which programs here expect a service of their own",
	"taken":      ", which another program here has or had",
	"closed":     ", whose publication you have ended",
	"many":       ", and enough ports are forwarded",
	"failed":     ", which could not be had here",
}

// ListeningOf says in one line what Listening says of the ports of a machine, "" for nothing.
func ListeningOf(i mayfly.Info) string {
	var here, there []string
	for _, l := range i.Listening {
		port := strconv.Itoa(l.Port)
		switch {
		case l.Auto:
			here = append(here, "localhost:"+port)
		case !l.Published:
			there = append(there, port)
		}
	}
	var parts []string
	if len(here) > 0 {
		parts = append(parts, "its programs are at "+some(here))
	}
	switch len(there) {
	case 0:
	case 1:
		l := i.Listening[slices.IndexFunc(i.Listening, func(l mayfly.Listening) bool { return !l.Published && !l.Auto })]
		parts = append(parts, Listening(i.Name, l))
	default:
		parts = append(parts, fmt.Sprintf("its programs listen on ports %s: mayfly port %s", some(there), i.Name))
	}
	return strings.Join(parts, "; ")
}

// shownPorts is the number of ports that a line names.
const shownPorts = 6

// some names the first of all.
func some(all []string) string {
	text := strings.Join(all[:min(len(all), shownPorts)], ", ")
	if more := len(all) - shownPorts; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// Learned returns a configuration that allows the hosts that a machine reached, for its
// user to review in the file path.
func Learned(machine, path string, hosts []mayfly.Reached) string {
	var reached, refused []string
	for _, r := range hosts {
		if r.Refused == "" {
			reached = append(reached, fmt.Sprintf("\t%q,\n", r.Rule))
		} else {
			refused = append(refused, fmt.Sprintf("#   %q: %q\n", r.Rule, r.Refused))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# What machine %s reached. Review it before you use it:\n# mayfly run --config %s\nversion = 1\n\n[network]\negress = \"allowlist\"\nallow = [\n%s]\n",
		machine, path, strings.Join(reached, ""))
	if len(refused) > 0 {
		fmt.Fprintf(&b, "\n# It was refused:\n%s", strings.Join(refused, ""))
	}
	return b.String()
}
