package bridge

import (
	"bufio"
	"bytes"
	"net/netip"
	"os"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/ipaddr"
)

// publicResolver is asked by machines whose host has none that they could reach.
const publicResolver = "8.8.8.8"

// Resolver returns the address of a name server for machines on the bridge: the first
// of the host's that is on the public internet, or a public one. That of a home router
// or a company is behind the rules.
func Resolver() string {
	// Where systemd-resolved is, the first names only itself.
	for _, path := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"} {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if addr, ok := publicNameserver(data); ok {
			return addr.String()
		}
	}
	return publicResolver
}

// publicNameserver returns the first name server of a resolv.conf(5) that machines can
// reach.
func publicNameserver(conf []byte) (netip.Addr, bool) {
	lines := bufio.NewScanner(bytes.NewReader(conf))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		addr, err := netip.ParseAddr(fields[1])
		if err != nil || !addr.Is4() {
			continue
		}
		if ipaddr.Public(addr) {
			return addr, true
		}
	}
	return netip.Addr{}, false
}
