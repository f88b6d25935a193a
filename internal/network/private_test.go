package network

import (
	"net"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/network/policy"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// elsewhere is a connection to an address that is not public.
type elsewhere struct{ net.Conn }

func (elsewhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 443} }

// A connection to a private address ends with the rule that allowed it, whatever it is in
// use for, also where the name may still be reached.
func TestPrivateEndsWithItsRule(t *testing.T) {
	private := plan.Rule{Host: "a.example", Private: true}
	n, _ := newNetwork(t, plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressPublic, Allow: []plan.Rule{private}})
	connect := func() (conn, theirs net.Conn) {
		ours, theirs := net.Pipe()
		return n.keepPrivate(elsewhere{ours}, func(p *policy.Set) policy.Verdict { return p.Connect("a.example", 443) }), theirs
	}
	closed := func(conn net.Conn) bool {
		return conn.SetDeadline(time.Time{}) != nil
	}
	conn, theirs := connect()
	defer theirs.Close()
	n.SetEgress(plan.EgressAllowlist)
	if closed(conn) {
		t.Error("a connection ends with a change that leaves its rule")
	}
	n.SetEgress(plan.EgressPublic)
	n.Deny(private)
	if !closed(conn) {
		t.Error("a connection to a private address outlives its rule")
	}
	n.Allow(plan.Rule{Host: "a.example"})
	late, theirs2 := connect() // dialed before the change
	defer theirs2.Close()
	if !closed(late) {
		t.Error("a connection that was being made when its rule went is there")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.private) != 0 {
		t.Errorf("%d connections are remembered; want none", len(n.private))
	}
}
