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
		"168.63.129.16": false, "168.63.129.17": true, "161.26.0.10": false, "161.27.0.1": true,
		"166.8.0.14": false, "166.11.255.255": false, "166.12.0.1": true, "100.100.100.200": false,
		"192.0.0.192": false, "183.60.83.19": false, "199.36.153.8": false, "199.36.153.12": true,
		"fd00:ec2::254": false, "fd20:ce::254": false, "::ffff:168.63.129.16": false,
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
	if len(all) != 22 {
		t.Errorf("%d ranges of IPv4 are special; want 22", len(all))
	}
	for _, p := range all {
		if Public(p.Addr()) {
			t.Errorf("%v is special and public", p)
		}
	}
}

func TestMetadata(t *testing.T) {
	for addr, want := range map[string]bool{
		"169.254.169.254": true, "169.254.170.2": true, "169.254.0.23": true, "::ffff:169.254.169.254": true,
		"100.100.100.200": true, "168.63.129.16": true, "192.0.0.192": true, "fd00:ec2::254": true, "fd00:ec2::23": true,
		"fd20:ce::254": true, "fd00:c1::a9fe:a9fe": true, "fd00:42::42": true, "fd00:a9fe:a9fe::1": true, "fe80::a9fe:a9fe": true,
		"10.1.2.3": false, "100.100.100.201": false, "8.8.8.8": false, "fd00::1": false,
	} {
		if got := Metadata(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Metadata(%s) = %v; want %v", addr, got, want)
		}
	}
}
