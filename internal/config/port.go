package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// autoPorts among the ports stands for all on which programs listen.
const autoPorts = "auto"

// Port makes a port of the machine one of the host: an element of
// network.ports.
type Port struct {
	Address   string // of the host: "127.0.0.1", the default
	HostPort  int    // 0: any that is free
	GuestPort int
}

// ParsePort reads "[ADDRESS:]PORT:GUEST-PORT". An IPv6 address is in brackets;
// without an address the port is for this computer alone.
func ParsePort(text string) (Port, error) {
	p, err := parsePort(text)
	if err != nil {
		return Port{}, err // not the nil pointer of a type
	}
	return p, nil
}

func parsePort(text string) (Port, *Error) {
	const shape = `must be [ADDRESS:]PORT:GUEST-PORT, as in "127.0.0.1:8080:80"`
	if len(text) > 100 {
		return Port{}, wrong("is %s; %s", shortQuote(text), shape)
	}
	rest, guest, ok := cutLast(text, ":")
	if !ok {
		err := wrong("is %s; %s", shortQuote(text), shape)
		if _, bad := parsePortNumber(text); bad == nil {
			err.Suggestion = text + ":" + text
		}
		return Port{}, err
	}
	address, host, ok := cutLast(rest, ":")
	if !ok {
		address, host = "127.0.0.1", rest
	}
	p := Port{}
	var err *Error
	if p.GuestPort, err = parsePortNumber(guest); err != nil {
		return Port{}, err
	}
	if host != "0" {
		if p.HostPort, err = parsePortNumber(host); err != nil {
			return Port{}, err
		}
	}
	addr, suggestion := portAddress(address)
	if !addr.IsValid() {
		err := wrong("%s is no address of this computer; %s", shortQuote(address), shape)
		if suggestion != "" {
			err.Suggestion = suggestion + ":" + host + ":" + guest
		}
		return Port{}, err
	}
	p.Address = addr.String()
	return p, nil
}

// portAddress reads the address that a port is published on, or says what was
// probably meant.
func portAddress(text string) (addr netip.Addr, suggestion string) {
	switch text {
	case "localhost":
		return addr, "127.0.0.1"
	case "", "*":
		return addr, "0.0.0.0"
	}
	inner, bracketed := strings.CutPrefix(text, "[")
	if bracketed {
		inner, bracketed = strings.CutSuffix(inner, "]")
	}
	a, err := netip.ParseAddr(inner)
	switch {
	case err != nil || a.Zone() != "" || a.IsMulticast():
		return addr, ""
	case a.Is6() != bracketed:
		if a.Is6() {
			return addr, fmt.Sprintf("[%s]", a)
		}
		return addr, a.String()
	}
	return a.Unmap(), ""
}

// cutLast slices s around the last separator.
func cutLast(s, separator string) (before, after string, found bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(separator):], true
}

// String returns the port as a user writes it.
func (p Port) String() string {
	address := p.Address
	if strings.Contains(address, ":") {
		address = "[" + address + "]"
	}
	return address + ":" + strconv.Itoa(p.HostPort) + ":" + strconv.Itoa(p.GuestPort)
}

// clashes reports whether p and q cannot both be published: they want the same
// port of the host, on the same address or on all of a family's.
func (p Port) clashes(q Port) bool {
	if p.HostPort != q.HostPort || p.HostPort == 0 || p == q {
		return false
	}
	a, b := netip.MustParseAddr(p.Address), netip.MustParseAddr(q.Address)
	// [::] takes IPv4, too, where bindv6only is 0, as it is on Linux (ipv6(7)).
	all := func(x, y netip.Addr) bool { return x.IsUnspecified() && (x.Is6() || y.Is4()) }
	return a == b || all(a, b) || all(b, a)
}
