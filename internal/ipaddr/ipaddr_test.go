package ipaddr

import (
	"net/netip"
	"testing"
)

func TestPublic(t *testing.T) {
	for addr, want := range map[string]bool{
		"1.1.1.1": true, "93.184.216.34": true, "2606:4700::1111": true,
		"10.0.0.1": false, "172.16.0.1": false, "172.32.0.1": true, "192.168.0.1": false,
		"127.0.0.1": false, "169.254.169.254": false, "100.64.0.1": false, "198.18.0.1": false,
		"0.0.0.0": false, "255.255.255.255": false, "224.0.0.1": false, "203.0.113.1": false,
		"::1": false, "::": false, "fe80::1": false, "fd00::1": false, "2001:db8::1": false,
		"::ffff:10.0.0.1": false, "::ffff:1.1.1.1": true, "::10.0.0.1": false,
		"64:ff9b::a00:1": false, "2002:a00:1::": false, "ff02::1": false, "4000::1": false,
	} {
		if got := Public(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Public(%s) = %v; want %v", addr, got, want)
		}
	}
	if Public(netip.Addr{}) {
		t.Error("no address is public")
	}
}

func TestSpecial4(t *testing.T) {
	all := Special4()
	if len(all) != 15 {
		t.Errorf("%d ranges of IPv4 are special; want 15", len(all))
	}
	for _, p := range all {
		if Public(p.Addr()) {
			t.Errorf("%v is special and public", p)
		}
	}
}
