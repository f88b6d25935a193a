package erofs

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"golang.org/x/sys/unix"
)

// The on-disk format, as far as it is used here: fs/erofs/erofs_fs.h and
// Documentation/filesystems/erofs.rst of the Linux kernel. All numbers are
// little endian.
const (
	blockBits = 12
	blockSize = 1 << blockBits // the one that every kernel's EROFS can mount

	superOffset = 1024
	superSize   = 128
	superMagic  = 0xE0F5E1E2

	// The root directory's number has 16 bits only, so its inode sits right
	// behind the superblock.
	rootOffset = superOffset + superSize

	compatChecksum = 1 << 0
	compatMTime    = 1 << 1 // times are modification times
	incompatChunks = 1 << 2 // Linux 5.15

	inodeSize  = 64 // the "extended" form; the 32-byte one has no times
	inodeAlign = 32 // an inode's number ("nid") is its offset in these units

	inodeExtended = 1 << 0 // in i_format; the layout follows it
	layoutPlain   = 0      // whole blocks
	layoutInline  = 2      // whole blocks, and the tail behind the inode
	layoutChunks  = 4      // a table of block addresses behind the inode

	chunkBitsMask = 0x1f
	nullBlock     = 0xffffffff // a chunk that is a hole

	inodeNlinkOffset = 44

	direntSize = 12

	xattrHeaderSize = 12
	xattrEntrySize  = 4
)

// Limits of this package. Those of names and paths are Linux's own.
const (
	maxName     = 255
	maxPath     = 4095    // bounds the depth as well
	maxFileSize = 1 << 44 // 32-bit block numbers end here

	// maxTree bounds the memory for the names in an image, which a hostile
	// archive can make many with few bytes. It is enough for some five million.
	maxTree = 1 << 30

	// treeEntry is about what an entry costs on top of its strings, and a
	// directory even more.
	treeEntry = 160

	// defaultMaxSize bounds the content of an image where the caller does not.
	defaultMaxSize = 256 << 30
)

// rootNID is the root directory's inode number.
const rootNID = rootOffset / inodeAlign

// diskInode is an inode as it is stored.
type diskInode struct {
	layout   uint16
	xattrs   int // bytes of xattrs behind the inode, 0 or more than xattrHeaderSize
	mode     uint16
	size     int64
	data     uint32 // first block, device number or chunk format
	number   uint32 // for 32-bit stat only
	uid, gid uint32
	mtime    time.Time
	nlink    uint32
}

// encode stores the inode in b.
func (in *diskInode) encode(b []byte) {
	le := binary.LittleEndian
	clear(b[:inodeSize])
	le.PutUint16(b[0:], inodeExtended|in.layout<<1)
	if in.xattrs > 0 {
		// The first unit stands for the header (see erofs_xattr_ibody_size).
		le.PutUint16(b[2:], uint16((in.xattrs-xattrHeaderSize)/4+1))
	}
	le.PutUint16(b[4:], in.mode)
	le.PutUint64(b[8:], uint64(in.size))
	le.PutUint32(b[16:], in.data)
	le.PutUint32(b[20:], in.number)
	le.PutUint32(b[24:], in.uid)
	le.PutUint32(b[28:], in.gid)
	le.PutUint64(b[32:], uint64(in.mtime.Unix()))
	le.PutUint32(b[40:], uint32(in.mtime.Nanosecond()))
	le.PutUint32(b[inodeNlinkOffset:], in.nlink)
}

// decode reads the inode stored in b.
func (in *diskInode) decode(b []byte) error {
	le := binary.LittleEndian
	format := le.Uint16(b[0:])
	if format&inodeExtended == 0 || format>>4 != 0 {
		return fmt.Errorf("%w: inode format %#x is not one that this program writes", ErrCorrupt, format)
	}
	in.layout = format >> 1
	if n := int(le.Uint16(b[2:])); n > 0 {
		in.xattrs = xattrHeaderSize + 4*(n-1)
	}
	in.mode = le.Uint16(b[4:])
	in.size = int64(le.Uint64(b[8:]))
	in.data = le.Uint32(b[16:])
	in.number = le.Uint32(b[20:])
	in.uid = le.Uint32(b[24:])
	in.gid = le.Uint32(b[28:])
	nsec := le.Uint32(b[40:])
	if nsec >= 1e9 {
		return fmt.Errorf("%w: inode time has %d ns", ErrCorrupt, nsec)
	}
	in.mtime = time.Unix(int64(le.Uint64(b[32:])), int64(nsec))
	in.nlink = le.Uint32(b[inodeNlinkOffset:])
	return nil
}

// superblock holds the fields of the superblock that are not constant.
type superblock struct {
	incompat uint32
	inodes   uint64
	blocks   uint32
	epoch    int64
	uuid     [16]byte
	volume   string
}

// encode stores the superblock in block, the whole first block of the image.
// It comes last: its checksum covers the block from the superblock on.
func (s *superblock) encode(block []byte) {
	le := binary.LittleEndian
	b := block[superOffset:blockSize]
	clear(b[:superSize])
	le.PutUint32(b[0:], superMagic)
	le.PutUint32(b[8:], compatChecksum|compatMTime)
	b[12] = blockBits
	le.PutUint16(b[14:], rootNID)
	le.PutUint64(b[16:], s.inodes)
	le.PutUint64(b[24:], uint64(s.epoch))
	le.PutUint32(b[36:], s.blocks)
	copy(b[48:64], s.uuid[:])
	copy(b[64:79], s.volume)
	le.PutUint32(b[80:], s.incompat)
	le.PutUint32(b[4:], superChecksum(b))
}

// superChecksum is the checksum of b, the first block from the superblock on,
// whose checksum field must be zero. It is CRC-32C without the final inversion.
func superChecksum(b []byte) uint32 {
	return ^crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
}

// fileType is the type of a file in a directory entry.
func fileType(mode uint32) (byte, bool) {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 1, true
	case unix.S_IFDIR:
		return 2, true
	case unix.S_IFCHR:
		return 3, true
	case unix.S_IFBLK:
		return 4, true
	case unix.S_IFIFO:
		return 5, true
	case unix.S_IFSOCK:
		return 6, true
	case unix.S_IFLNK:
		return 7, true
	}
	return 0, false
}

// encodeDevice turns a device number into the kernel's 32-bit form
// (new_encode_dev).
func encodeDevice(rdev uint64) (uint32, error) {
	major, minor := unix.Major(rdev), unix.Minor(rdev)
	if major >= 1<<12 || minor >= 1<<20 {
		return 0, fmt.Errorf("device %d:%d is out of range", major, minor)
	}
	return minor&0xff | major<<8 | (minor&^0xff)<<12, nil
}

// decodeDevice is the inverse of encodeDevice.
func decodeDevice(v uint32) uint64 {
	return unix.Mkdev(v>>8&0xfff, v&0xff|v>>12&0xfff00)
}

// alignUp rounds n up to a multiple of unit.
func alignUp[T int | int64](n, unit T) T {
	return (n + unit - 1) / unit * unit
}
