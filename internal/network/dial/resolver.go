package dial

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
)

// resolverFile is where the host names its servers for names.
const resolverFile = "/etc/resolv.conf"

// maxServers is the number of servers that a resolver asks, resolv.conf(5).
const maxServers = 3

// known are the servers for names that the host had at the start. They are asked when the
// file is another one now that may not be read: package net would ask this computer.
type known struct {
	file    string
	open    func(name string) (*os.File, error)
	servers []string
	next    atomic.Uint32
}

// newKnown reads the servers in file.
func newKnown(file string) *known {
	k := &known{file: file, open: os.Open}
	f, err := k.open(file)
	if err != nil {
		return k
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan() && len(k.servers) < maxServers; {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(fields[1]); err == nil {
			k.servers = append(k.servers, netip.AddrPortFrom(addr, 53).String())
		}
	}
	return k
}

// address returns what is to be asked in place of address, in turn.
func (k *known) address(address string) string {
	f, err := k.open(k.file)
	if err == nil {
		f.Close()
	}
	if !errors.Is(err, fs.ErrPermission) || len(k.servers) == 0 {
		return address
	}
	return k.servers[int(k.next.Add(1)-1)%len(k.servers)]
}

// dial is net.Resolver's.
func (k *known) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, network, k.address(address))
}
