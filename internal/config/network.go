package config

import (
	"bytes"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/suggest"
)

// Network is the section [network].
type Network struct {
	Mode    string   // "none", "user" or "bridge"
	Egress  string   // what may be reached without a rule: "none", "public", "allowlist" or "ask"
	Presets []string // "npm"; may hold a name twice
	Allow   []Rule
	Ports   []Port
	// AutoPorts is what "auto" among the ports means: each port on which a program of the
	// machine listens is forwarded.
	AutoPorts bool
	Proxy     string // "http://proxy.example:3128", "none"; "" for those of the environment
	// TrustHostAuthorities lets the machine trust the authorities that this host trusts
	// beside its distribution's.
	TrustHostAuthorities bool
	Address              string // "192.168.83.6/24", the guest's; mode bridge only
	MAC                  string // "02:00:00:00:00:05", the guest's; mode bridge only
}

// None reports whether the machine gets no network card.
func (n Network) None() bool { return n.Mode == "none" || n.Egress == "none" }

func addPreset(c *Config, s setting) *Error {
	var name string
	if err := asString(s, &name); err != nil {
		return err
	}
	names := presetNames()
	if !slices.Contains(names, name) {
		e := s.errorf("no preset %s; there is %s", shortQuote(name), strings.Join(names, ", "))
		e.Suggestion = suggest.Nearest(name, names)
		return e
	}
	c.Network.Presets = append(slices.Clip(c.Network.Presets), name)
	return nil
}

func addRule(c *Config, s setting) *Error {
	r, err := asRule(s)
	if err != nil {
		return err
	}
	c.Network.Allow = append(slices.Clip(c.Network.Allow), r)
	return nil
}

func addPort(c *Config, s setting) *Error {
	var text string
	if err := asString(s, &text); err != nil {
		return err
	}
	if text == autoPorts {
		c.Network.AutoPorts = true
		return nil
	}
	p, err := parsePort(text)
	if err != nil {
		return s.place(err)
	}
	c.Network.Ports = append(slices.Clip(c.Network.Ports), p)
	return nil
}

// asAddress reads an address on a bridge with the length of its network's
// prefix: "192.168.83.6/24".
// asProxy reads the address of a proxy. A file is shared and shown: passwords are not in
// it.
func asProxy(s setting, dst *string) *Error {
	var v string
	if err := asString(s, &v); err != nil {
		return err
	}
	if v == "none" {
		*dst = v
		return nil
	}
	u, err := url.Parse(v)
	switch {
	case err != nil || strings.Contains(v, "@") || u.User != nil:
		return s.errorf("must be an address such as %q without a user and a password; those come from HTTPS_PROXY", "http://proxy.example:3128")
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return s.errorf("is %s; must be \"none\" or http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT", shortQuote(v))
	}
	*dst = v
	return nil
}

func asAddress(s setting, dst *string) *Error {
	var v string
	if err := asString(s, &v); err != nil {
		return err
	}
	const example = "192.168.83.6/24"
	p, err := netip.ParsePrefix(v)
	if addr, addrErr := netip.ParseAddr(v); addrErr == nil && addr.Is4() {
		e := s.errorf("has no length of a network's prefix, as in %q", example)
		e.Suggestion = v + "/24"
		return e
	}
	switch {
	case err != nil || !p.Addr().Is4():
		return s.errorf("is %s; must be an IPv4 address and the length of its network's prefix, as in %q", shortQuote(v), example)
	case p.Bits() < 8 || p.Bits() > 30:
		return s.errorf("is %q; the network's prefix must have 8 to 30 bits", p)
	case p.Addr() == p.Masked().Addr() || p.Addr() == broadcast(p):
		return s.errorf("is %q, which is the network itself and no machine in it", p)
	}
	*dst = p.String()
	return nil
}

// broadcast returns the last address of an IPv4 network.
func broadcast(p netip.Prefix) netip.Addr {
	a, mask := p.Addr().As4(), net.CIDRMask(p.Bits(), 32)
	for i := range a {
		a[i] |= ^mask[i]
	}
	return netip.AddrFrom4(a)
}

// asMAC reads the address of one Ethernet card: "02:00:00:00:00:05".
func asMAC(s setting, dst *string) *Error {
	var v string
	if err := asString(s, &v); err != nil {
		return err
	}
	mac, err := net.ParseMAC(v)
	switch {
	case err != nil || len(mac) != 6:
		return s.errorf("is %s; must be six bytes, as in \"02:00:00:00:00:05\"", shortQuote(v))
	case mac[0]&1 != 0 || bytes.Equal(mac, make([]byte, 6)):
		return s.errorf("is %q, which is no single card's address: the first byte must be even", mac)
	}
	*dst = mac.String()
	return nil
}
