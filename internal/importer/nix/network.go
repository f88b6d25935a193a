package nix

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
)

// readNetwork maps the first network card: a user's network of QEMU's is mayfly's own,
// and a tap is a port of the bridge.
func (m *importer) readNetwork() {
	cards, _ := take(m, "microvm.interfaces", m.nixos.Microvm.Interfaces)
	if len(cards) > 1 {
		m.note(Dropped, "microvm.interfaces has %d; a machine has one, and the first was taken", len(cards))
	}
	switch {
	case len(cards) == 0:
		m.Mode = "none"
		return
	case cards[0].Type == "user":
		m.Mode = "user"
		return
	}
	m.Mode = "bridge"
	card := cards[0]
	if card.Type != "tap" {
		m.note(Warning, "microvm.interfaces has one of type %s; the machine gets a port of mayfly's bridge in its place", quote(card.Type))
	}
	if card.ID != "" {
		m.note(Dropped, "the interface's id %s: mayfly names taps itself", quote(card.ID))
	}
	if card.MAC != "" {
		hw, err := net.ParseMAC(card.MAC)
		if err != nil || len(hw) != 6 || hw[0]&1 != 0 {
			m.note(Warning, "the MAC address is %s, which is no single card's", quote(card.MAC))
		} else {
			m.MAC = hw.String()
		}
	}
	m.readAddress()
}

// readAddress finds the address that the guest gives itself, and its gateway.
func (m *importer) readAddress() {
	var addresses, gateways []string
	networks, _ := take(m, "systemd.network.networks", m.nixos.Systemd.Network.Networks)
	for _, name := range slices.Sorted(maps.Keys(networks)) {
		n := networks[name]
		addresses = append(addresses, n.Address...)
		for _, a := range n.Addresses {
			addresses = append(addresses, a.Address)
		}
		addresses = append(addresses, n.NetworkConfig.Address...)
		for _, r := range n.Routes {
			gateways = append(gateways, r.Gateway)
		}
		gateways = append(append(gateways, n.Gateway...), n.NetworkConfig.Gateway...)
	}
	interfaces, _ := take(m, "networking.interfaces", m.nixos.Networking.Interfaces)
	for _, name := range slices.Sorted(maps.Keys(interfaces)) {
		for _, a := range interfaces[name].IPv4.Addresses {
			addresses = append(addresses, fmt.Sprintf("%s/%d", a.Address, a.PrefixLength))
		}
	}
	if gateway, ok := take(m, "networking.defaultGateway", m.nixos.Networking.DefaultGateway); ok {
		gateways = append(gateways, gateway)
	}

	prefix := m.chooseAddress(addresses)
	if !prefix.IsValid() {
		m.note(Warning, "no address of the machine is known: set network.address, or take mode = \"user\"")
		return
	}
	m.Address = prefix.String()
	for _, text := range gateways {
		addr, err := netip.ParseAddr(text)
		if err == nil && addr.Is4() && addr != defaultGateway {
			m.note(Warning, "the gateway is %s: the bridge needs that address (mayfly net up --address %s/%d)", addr, addr, prefix.Bits())
		}
	}
}

// defaultGateway is the address that mayfly's bridge has if nothing else is said.
var defaultGateway = netip.AddrFrom4([4]byte{192, 168, 83, 1})

// chooseAddress returns the first IPv4 address, with the length of its network's prefix.
func (m *importer) chooseAddress(texts []string) (chosen netip.Prefix) {
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		switch {
		case text == "": // of a kind that is not read
		case err != nil:
			m.note(Warning, "the address is %s; it needs the length of its network's prefix, as in \"192.168.83.6/24\"", quote(text))
		case !p.Addr().Is4():
			m.note(Dropped, "the address %s: machines on the bridge have an IPv4 address", p)
		case chosen.IsValid() && p != chosen:
			m.note(Dropped, "the address %s: a machine has one, and %s was taken", p, chosen)
		default:
			chosen = p
		}
	}
	return chosen
}
