package settings

import (
	"encoding/binary"
	"hash/maphash"
)

// Op is what happened to a value.
type Op uint8

// The operations.
const (
	Added Op = iota
	Removed
	Changed
	Moved // in its list; nothing else of it differs
)

// Change is one value that differs.
type Change struct {
	Path     []string // see Entry
	Op       Op
	Old, New string // of what was added, Old is "", and so on
	Line     int    // in the new file; of what was removed in the old one
}

// Key returns the path as people write it.
func (c Change) Key() string { return Key(c.Path) }

// Diff returns what differs, in the order of the new file as far as there is one. The order
// of a table's keys
// does not matter, that of a list's elements does. Elements that differ are compared with
// each other in their order, so that one key of a long element is one change. A nil file
// is one without settings.
func Diff(before, after *File) []Change {
	var none File
	none.root.kind = table
	if before == nil {
		before = &none
	}
	if after == nil {
		after = &none
	}
	d := differ{seed: maphash.MakeSeed()}
	d.sum(&before.root)
	d.sum(&after.root)
	d.compare(nil, &before.root, &after.root)
	return d.changes
}

type differ struct {
	seed    maphash.Seed
	changes []Change
}

// sum gives n and all below it their sums. Names belong to the parent's sum.
func (d *differ) sum(n *node) {
	var h maphash.Hash
	h.SetSeed(d.seed)
	h.WriteByte(byte(n.kind))
	if len(n.children) == 0 {
		h.WriteString(n.value)
		n.sum = h.Sum64()
		return
	}
	var tables uint64
	for i := range n.children {
		c := &n.children[i]
		d.sum(c)
		if n.kind == table {
			// The order of keys does not matter.
			tables += maphash.Comparable(d.seed, [2]uint64{maphash.String(d.seed, c.name), c.sum})
			continue
		}
		h.Write(binary.LittleEndian.AppendUint64(nil, c.sum))
	}
	h.Write(binary.LittleEndian.AppendUint64(nil, tables))
	n.sum = h.Sum64()
}

func (d *differ) compare(path []string, before, after *node) {
	switch {
	case before.kind == table && after.kind == table:
		d.tables(path, before.children, after.children)
	case before.kind == list && after.kind == list:
		d.lists(path, before.children, after.children)
	case before.kind >= table || after.kind >= table:
		d.all(path, before, Removed)
		d.all(path, after, Added)
	case before.kind != after.kind || before.value != after.value:
		d.changes = append(d.changes, Change{Path: path, Op: Changed, Old: before.value, New: after.value, Line: after.line})
	}
}

// tables compares by name; the same name twice is compared in order.
func (d *differ) tables(path []string, before, after []node) {
	at := make(map[string][]int, len(before))
	for i := range before {
		at[before[i].name] = append(at[before[i].name], i)
	}
	for i := range after {
		n := &after[i]
		sub := join(path, n.name)
		if was := at[n.name]; len(was) > 0 {
			at[n.name] = was[1:]
			d.compare(sub, &before[was[0]], n)
			continue
		}
		d.all(sub, n, Added)
	}
	for i := range before {
		n := &before[i]
		if was := at[n.name]; len(was) > 0 && was[0] == i {
			at[n.name] = was[1:]
			d.all(join(path, n.name), n, Removed)
		}
	}
}

// lists finds each element in the other list, then compares what is left in order.
func (d *differ) lists(path []string, before, after []node) {
	path = join(path, Element)
	at := make(map[uint64][]int, len(before))
	for i := range before {
		at[before[i].sum] = append(at[before[i].sum], i)
	}
	found := make([]bool, len(before))
	var left []*node
	last := -1
	for i := range after {
		n := &after[i]
		was := at[n.sum]
		if len(was) == 0 {
			left = append(left, n)
			continue
		}
		at[n.sum] = was[1:]
		found[was[0]] = true
		if was[0] < last {
			d.all(path, n, Moved)
			continue
		}
		last = was[0]
	}
	for i := range before {
		switch {
		case found[i]:
		case len(left) == 0:
			d.all(path, &before[i], Removed)
		default:
			d.compare(path, &before[i], left[0])
			left = left[1:]
		}
	}
	for _, n := range left {
		d.all(path, n, Added)
	}
}

// all reports each value below n.
func (d *differ) all(path []string, n *node, op Op) {
	n.walk(path, func(path []string, n *node) {
		c := Change{Path: path, Op: op, Line: n.line}
		if op != Added {
			c.Old = n.value
		}
		if op != Removed {
			c.New = n.value
		}
		d.changes = append(d.changes, c)
	})
}

// join returns path with one more name, in a slice of its own.
func join(path []string, name string) []string {
	return append(path[:len(path):len(path)], name)
}
