package dns

import (
	"container/list"
	"encoding/binary"
	"net/netip"
	"sync"
)

// Range is where the addresses of names lie: the range for benchmarks of
// RFC 2544, which leads nowhere on any network.
var Range = netip.MustParsePrefix("198.18.0.0/15")

// MaxNames bounds the names that a Pool holds. A guest that asks for more finds
// those forgotten that it did not use for longest.
const MaxNames = 8192

// Pool gives each name an address of its own. Its methods may be called from
// several goroutines.
type Pool struct {
	mu     sync.Mutex
	next   uint32 // offset in Range
	byName map[string]*list.Element
	byAddr map[netip.Addr]*list.Element
	recent *list.List // of entry, the one that was used last first
}

type entry struct {
	name string
	addr netip.Addr
}

// NewPool returns a pool without names.
func NewPool() *Pool {
	return &Pool{byName: make(map[string]*list.Element), byAddr: make(map[netip.Addr]*list.Element), recent: list.New()}
}

// Addr returns the address of name, and gives it one if it has none.
func (p *Pool) Addr(name string) netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.byName[name]; ok {
		p.recent.MoveToFront(e)
		return e.Value.(entry).addr
	}
	if p.recent.Len() >= MaxNames {
		oldest := p.recent.Remove(p.recent.Back()).(entry)
		delete(p.byName, oldest.name)
		delete(p.byAddr, oldest.addr)
	}
	addr := p.freeLocked()
	e := p.recent.PushFront(entry{name, addr})
	p.byName[name], p.byAddr[addr] = e, e
	return addr
}

// freeLocked returns the address that was given back longest ago: a guest that
// still has an old answer finds nobody there, rather than somebody else.
func (p *Pool) freeLocked() netip.Addr {
	size := uint32(1) << (32 - Range.Bits())
	base := Range.Addr().As4()
	for {
		p.next = (p.next + 1) % size
		if last := byte(p.next); last == 0 || last == 255 {
			continue // some programs take these for networks and broadcasts
		}
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(base[:])+p.next)
		if addr := netip.AddrFrom4(b); p.byAddr[addr] == nil {
			return addr
		}
	}
}

// Name returns the name that has this address.
func (p *Pool) Name(addr netip.Addr) (name string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.byAddr[addr]
	if !ok {
		return "", false
	}
	p.recent.MoveToFront(e)
	return e.Value.(entry).name, true
}
