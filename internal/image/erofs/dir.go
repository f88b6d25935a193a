package erofs

import (
	"encoding/binary"
	"errors"
)

// errRootXattrs is about a root that is larger than its place.
var errRootXattrs = errors.New("xattrs of the root do not fit in the first block")

// dirPlan is where a directory goes.
type dirPlan struct {
	layout uint16
	size   int64
	xattrs []byte
	ends   []int  // of each block, as an index into the entries
	block  uint32 // the first one
	blocks int    // without the one behind the inode
}

// packDir splits sorted entries into blocks: each holds its fixed-size records,
// then their names.
func packDir(entries []dirent) (ends []int, size int64) {
	used := 0
	for i, e := range entries {
		need := direntSize + len(e.name)
		if used+need > blockSize {
			ends = append(ends, i)
			used = 0
		}
		used += need
	}
	return append(ends, len(entries)), int64(len(ends))*blockSize + int64(used)
}

// encodeDirents appends one block of a directory to b, without padding.
func encodeDirents(b []byte, entries []dirent) []byte {
	name := direntSize * len(entries)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint64(b, uint64(e.ino.off/inodeAlign))
		b = binary.LittleEndian.AppendUint16(b, uint16(name))
		b = append(b, e.ino.ftype, 0)
		name += len(e.name)
	}
	for _, e := range entries {
		b = append(b, e.name...)
	}
	return b
}

// plan decides about a directory that has room bytes for its inode.
func (d *dirList) plan(room int) (p dirPlan, meta int, err error) {
	if p.xattrs, err = encodeXattrs(d.xattrs); err != nil {
		return p, 0, err
	}
	p.ends, p.size = packDir(d.entries)
	p.blocks = len(p.ends)
	meta = inodeSize + len(p.xattrs)
	tail := int(p.size - int64(len(p.ends)-1)*blockSize)
	if meta+tail <= room {
		p.layout = layoutInline
		p.blocks--
		meta += tail
	}
	return p, meta, nil
}

// entriesOf returns the entries in block i.
func (d *dirList) entriesOf(p *dirPlan, i int) []dirent {
	start := 0
	if i > 0 {
		start = p.ends[i-1]
	}
	return d.entries[start:p.ends[i]]
}

// writeDirs writes all directories: first their inodes with the small ones'
// entries, close together, then the blocks of the large ones. The root goes to
// block0. All inodes get their places before the first byte is written, since
// children name their parents and parents their children.
func (w *Writer) writeDirs(dirs []dirList, block0 []byte) error {
	plans := make([]dirPlan, len(dirs))
	pos := w.end()
	for i := range dirs {
		room := blockSize
		if i == 0 {
			room -= rootOffset
		}
		p, meta, err := dirs[i].plan(room)
		if err != nil {
			return err
		}
		plans[i] = p
		if i == 0 {
			if meta > room {
				return errRootXattrs
			}
			dirs[i].ino.off = rootOffset
			continue
		}
		if inBlock := int(pos % blockSize); inBlock+meta > blockSize {
			pos = alignUp(pos, blockSize)
		}
		dirs[i].ino.off = pos
		pos = alignUp(pos+int64(meta), inodeAlign)
	}
	pos = alignUp(pos, blockSize)
	for i := range plans {
		plans[i].block = uint32(pos / blockSize)
		pos += int64(plans[i].blocks) * blockSize
	}

	start := w.end()
	var area []byte // inodes that are not yet in the buffer
	for i := range dirs {
		b := w.encodeDir(&dirs[i], &plans[i])
		if i == 0 {
			copy(block0[rootOffset:], b)
			continue
		}
		// Whole blocks go out, so that the area stays small.
		if off := dirs[i].ino.off - start; off >= bufferSize {
			full := len(area) &^ (blockSize - 1)
			if err := w.appendBlocks(area[:full]); err != nil {
				return err
			}
			area = append(area[:0], area[full:]...)
			start += int64(full)
		}
		area = append(area, make([]byte, dirs[i].ino.off-start-int64(len(area)))...)
		area = append(area, b...)
	}
	if err := w.appendBlocks(area); err != nil {
		return err
	}
	block := make([]byte, 0, blockSize)
	for i := range dirs {
		for j := range plans[i].blocks {
			block = encodeDirents(block[:0], dirs[i].entriesOf(&plans[i], j))
			if err := w.appendBlocks(block); err != nil {
				return err
			}
		}
	}
	return nil
}

// encodeDir returns a directory's inode with all that follows it.
func (w *Writer) encodeDir(d *dirList, p *dirPlan) []byte {
	w.inodes++
	in := diskInode{
		layout: p.layout,
		xattrs: len(p.xattrs),
		mode:   uint16(d.mode),
		size:   p.size,
		data:   p.block,
		number: w.inodes,
		uid:    d.uid,
		gid:    d.gid,
		mtime:  d.mtime,
		nlink:  d.ino.nlink,
	}
	b := make([]byte, inodeSize, inodeSize+len(p.xattrs))
	in.encode(b)
	b = append(b, p.xattrs...)
	if p.layout == layoutInline {
		b = encodeDirents(b, d.entriesOf(p, len(p.ends)-1))
	}
	return b
}
