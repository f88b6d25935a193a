package workspace

import (
	"strconv"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// What a change takes of the memory until it is applied, beside its names, and how often
// these are there at once. It is measured, not counted: see TestMemory of internal/cli.
const (
	changeMemory = 1100
	namesMemory  = 4
	// The same until it is known whether it is left: see Left.
	listedMemory      = 500
	listedNamesMemory = 2
)

// CheckCount refuses a list of so many changes, whose names have so many bytes, if it may take
// more than so much memory.
func CheckCount(changes, bytes, memory int64) error {
	return checkCount(changes, bytes, changes*changeMemory+bytes*namesMemory, memory)
}

// CheckListed is CheckCount for what the guest lists, some of which may be left: as many as
// it has counted, for which there is a place.
func (o *DiffOptions) CheckListed(changes, bytes int64) error {
	if o.Leave == nil || o.Count == nil || changes > o.Count() {
		return CheckCount(changes, bytes, o.Memory)
	}
	return checkCount(changes, bytes, changes*listedMemory+bytes*listedNamesMemory, o.Memory)
}

func checkCount(changes, bytes, need, memory int64) error {
	if changes > maxChanges || bytes > maxChangeBytes {
		return fault.New(fault.ChangesTooMany, fault.Args{"limit": strconv.Itoa(maxChanges)},
			"%w: it has more than %d entries or %d MiB of names", errChanges, maxChanges, maxChangeBytes>>20)
	}
	if need > memory {
		return fault.New(fault.ChangesMemory, fault.Args{"limit": formatSize(memory)},
			"%w: it has more than %d entries and %s of names, which may take more than %s of memory", errChanges, changes-1, formatSize(bytes), formatSize(memory))
	}
	return nil
}
