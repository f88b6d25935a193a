package network

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// Bounds of what is known of hosts that are denied.
const (
	maxDeniedAddrs  = 4096
	deniedNamesTime = 3 * time.Second
	deniedLookups   = 16               // at once
	deniedAgain     = 10 * time.Second // when nobody could say where a host is
)

// learnDenied looks up where the hosts are that are denied by name: what is there is
// denied under other names, too. Answers change, and those of before hold. Whose servers
// never answer holds up neither the others nor, each time, who connects.
func (n *Network) learnDenied(ctx context.Context) {
	rules := n.policy.Load().DeniedNames()
	if len(rules) == 0 {
		return
	}
	limited, cancel := context.WithTimeout(ctx, deniedNamesTime)
	defer cancel()
	var work sync.WaitGroup
	defer work.Wait()
	slots := make(chan struct{}, deniedLookups)
	for _, r := range rules {
		n.mu.Lock()
		failed := n.unknown[r.Host]
		n.mu.Unlock()
		if time.Since(failed) < deniedAgain {
			continue // it leads nowhere
		}
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			if limited.Err() != nil {
				return // it is asked for the next time
			}
			addrs, err := n.lookup(limited, r.Host, false)
			n.mu.Lock()
			defer n.mu.Unlock()
			if err != nil {
				if ctx.Err() == nil { // else it had no time to answer
					n.unknown[r.Host] = time.Now()
				}
				return
			}
			for _, addr := range addrs {
				if len(n.denied) < maxDeniedAddrs {
					n.denied[addr] = r.Host
				}
			}
		})
	}
}

// forbid is dial.Dialer.Forbid: why no connection for name may end at an address. Whoever
// wrote a rule for the name decided for what is there.
func (n *Network) forbid(name string, to netip.AddrPort) string {
	p := n.policy.Load()
	if name != "" && p.Connect(name, to.Port()).Bound {
		return ""
	}
	if _, ok := p.DeniedAddr(to.Addr(), to.Port()); ok {
		return "denied"
	}
	n.mu.Lock()
	host, known := n.denied[to.Addr().Unmap()]
	n.mu.Unlock()
	// It may have been allowed again.
	if known && !p.Connect(host, to.Port()).Allow {
		return "that of " + host + ", which is denied"
	}
	return ""
}

// whyCut returns why what is under way to the host with this name, at an address, is to
// end; "" if it may go on.
func (n *Network) whyCut(name string, to netip.AddrPort) string {
	if why := n.forbid(name, to); why != "" {
		return "the address is " + why
	}
	return ""
}

// cutDenied ends the flows, and the requests in them, to where something is denied.
func (n *Network) cutDenied() {
	if n.proxy != nil {
		n.proxy.Cut(n.whyCut)
	}
	n.mu.Lock()
	flows := make(map[*flow]netip.AddrPort)
	for f := range n.flows {
		if f.host.IsValid() {
			flows[f] = f.host
		}
	}
	n.mu.Unlock()
	for f, host := range flows {
		f.cutAt(host)
	}
}

// reached notes at which address the flow has ended up. That was checked when it was begun,
// and a host may take long to answer: what was denied meanwhile ends it.
func (f *flow) reached(host netip.AddrPort) {
	// Known first, and then the policy is asked: no change of it can fall in between.
	f.network.mu.Lock()
	f.host = host
	f.network.mu.Unlock()
	f.cutAt(host)
}

// cutAt ends the flow, which is to this address, if that is denied.
func (f *flow) cutAt(host netip.AddrPort) {
	n := f.network
	if why := n.whyCut(f.name, host); why != "" {
		n.mu.Lock()
		f.endLocked(cutReason + why)
		n.mu.Unlock()
	}
}
