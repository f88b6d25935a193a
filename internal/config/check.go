package config

import (
	"maps"
	"slices"
	"strings"
)

// check judges what only all sources together show.
func (m *merger) check() {
	m.checkMode()
	m.checkPorts()
	m.checkSecrets()
	m.checkPassthrough()
}

// fail adds an error about a key, at the place of its element i. A value that no
// source wrote has no place, and nothing is wrong with it alone.
func (m *merger) fail(key string, i int, format string, args ...any) {
	places := m.places[key]
	if i < len(places) {
		m.errs = append(m.errs, setting{origin: places[i], key: key}.errorf(format, args...))
	}
}

// last returns the index of the place that decided a key.
func (m *merger) last(key string) int { return max(0, len(m.places[key])-1) }

// checkMode finds what has no meaning in the network's mode. To ignore it would
// leave its author in the belief that it holds.
func (m *merger) checkMode() {
	n := m.cfg.Network
	if n.Mode != "bridge" {
		for _, key := range []string{"network.address", "network.mac"} {
			m.fail(key, m.last(key), "is for mode = \"bridge\" only; the mode is %q", n.Mode)
		}
	}
	if n.None() || n.Mode != "bridge" {
		return // for none, plan says what is not used: it may be none for once
	}
	const why = `network.mode is "bridge", where nobody looks into connections`
	if n.Egress == "allowlist" || n.Egress == "ask" {
		m.fail("network.egress", m.last("network.egress"), "is %q, but %s", n.Egress, why)
	}
	m.fail("network.allow", 0, "allows what will not be reached: %s", why)
	for _, name := range slices.Sorted(maps.Keys(m.cfg.Secrets)) {
		m.failSecret(name, "would never be sent: %s", why)
	}
}

func (m *merger) checkPorts() {
	ports := m.cfg.Network.Ports
	for i, p := range ports {
		if j := slices.IndexFunc(ports[:i], p.clashes); j >= 0 {
			m.fail("network.ports", i, "%q takes the port of %q", p, ports[j])
		}
	}
}

func (m *merger) checkSecrets() {
	for _, name := range slices.Sorted(maps.Keys(m.cfg.Secrets)) {
		s := m.cfg.Secrets[name]
		switch {
		case !envName.MatchString(name):
			m.failSecret(name, "%s is not a variable's name: letters, digits and _ only", shortQuote(name))
		case m.failed(secretsSection + "." + name + "."):
			// What is missing may only have been wrong.
		case s.From == "":
			m.failSecret(name, "has no value: add from = \"env:%s\", or \"file:PATH\" or \"cmd:COMMAND\"", name)
		case len(s.Hosts) == 0:
			m.failSecret(name, "goes nowhere: add hosts = [\"api.example.org\"]")
		}
		if _, both := m.cfg.Env[name]; both {
			m.failSecret(name, "is in [env], too, where everything in the machine could read it")
		}
	}
}

// failed reports whether there is an error about a key that begins with prefix.
func (m *merger) failed(prefix string) bool {
	return slices.ContainsFunc(m.errs, func(e *Error) bool { return strings.HasPrefix(e.Key, prefix) })
}

// failSecret adds an error about a secret, at the first place that speaks of it.
func (m *merger) failSecret(name, format string, args ...any) {
	table := secretsSection + "." + name
	for _, sub := range secretKeys() {
		if key := table + "." + sub; len(m.places[key]) > 0 {
			err := setting{m.places[key][0], table, nil}.errorf(format, args...)
			m.errs = append(m.errs, err)
			return
		}
	}
}

// checkPassthrough finds rules that leave TLS alone where something else needs
// to see into it. A secret for a single host below a wildcard's is none: it is
// looked into for that host, and plan says so.
func (m *merger) checkPassthrough() {
	rules := m.cfg.Network.Allow
	for i, r := range rules {
		if !r.Passthrough {
			continue
		}
		limit := func(q Rule) bool { return q.Host == r.Host && q.limited() && q.meets(r) }
		if slices.ContainsFunc(rules, limit) {
			m.fail("network.allow", i, "intercept = false for %s hides the methods and paths that another rule limits", r.Host)
		}
		for _, name := range slices.Sorted(maps.Keys(m.cfg.Secrets)) {
			if slices.Contains(m.cfg.Secrets[name].Hosts, r.Host) && r.meets(Rule{Port: 443}) {
				m.fail("network.allow", i, "intercept = false for %s, to which the secret %s goes: it is put in where requests are seen", r.Host, name)
			}
		}
	}
}

// meets reports whether two rules have a port in common.
func (r Rule) meets(q Rule) bool {
	web := func(port int) bool { return port == 80 || port == 443 }
	return r.Port == q.Port || r.Port == 0 && web(q.Port) || q.Port == 0 && web(r.Port)
}
