package kernel

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

// maxImage bounds a decompressed kernel; Debian's is 60 MB.
const maxImage = 512 << 20

// errNotBzImage is returned for what has no x86 boot header.
var errNotBzImage = errors.New("not a bzImage")

// Decompress returns the ELF kernel that a bzImage carries. See "The Linux/x86
// Boot Protocol" in the kernel's documentation for the header.
func Decompress(bzImage []byte) ([]byte, error) {
	const (
		setupSects    = 0x1f1 // real-mode code, in sectors after the first
		magic         = 0x202
		version       = 0x206
		payloadOffset = 0x248 // from the start of the protected-mode code
		headerEnd     = 0x250
	)
	if len(bzImage) < headerEnd || string(bzImage[magic:magic+4]) != "HdrS" {
		return nil, errNotBzImage
	}
	// The payload's place is in the header since protocol 2.08.
	if v := binary.LittleEndian.Uint16(bzImage[version:]); v < 0x208 {
		return nil, fmt.Errorf("bzImage: boot protocol %#x is too old", v)
	}
	sects := uint64(bzImage[setupSects])
	if sects == 0 {
		sects = 4
	}
	offset := (sects+1)*512 + uint64(binary.LittleEndian.Uint32(bzImage[payloadOffset:]))
	length := uint64(binary.LittleEndian.Uint32(bzImage[payloadOffset+4:]))
	if length < 8 || offset+length > uint64(len(bzImage)) {
		return nil, errors.New("bzImage: payload lies outside of the file")
	}
	payload := bzImage[offset : offset+length]
	// The build appends the size of the contents to every format that does not
	// end with it by itself.
	size := binary.LittleEndian.Uint32(payload[length-4:])
	if size > maxImage {
		return nil, fmt.Errorf("bzImage: a kernel of %d bytes", size)
	}
	r, err := decompressor(payload)
	if err != nil {
		return nil, fmt.Errorf("bzImage: %w", err)
	}
	var out bytes.Buffer
	if _, err := io.Copy(&out, io.LimitReader(r, int64(size)+1)); err != nil {
		return nil, fmt.Errorf("bzImage: decompress: %w", err)
	}
	if out.Len() != int(size) {
		return nil, fmt.Errorf("bzImage: decompressed to other than %d bytes", size)
	}
	return out.Bytes(), nil
}

func decompressor(payload []byte) (io.Reader, error) {
	packed := bytes.NewReader(payload[:len(payload)-4])
	switch {
	case bytes.HasPrefix(payload, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxImage))
	case bytes.HasPrefix(payload, []byte{0x02, 0x21, 0x4c, 0x18}):
		return lz4.NewReader(packed), nil // the legacy frame
	case bytes.HasPrefix(payload, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return xz.NewReader(packed)
	case bytes.HasPrefix(payload, []byte{0x1f, 0x8b}):
		return gzip.NewReader(bytes.NewReader(payload)) // ends with its size by itself
	}
	return nil, fmt.Errorf("unknown compression %x", payload[:4])
}

// HasPVH reports whether a machine can enter an ELF kernel directly: whether it
// carries the Xen note that names the 32-bit entry point.
func HasPVH(vmlinux []byte) bool {
	const physEntry = 18 // XEN_ELFNOTE_PHYS32_ENTRY
	f, err := elf.NewFile(bytes.NewReader(vmlinux))
	if err != nil {
		return false
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE || p.Filesz > 1<<20 {
			continue
		}
		notes, err := io.ReadAll(p.Open())
		if err != nil {
			return false
		}
		for len(notes) >= 12 {
			nameSize := uint64(binary.LittleEndian.Uint32(notes))
			descSize := uint64(binary.LittleEndian.Uint32(notes[4:]))
			kind := binary.LittleEndian.Uint32(notes[8:])
			notes = notes[12:]
			end := align4(nameSize) + align4(descSize)
			if end > uint64(len(notes)) {
				break
			}
			if kind == physEntry && string(notes[:nameSize]) == "Xen\x00" {
				return true
			}
			notes = notes[end:]
		}
	}
	return false
}

func align4(n uint64) uint64 { return (n + 3) &^ 3 }
