package bridge

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/ipaddr"
)

// tableName is the name of our table of the family inet. Nothing of any other table is
// ever changed.
const tableName = "mayfly"

// priority is just before that of everybody's filters. A packet that we accept still
// has to pass theirs.
const priority = -10

// never are the ranges that are nobody's whom a machine may reach, whatever it is
// allowed: RFC 6890.
func never() []netip.Prefix {
	return prefixes(
		"0.0.0.0/8",      // this network
		"127.0.0.0/8",    // loopback
		"169.254.0.0/16", // link-local; clouds' metadata
		"224.0.0.0/3",    // multicast, reserved, broadcast
	)
}

func prefixes(list ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(list))
	for i, s := range list {
		all[i] = netip.MustParsePrefix(s)
	}
	return all
}

// disjoint returns the prefixes without those that are within others, in order: no two
// intervals of a set may overlap.
func disjoint(list []netip.Prefix) []netip.Prefix {
	list = slices.Clone(list)
	slices.SortFunc(list, comparePrefix)
	var all []netip.Prefix
	for _, p := range list {
		// Prefixes overlap only if one is in the other, and the larger one
		// is sorted first.
		if n := len(all); n == 0 || !all[n-1].Overlaps(p) {
			all = append(all, p)
		}
	}
	return all
}

// upRules puts our table into the place of what there is of it, in one step.
func upRules(cfg Config, undo *undoList) error {
	networks, err := attached(cfg.Name)
	if err != nil {
		return err
	}
	lan := ipaddr.Special4()
	for _, n := range networks {
		lan = append(lan, n.Prefix)
	}
	had, err := hasRules()
	if err != nil {
		return err
	}
	// One batch is one transaction, and the table has to be there to be
	// deleted.
	b := &ruleset{conn: &nftables.Conn{}, cfg: cfg}
	b.table = b.conn.AddTable(newTable())
	b.conn.DelTable(b.table)
	b.conn.AddTable(b.table)
	if err := b.add(disjoint(lan)); err != nil {
		return fmt.Errorf("make the rules of the bridge: %w", err)
	}
	if err := b.conn.Flush(); err != nil {
		return fmt.Errorf("make the rules of the bridge (nftables): %w", err)
	}
	if !had {
		undo.add(func() { downRules() })
	}
	return nil
}

// downRules removes our table.
func downRules() error {
	conn := &nftables.Conn{}
	conn.AddTable(newTable())
	conn.DelTable(newTable())
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("remove the rules of the bridge: %w", err)
	}
	return nil
}

func newTable() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
}

// hasRules reports whether our table is there.
func hasRules() (bool, error) {
	tables, err := (&nftables.Conn{}).ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("list the tables of nftables: %w", err)
	}
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName }), nil
}

// ruleset is our table in the making.
type ruleset struct {
	conn  *nftables.Conn
	cfg   Config
	table *nftables.Table
}

// add adds the chains and their rules. lan are the networks that machines reach only
// if that is allowed. As nft(8) lists it, with the default configuration:
//
//	chain forward {                     # filter hook forward, accept
//		iifname "mayfly0" goto outgoing
//		oifname "mayfly0" goto incoming
//	}
//	chain outgoing {
//		meta nfproto != ipv4 reject
//		ip saddr != 192.168.83.0/24 reject
//		oifname "mayfly0" reject        # by way of the host, past the ports' isolation
//		ip daddr @never reject
//		ip daddr @lan reject
//	}
//	chain incoming {
//		ct state established,related accept
//		drop
//	}
//	chain input {                       # filter hook input, accept
//		iifname "mayfly0" goto to-host
//	}
//	chain to-host {
//		meta nfproto != ipv4 reject
//		ct state established,related accept
//		ip daddr 192.168.83.1 icmp type echo-request accept
//		reject
//	}
//	chain postrouting {                 # nat hook postrouting, accept
//		ip saddr 192.168.83.0/24 oifname != "mayfly0" masquerade
//	}
//
// Each packet of a machine's is judged, also of a connection that was once allowed. No
// rule names the way out: whatever the default route is at the moment will do.
func (b *ruleset) add(lan []netip.Prefix) error {
	neverSet, err := b.set("never", never())
	if err != nil {
		return err
	}
	lanSet, err := b.set("lan", lan)
	if err != nil {
		return err
	}
	name, subnet := b.cfg.Name, b.cfg.Address.Masked()

	outgoing := b.chain("outgoing")
	b.rule(outgoing, notIPv4(), reject())
	b.rule(outgoing, address(source, expr.CmpOpNeq, subnet), reject())
	if b.cfg.Isolate {
		b.rule(outgoing, device(expr.MetaKeyOIFNAME, expr.CmpOpEq, name), reject())
	} else {
		// With br_netfilter also what no more than crosses the bridge.
		b.rule(outgoing, device(expr.MetaKeyOIFNAME, expr.CmpOpEq, name), verdict(expr.VerdictAccept, ""))
	}
	b.rule(outgoing, inSet(neverSet), reject())
	if !b.cfg.AllowLAN {
		b.rule(outgoing, inSet(lanSet), reject())
	}
	incoming := b.chain("incoming")
	b.rule(incoming, known(), verdict(expr.VerdictAccept, ""))
	b.rule(incoming, verdict(expr.VerdictDrop, ""))
	forward := b.baseChain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, priority)
	b.rule(forward, device(expr.MetaKeyIIFNAME, expr.CmpOpEq, name), verdict(expr.VerdictGoto, outgoing.Name))
	b.rule(forward, device(expr.MetaKeyOIFNAME, expr.CmpOpEq, name), verdict(expr.VerdictGoto, incoming.Name))

	toHost := b.chain("to-host")
	b.rule(toHost, notIPv4(), reject())
	b.rule(toHost, known(), verdict(expr.VerdictAccept, ""))
	b.rule(toHost, address(destination, expr.CmpOpEq, netip.PrefixFrom(b.cfg.Address.Addr(), 32)), echoRequest(), verdict(expr.VerdictAccept, ""))
	b.rule(toHost, reject())
	input := b.baseChain("input", nftables.ChainTypeFilter, nftables.ChainHookInput, priority)
	b.rule(input, device(expr.MetaKeyIIFNAME, expr.CmpOpEq, name), verdict(expr.VerdictGoto, toHost.Name))

	postrouting := b.baseChain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource)
	b.rule(postrouting, isIPv4(), address(source, expr.CmpOpEq, subnet), device(expr.MetaKeyOIFNAME, expr.CmpOpNeq, name), expression(&expr.Masq{}))
	return nil
}

func (b *ruleset) chain(name string) *nftables.Chain {
	return b.conn.AddChain(&nftables.Chain{Table: b.table, Name: name})
}

func (b *ruleset) baseChain(name string, typ nftables.ChainType, hook *nftables.ChainHook, prio nftables.ChainPriority) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return b.conn.AddChain(&nftables.Chain{Table: b.table, Name: name, Type: typ, Hooknum: hook, Priority: &prio, Policy: &accept})
}

func (b *ruleset) rule(c *nftables.Chain, parts ...[]expr.Any) {
	b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: c, Exprs: slices.Concat(parts...)})
}

// set adds a set of addresses, given by disjoint prefixes.
func (b *ruleset) set(name string, list []netip.Prefix) (*nftables.Set, error) {
	s := &nftables.Set{Table: b.table, Name: name, KeyType: nftables.TypeIPAddr, Interval: true}
	var elements []nftables.SetElement
	for _, p := range list {
		elements = append(elements, nftables.SetElement{Key: p.Addr().AsSlice()})
		// The first address that is not in it; none for the last interval.
		if end := last(p).Next(); end.IsValid() {
			elements = append(elements, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	return s, b.conn.AddSet(s, elements)
}

// The parts of a rule. Each loads what it compares into register 1, so that they can
// be put together in any order.

func expression(e expr.Any) []expr.Any { return []expr.Any{e} }

func compare(op expr.CmpOp, data []byte) expr.Any {
	return &expr.Cmp{Op: op, Register: 1, Data: data}
}

// device compares the name of an interface, and not its index: it holds also when the
// bridge is made anew.
func device(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, compare(op, append([]byte(name), make([]byte, unix.IFNAMSIZ-len(name))...))}
}

func isIPv4() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, compare(expr.CmpOpEq, []byte{unix.NFPROTO_IPV4})}
}

func notIPv4() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, compare(expr.CmpOpNeq, []byte{unix.NFPROTO_IPV4})}
}

// The offsets of addresses in the header of IPv4, RFC 791 3.1.
const (
	source      = 12
	destination = 16
)

func load(offset uint32) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4}
}

// address compares an address of a packet of IPv4 with a network.
func address(offset uint32, op expr.CmpOp, p netip.Prefix) []expr.Any {
	return []expr.Any{
		load(offset),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: ipNet(p).Mask, Xor: make([]byte, 4)},
		compare(op, p.Masked().Addr().AsSlice()),
	}
}

// inSet looks the destination of a packet of IPv4 up.
func inSet(s *nftables.Set) []expr.Any {
	return []expr.Any{load(destination), &expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID}}
}

// echoRequest matches a ping of IPv4, ICMP's type 8.
func echoRequest() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, compare(expr.CmpOpEq, []byte{unix.IPPROTO_ICMP}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1}, compare(expr.CmpOpEq, []byte{8}),
	}
}

// known matches the packets of connections that were let pass, and errors about them.
func known() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4, Xor: make([]byte, 4),
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED),
		},
		compare(expr.CmpOpNeq, make([]byte, 4)),
	}
}

// reject refuses a packet with an answer, for programs not to wait for a timeout.
func reject() []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}
}

func verdict(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}

// uncoveredNetworks returns the networks that were attached after the rules were made,
// and are in none of their ranges.
func uncoveredNetworks(cfg Config) ([]network, error) {
	if cfg.AllowLAN {
		return nil, nil
	}
	networks, err := attached(cfg.Name)
	if err != nil {
		return nil, err
	}
	conn := &nftables.Conn{}
	elements, err := conn.GetSetElements(&nftables.Set{Table: newTable(), Name: "lan"})
	if err != nil {
		return nil, fmt.Errorf("list the ranges of the rules: %w", err)
	}
	return slices.DeleteFunc(networks, func(n network) bool { return covers(elements, n.Prefix) }), nil
}

// covers reports whether an interval of a set has p in it.
func covers(elements []nftables.SetElement, p netip.Prefix) bool {
	// The interval that p begins in is the one with the last start before.
	var start, end []byte
	first, after := p.Addr().AsSlice(), last(p).Next().AsSlice()
	for _, e := range elements {
		if !e.IntervalEnd && bytes.Compare(e.Key, first) <= 0 && bytes.Compare(e.Key, start) > 0 {
			start = e.Key
		}
	}
	if start == nil {
		return false
	}
	for _, e := range elements {
		if e.IntervalEnd && bytes.Compare(e.Key, start) > 0 && (end == nil || bytes.Compare(e.Key, end) < 0) {
			end = e.Key
		}
	}
	return end == nil || after != nil && bytes.Compare(after, end) <= 0
}
