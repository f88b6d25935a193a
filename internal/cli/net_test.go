package cli

import (
	"net/netip"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/network/bridge"
)

// The line that net up prints is the first of net status.
func TestBridgeLine(t *testing.T) {
	var st bridge.Status
	st.Name = "mayfly0"
	if got, want := bridgeLine(st), "bridge   mayfly0: not there"; got != want {
		t.Errorf("bridgeLine() = %q; want %q", got, want)
	}
	st.Up, st.Address = true, netip.MustParsePrefix("192.168.83.1/24")
	if got, want := bridgeLine(st), "bridge   mayfly0, 192.168.83.1/24"; got != want {
		t.Errorf("bridgeLine() = %q; want %q", got, want)
	}
}
