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
		"192.0.0.192": false, "183.60.83.19": false, "199.36.153.8": false, "199.36.153.12": false, "199.36.154.1": true,
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

// What clouds publish of addresses at which their machines find services, so that no
// machine of mayfly's finds them there.
func TestClouds(t *testing.T) {
	for _, test := range []struct {
		addr     string
		metadata bool // also with a rule
	}{
		// Amazon, "Use IMDS", "Amazon DNS attributes", "Task metadata endpoint", "Amazon Time Sync".
		{"169.254.169.254", true}, {"fd00:ec2::254", true}, {"169.254.169.253", true}, {"fd00:ec2::253", true},
		{"169.254.170.2", true}, {"169.254.170.23", true}, {"fd00:ec2::23", true}, {"169.254.169.123", true}, {"fd00:ec2::123", true},
		// Google, "About VM metadata", "Configure Private Google Access".
		{"fd20:ce::254", true}, {"199.36.153.4", false}, {"199.36.153.11", false}, {"2600:2d00:2:1000::1", false}, {"2600:2d00:2:2000::1", false},
		// Azure, "What is IP address 168.63.129.16?"
		{"168.63.129.16", true},
		// Alibaba, "Obtain instance metadata" and the resolvers of its private networks.
		{"100.100.100.200", true}, {"100.100.2.136", false}, {"100.100.2.138", false},
		// Tencent, "Viewing instance metadata" and "Private network DNS".
		{"169.254.0.23", true}, {"183.60.83.19", false}, {"183.60.82.98", false},
		// Oracle, "Getting instance metadata", and its Classic.
		{"fd00:c1::a9fe:a9fe", true}, {"169.254.0.2", true}, {"192.0.0.192", true},
		// Linode, "Overview of the Metadata service".
		{"fd00:a9fe:a9fe::1", true},
		// Scaleway, "Using the metadata API".
		{"169.254.42.42", true}, {"fd00:42::42", true},
		// Equinix Metal, "Metadata".
		{"192.80.8.124", true},
		// IBM, "Service endpoints available by using VPE" and "Cloud service endpoints".
		{"161.26.0.10", false}, {"166.8.0.1", false}, {"166.11.255.254", false},
		// OpenStack, "Metadata service": of IPv6. DigitalOcean, Hetzner, Vultr, OVH, Huawei
		// and Exoscale have 169.254.169.254.
		{"fe80::a9fe:a9fe", true},
		// Fly.io, "Machines API", by the private network.
		{"fdaa:0:0::3", false},
	} {
		addr := netip.MustParseAddr(test.addr)
		if Public(addr) || Metadata(addr) != test.metadata {
			t.Errorf("%s: Public = %v, Metadata = %v; want false, %v", addr, Public(addr), Metadata(addr), test.metadata)
		}
	}
}

// An address of IPv4 is what it is in each form of IPv6, also with a rule.
func TestEmbedded(t *testing.T) {
	for form, addrs := range map[string][2]string{ // of 169.254.169.254, and of 10.1.2.3
		"compatible":      {"::169.254.169.254", "::10.1.2.3"},
		"mapped":          {"::ffff:169.254.169.254", "::ffff:10.1.2.3"},
		"translated":      {"::ffff:0:169.254.169.254", "::ffff:0:10.1.2.3"},
		"NAT64":           {"64:ff9b::169.254.169.254", "64:ff9b::10.1.2.3"},
		"local NAT64 /48": {"64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:a01:2:300::"},
		"local NAT64 /56": {"64:ff9b:1:a9:fe:a9fe::", "64:ff9b:1:a:1:203::"},
		"local NAT64 /64": {"64:ff9b:1:0:a9:fea9:fe00:0", "64:ff9b:1:0:a:102:300:0"},
		"local NAT64 /96": {"64:ff9b:1::169.254.169.254", "64:ff9b:1::10.1.2.3"},
		"6to4":            {"2002:a9fe:a9fe::1", "2002:a01:203::1"},
		"Teredo":          {"2001:0:4136:e378:8000:63bf:5601:5601", "2001:0:4136:e378:8000:63bf:f5fe:fdfc"},
		"Teredo's server": {"2001:0:a9fe:a9fe::1", "2001:0:a01:203::1"},
		"ISATAP":          {"2606:4700::5efe:169.254.169.254", "2606:4700::5efe:10.1.2.3"},
		"ISATAP, global":  {"2606:4700::200:5efe:169.254.169.254", "2606:4700::200:5efe:10.1.2.3"},
	} {
		for i, text := range addrs {
			addr := netip.MustParseAddr(text)
			if Public(addr) || Metadata(addr) != (i == 0) {
				t.Errorf("%s: %s: Public = %v, Metadata = %v; want false, %v", form, text, Public(addr), Metadata(addr), i == 0)
			}
		}
	}
	for _, text := range []string{"2606:4700::5efe:93.184.216.34", "2606:4700::1111", "2a00:1450:4001:80b::200e", "93.184.216.34"} {
		if addr := netip.MustParseAddr(text); !Public(addr) || Metadata(addr) {
			t.Errorf("%s: Public = %v, Metadata = %v; want true, false", text, Public(addr), Metadata(addr))
		}
	}
	for _, text := range []string{"::", "::1", "fd00::1", "2606:4700::1111", "10.1.2.3", "::ffff:10.1.2.3"} {
		if got := Embedded(netip.MustParseAddr(text)); got != nil {
			t.Errorf("Embedded(%s) = %v; want none", text, got)
		}
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
