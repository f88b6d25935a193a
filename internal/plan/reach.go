package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/credential"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/ipaddr"
)

// NewRule returns a rule of the configuration as one of a plan.
func NewRule(r config.Rule) Rule {
	return Rule{
		Host: r.Host, Port: r.Port, Methods: slices.Clone(r.Methods), Paths: slices.Clone(r.Paths),
		Private: r.Private, Passthrough: r.Passthrough,
	}
}

// NewPort returns a port of the configuration as one of a plan.
func NewPort(p config.Port) Port {
	return Port{Address: p.Address, HostPort: p.HostPort, GuestPort: p.GuestPort}
}

// network decides what the machine can reach, and what of it can be reached.
func (b *builder) network(learn bool) {
	cfg, n := b.cfg.Network, &b.plan.Network
	n.Mode = cfg.Mode
	if cfg.None() {
		n.Mode = NetworkNone
	}
	n.AutoPorts = cfg.AutoPorts
	for _, p := range cfg.Ports {
		if slices.Contains(n.Ports, NewPort(p)) {
			continue // a file and a flag may agree
		}
		n.Ports = append(n.Ports, NewPort(p))
		if addr, err := netip.ParseAddr(p.Address); err == nil && !addr.IsLoopback() {
			b.note("port %d of this computer is open to others (%s)", p.HostPort, p.Address)
		}
	}
	if learn && n.Mode != NetworkUser {
		b.fail(fault.New(fault.NothingToLearn, fault.Args{"mode": n.Mode}, "there is nothing to learn with the network %q", n.Mode))
	}
	if n.Mode != NetworkNone && cfg.TrustHostAuthorities {
		for _, a := range b.facts.Authorities {
			n.Authorities = append(n.Authorities, Authority(a))
		}
		if more := b.facts.AuthoritiesOmitted; more > 0 {
			b.note("%d more certificate authorities of this computer are not trusted in the machine; they are too many", more)
		}
	}
	switch n.Mode {
	case NetworkNone:
		if rules, secrets := len(cfg.Allow), len(b.cfg.Secrets); rules+secrets > 0 {
			b.note("no network: what [network] allows and [secrets] are not used")
		}
	case NetworkBridge:
		b.bridge()
	case NetworkUser:
		// -netdev stream is of 7.2.
		if q := b.facts.QEMU; q.Path != "" && !q.Version.AtLeast(7, 2, 0) {
			b.fail(fault.New(fault.QEMUWithoutNetwork, fault.Args{"path": q.Path, "version": q.Version.String()},
				"%s is QEMU %v; a machine with a network needs 7.2", q.Path, q.Version))
		}
		n.Egress, n.Learn, n.Proxy = cfg.Egress, learn, cfg.Proxy
		for _, r := range cfg.Allow {
			n.Allow = append(n.Allow, NewRule(r))
		}
		for _, name := range slices.Compact(slices.Sorted(slices.Values(cfg.Presets))) {
			b.preset(name)
		}
		for _, name := range slices.Sorted(maps.Keys(b.cfg.Secrets)) {
			s := b.cfg.Secrets[name]
			n.Secrets = append(n.Secrets, Secret{
				Name: name, From: s.From, Hosts: slices.Clone(s.Hosts), Places: b.secretPlaces(name, s),
				AllowForeign: s.Foreign == "allow", Pass: slices.Clone(s.Pass),
			})
		}
	}
}

// lend gives the coding agents of the image the log-ins that the host keeps, each to the
// hosts of its provider and no others. What the user gives the machine in their place wins.
func (b *builder) lend(logins map[string]Login) {
	n := &b.plan.Network
	n.NoLogins = !b.cfg.Agent.Login
	if n.NoLogins || n.Mode != NetworkUser {
		return
	}
	for _, name := range b.plan.Image.Agents {
		agent, ok := codingagent.Find(name)
		l := logins[name]
		key, known := l.key(agent)
		if !ok || !known || b.hasOwnKey(agent, key) {
			continue
		}
		s := config.Secret{From: FromLogin + name, Hosts: key.Hosts}
		lent := Secret{
			Name: key.Variable, From: s.From, Hosts: slices.Clone(s.Hosts), Places: b.secretPlaces(key.Variable, s),
			Renewed: l.Subscription,
		}
		if l.Subscription {
			lent.Withheld = slices.Clone(agent.Subscription.Withheld)
			b.addEnv(agent.Subscription.Env(l.Account))
		}
		n.Secrets = append(n.Secrets, lent)
		b.note("%s works with its log-in of this computer: requests to %s get it, the machine does not", agent.Title, strings.Join(key.Hosts, " and "))
	}
	slices.SortFunc(n.Secrets, func(x, y Secret) int { return strings.Compare(x.Name, y.Name) })
}

// key returns how the agent takes the log-in, false if it does not.
func (l Login) key(agent codingagent.Agent) (codingagent.Key, bool) {
	if s := agent.Subscription; l.Subscription && s != nil {
		return codingagent.Key{Variable: s.Variable, Hosts: s.Hosts}, s.Variable == l.Variable
	}
	i := slices.IndexFunc(agent.Keys, func(k codingagent.Key) bool { return k.Variable == l.Variable })
	if i < 0 || l.Subscription {
		return codingagent.Key{}, false
	}
	return agent.Keys[i], true
}

// hasOwnKey reports whether the user gives the machine a key for an agent, or a secret for
// its provider.
func (b *builder) hasOwnKey(agent codingagent.Agent, key codingagent.Key) bool {
	for name, s := range b.cfg.Secrets {
		toProvider := slices.ContainsFunc(s.Hosts, func(host string) bool {
			return slices.ContainsFunc(key.Hosts, func(own string) bool {
				return own == host || credential.Covers(own, host) || credential.Covers(host, own)
			})
		})
		if agent.TakesKey(name) || toProvider {
			return true
		}
	}
	for name := range b.plan.Guest.Env {
		if agent.TakesKey(name) {
			return true
		}
	}
	return slices.ContainsFunc(b.plan.Network.Secrets, func(s Secret) bool { return s.Name == key.Variable })
}

// secretPlaces returns where requests carry a secret: where its user says, else where its
// hosts are known to take it, else where most do, and then a note says so.
func (b *builder) secretPlaces(name string, s config.Secret) []credential.Place {
	if len(s.Places) > 0 {
		return slices.Clone(s.Places)
	}
	var places []credential.Place
	var guessed []string
	for _, host := range s.Hosts {
		at, known := config.Places(host)
		if !known {
			guessed = append(guessed, host)
		}
		for _, p := range at {
			p.Host = host
			places = append(places, p)
		}
	}
	if len(guessed) > 0 {
		b.note("secret %s: its place in requests to %s is not known, so it goes as a bearer token or in a header for keys such as x-api-key; header, bearer, basic or query in [secrets.%s] names the place",
			name, strings.Join(guessed, ", "), name)
	}
	return places
}

// bridge decides about a machine on the host's bridge, whose user gives it its address.
func (b *builder) bridge() {
	cfg, n := b.cfg.Network, &b.plan.Network
	if cfg.Address == "" {
		b.fail(fault.New(fault.AddressMissing, nil, "a machine on the bridge needs an address"))
		return
	}
	n.Address, n.MAC = cfg.Address, cfg.MAC
	if n.MAC == "" {
		// Locally administered, and as unique as the address.
		ip := netip.MustParsePrefix(cfg.Address).Addr().As4()
		n.MAC = fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", ip[0], ip[1], ip[2], ip[3])
	}
}

// preset lets the machine reach what a preset names. Where everything public may be
// reached, that needs no rule, and one would only forbid the host's other ports.
func (b *builder) preset(name string) {
	n := &b.plan.Network
	from := FromPreset + name
	all := config.Presets()
	i := slices.IndexFunc(all, func(p config.Preset) bool { return p.Name == name })
	if i < 0 {
		return // config knows no other
	}
	listed := n.Listed()
	if !all[i].Packages() {
		if listed {
			for _, r := range all[i].Rules {
				rule := NewRule(r)
				rule.From = from
				b.allowPreset(rule)
			}
		}
		return
	}
	found := false
	for _, m := range b.facts.Mirrors {
		if m.Preset != name {
			continue
		}
		found = found || m.Host != ""
		if onLoopback(m.Addrs) {
			b.note("%s: a machine cannot reach %s, which is on this computer's loopback interface; --allow %s:%d lets it reach the service by that name", name, m.URL, HostName, m.Port)
			continue
		}
		b.addEnv(m.Env)
		if m.Host == "" {
			continue
		}
		private := privateAddr(m.Addrs)
		if !listed && private == "" {
			continue
		}
		switch added := b.allowPreset(Rule{Host: m.Host, Port: m.Port, Private: private != "", From: from}); {
		case private != "" && added:
			b.note("%s: %s (%s) is not public; the preset lets the machine reach its port %d", name, m.Host, private, m.Port)
		case private != "" && !b.ownPrivate(m.Host):
			b.note("%s: %s (%s) is not public; your own rule for it decides, and has to say private = true", name, m.Host, private)
		}
	}
	if listed && !found {
		b.note("preset %s: this computer names no place to get %s from; --allow HOST lets the machine reach yours", name, strings.TrimSuffix(all[i].For, "s")+"s")
	}
}

// allowPreset adds a rule of a preset and reports whether it did: where the user has a
// rule for the host and port, that alone decides. It may limit what the preset would not.
func (b *builder) allowPreset(r Rule) bool {
	n := &b.plan.Network
	own := func(q config.Rule) bool {
		return q.Host == r.Host && (q.Port == r.Port || q.Port == 0 && (r.Port == 80 || r.Port == 443))
	}
	if slices.ContainsFunc(b.cfg.Network.Allow, own) {
		return false
	}
	n.Allow = append(n.Allow, r)
	return true
}

// ownPrivate reports whether the user lets a host have private addresses.
func (b *builder) ownPrivate(host string) bool {
	return slices.ContainsFunc(b.cfg.Network.Allow, func(q config.Rule) bool { return q.Host == host && q.Private })
}

// onLoopback reports whether a mirror is a service for its computer alone.
func onLoopback(addrs []string) bool {
	return slices.ContainsFunc(addrs, func(text string) bool {
		addr, err := netip.ParseAddr(text)
		return err == nil && addr.IsLoopback()
	})
}

// privateAddr returns the first of addrs that is not public, "" if all are.
func privateAddr(addrs []string) string {
	for _, text := range addrs {
		if addr, err := netip.ParseAddr(text); err == nil && !ipaddr.Public(addr) {
			return text
		}
	}
	return ""
}

// addEnv adds variables to those of the guest, unless the user has set them.
func (b *builder) addEnv(env map[string]string) {
	for name, value := range env {
		if _, ok := b.plan.Guest.Env[name]; ok {
			continue
		}
		if b.plan.Guest.Env == nil {
			b.plan.Guest.Env = make(map[string]string)
		}
		b.plan.Guest.Env[name] = value
	}
}
