package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/mayfly-vm/mayfly/internal/plan"
)

// The fields of ext4's superblock, and of a descriptor of a group of blocks, that say how
// large a file system is: disk layout in the kernel's documentation.
const (
	superAt   = 1024
	superSize = 1024

	superInodes       = 0x00
	superBlocks       = 0x04
	superFreeBlocks   = 0x0c
	superFreeInodes   = 0x10
	superBlockSize    = 0x18 // as a shift of 1024
	superGroupBlocks  = 0x20
	superGroupInodes  = 0x28
	superMagic        = 0x38
	superChecksums    = 0x64 // read-only features, of which two have checksums
	superDescriptor   = 0xfe
	superBlocksHigh   = 0x150
	superFreeHigh     = 0x158
	superOverhead     = 0x248
	checksumFeatures  = 0x10 | 0x400
	groupFreeBlocks   = 0x0c
	groupFreeInodes   = 0x0e
	groupFreeHigh     = 0x2c
	groupFreeInodesHi = 0x2e
	groupLongest      = 64
)

// LimitScratch makes the file at path, a copy of a Store's scratch disk that nobody has
// written, one of size bytes at most, a multiple of plan.DiskStep: neither its file system
// nor a guest that writes past that can take more. It is made small, and not made anew: a
// copy shares its blocks with the original, and mkfs.ext4 would take a part of every start.
// What describes the groups beyond the end stays where it is, and is lost to the guest.
func LimitScratch(path string, size int64) error {
	if size >= plan.DiskSize {
		return nil
	}
	if size < plan.MinDisk || size%plan.DiskStep != 0 {
		return fmt.Errorf("limit the scratch disk: %d bytes", size)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(limit(f, size), f.Close()); err != nil {
		return fmt.Errorf("limit the scratch disk: %w", err)
	}
	return nil
}

func limit(f *os.File, size int64) error {
	super := make([]byte, superSize)
	if _, err := f.ReadAt(super, superAt); err != nil {
		return err
	}
	le := binary.LittleEndian
	get := func(at int) int64 { return int64(le.Uint32(super[at:])) }
	put := func(at int, v int64) { le.PutUint32(super[at:], uint32(v)) }
	descriptor := int64(le.Uint16(super[superDescriptor:]))
	if le.Uint16(super[superMagic:]) != 0xef53 || get(superBlockSize) != 2 || get(superChecksums)&checksumFeatures != 0 ||
		descriptor != groupLongest || get(superBlocksHigh) != 0 {
		return errors.New("it is not what mayfly has made")
	}
	const block = 4096
	perGroup, inodes := get(superGroupBlocks), get(superGroupInodes)
	groups := size / block / perGroup
	if groups*perGroup*block != size || groups*perGroup > get(superBlocks) {
		return errors.New("it has groups of another size")
	}
	table := make([]byte, groups*descriptor)
	if _, err := f.ReadAt(table, block); err != nil {
		return err
	}
	var free, freeInodes int64
	for g := range groups {
		d := table[g*descriptor:]
		free += int64(le.Uint16(d[groupFreeBlocks:])) | int64(le.Uint16(d[groupFreeHigh:]))<<16
		freeInodes += int64(le.Uint16(d[groupFreeInodes:])) | int64(le.Uint16(d[groupFreeInodesHi:]))<<16
	}
	if overhead := get(superOverhead); overhead != 0 { // what is not data: all that is taken, but for the first directories
		put(superOverhead, groups*perGroup-free-(get(superBlocks)-get(superFreeBlocks)-overhead))
	}
	put(superBlocks, groups*perGroup)
	put(superInodes, groups*inodes)
	put(superFreeBlocks, free)
	put(superFreeHigh, 0)
	put(superFreeInodes, freeInodes)
	if _, err := f.WriteAt(super, superAt); err != nil {
		return err
	}
	return f.Truncate(size)
}
