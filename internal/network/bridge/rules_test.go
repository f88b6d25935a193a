package bridge

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/nftables"
)

func TestCheck(t *testing.T) {
	tests := []struct {
		name, address string
		ok            bool
	}{
		{"mayfly0", "192.168.83.1/24", true},
		{"mayfly0", "10.0.0.1/8", true},
		{"mayfly0", "172.16.0.5/30", true},
		{"mayfly0", "192.168.83.0/24", false},
		{"mayfly0", "192.168.83.255/24", false},
		{"mayfly0", "172.16.0.5/31", false},
		{"mayfly0", "10.0.0.1/7", false},
		{"mayfly0", "8.8.8.8/24", false},
		{"mayfly0", "fd00::1/64", false},
		{"", "192.168.83.1/24", false},
		{"a-name-too-long-", "192.168.83.1/24", false},
		{"../eth0", "192.168.83.1/24", false},
		{"mf%d", "192.168.83.1/24", false},
	}
	for _, tt := range tests {
		cfg := Config{Name: tt.name, Address: netip.MustParsePrefix(tt.address)}
		if err := cfg.Check(); (err == nil) != tt.ok {
			t.Errorf("Config{%q, %s}.Check() = %v; want ok %t", tt.name, tt.address, err, tt.ok)
		}
	}
	if err := Default().Check(); err != nil {
		t.Errorf("Default().Check() = %v", err)
	}
	if err := (Config{Name: "mayfly0"}).Check(); err == nil {
		t.Error("Check() of a configuration without an address = nil")
	}
}

func TestLast(t *testing.T) {
	for prefix, want := range map[string]string{
		"10.0.0.0/8": "10.255.255.255", "192.168.83.1/24": "192.168.83.255", "172.16.0.0/12": "172.31.255.255",
		"1.2.3.4/32": "1.2.3.4", "1.2.3.4/31": "1.2.3.5", "224.0.0.0/3": "255.255.255.255", "0.0.0.0/0": "255.255.255.255",
	} {
		if got := last(netip.MustParsePrefix(prefix)); got.String() != want {
			t.Errorf("last(%s) = %v; want %s", prefix, got, want)
		}
	}
}

func TestDisjoint(t *testing.T) {
	got := disjoint(prefixes("192.168.83.0/24", "10.9.0.0/24", "10.0.0.0/8", "192.168.0.0/16", "10.0.0.0/8", "93.184.1.0/24", "93.184.0.0/24"))
	want := prefixes("10.0.0.0/8", "93.184.0.0/24", "93.184.1.0/24", "192.168.0.0/16")
	if !slices.Equal(got, want) {
		t.Errorf("disjoint() = %v; want %v", got, want)
	}
}

func TestCovers(t *testing.T) {
	start := func(s string) nftables.SetElement {
		return nftables.SetElement{Key: netip.MustParseAddr(s).AsSlice()}
	}
	end := func(s string) nftables.SetElement {
		e := start(s)
		e.IntervalEnd = true
		return e
	}
	// In no order, as the kernel lists them.
	set := []nftables.SetElement{end("192.169.0.0"), start("10.0.0.0"), start("224.0.0.0"), end("11.0.0.0"), start("192.168.0.0")}
	for prefix, want := range map[string]bool{
		"10.0.0.0/8": true, "10.9.0.0/24": true, "192.168.255.0/24": true, "240.0.0.0/4": true, "255.255.255.255/32": true,
		"9.0.0.0/8": false, "10.0.0.0/7": false, "11.0.0.0/24": false, "93.184.0.0/24": false, "192.0.0.0/8": false,
	} {
		if got := covers(set, netip.MustParsePrefix(prefix)); got != want {
			t.Errorf("covers(%s) = %t; want %t", prefix, got, want)
		}
	}
}

func TestPublicNameserver(t *testing.T) {
	tests := []struct{ conf, want string }{
		{"", "invalid IP"},
		{"# nameserver 9.9.9.9\nsearch example.org\nnameserver 127.0.0.53\n", "invalid IP"},
		{"nameserver 192.168.1.1\nnameserver fe80::1%eth0\nnameserver 9.9.9.9 # ours\nnameserver 1.1.1.1", "9.9.9.9"},
		{"nameserver\nnameserver nonsense\nnameserver 2001:4860::1", "invalid IP"},
	}
	for _, tt := range tests {
		if got, _ := publicNameserver([]byte(tt.conf)); got.String() != tt.want {
			t.Errorf("publicNameserver(%q) = %v; want %s", tt.conf, got, tt.want)
		}
	}
}
