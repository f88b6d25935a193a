package definition

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Taken are the addresses of machines that are defined.
type Taken struct {
	Addresses map[netip.Addr]string // by address, the machine
	MACs      map[string]string     // by MAC, the machine
}

// maxFile bounds what is read of a definition, in bytes.
const maxFile = 64 << 10

// taken reads what other machines have. A file with errors has what can be read of it:
// nobody can define a machine otherwise until it is repaired.
func (s Store) taken() (Taken, error) {
	t := Taken{make(map[netip.Addr]string), make(map[string]string)}
	all, err := s.List()
	if err != nil {
		return t, err
	}
	for _, d := range all {
		address, mac := d.network()
		if p, err := netip.ParsePrefix(address); err == nil {
			t.Addresses[p.Addr()] = d.Name
		}
		if mac != "" {
			t.MACs[strings.ToLower(mac)] = d.Name
		}
	}
	return t, nil
}

func (d Definition) network() (address, mac string) {
	f, err := os.Open(d.Path)
	if err != nil {
		return "", ""
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return "", ""
	}
	var doc struct {
		Network struct{ Address, MAC any }
	}
	// As far as it goes.
	_ = toml.Unmarshal(data, &doc)
	address, _ = doc.Network.Address.(string)
	mac, _ = doc.Network.MAC.(string)
	return address, mac
}

// Next returns an address of the network of host, and a MAC address, that no machine
// has: the lowest one above the lowest that is taken, so that machines which came with
// addresses of their own, and what follows them, stand together.
func (t Taken) Next(host netip.Prefix) (address netip.Prefix, mac string, err error) {
	network := host.Masked()
	first := network.Addr().Next()
	lowest := netip.Addr{}
	for a := range t.Addresses {
		if network.Contains(a) && (!lowest.IsValid() || a.Less(lowest)) {
			lowest = a
		}
	}
	if lowest.IsValid() {
		first = lowest
	}
	for a := first; network.Contains(a); a = a.Next() {
		if _, ok := t.Addresses[a]; ok || a == host.Addr() || !network.Contains(a.Next()) {
			continue
		}
		mac := macOf(a, network)
		if _, ok := t.MACs[mac]; ok {
			continue
		}
		return netip.PrefixFrom(a, network.Bits()), mac, nil
	}
	return netip.Prefix{}, "", fmt.Errorf("all addresses of %v are taken", network)
}

// macOf returns a locally administered address of the number that a has in its
// network, less one: 02:00:00:00:00:05 for 192.168.83.6/24.
func macOf(a netip.Addr, network netip.Prefix) string {
	n := binary.BigEndian.Uint32(a.AsSlice()) - binary.BigEndian.Uint32(network.Addr().AsSlice()) - 1
	return fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// Check says which other machine has the address or the MAC address already.
func (t Taken) Check(address netip.Prefix, mac string) error {
	if name, ok := t.Addresses[address.Addr()]; ok {
		return fmt.Errorf("machine %s has the address %v already", name, address.Addr())
	}
	if name, ok := t.MACs[strings.ToLower(mac)]; ok && mac != "" {
		return fmt.Errorf("machine %s has the address %s already", name, mac)
	}
	return nil
}
