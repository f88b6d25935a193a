package erofs

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxXattrs bounds all xattrs of a file together. Linux's listxattr has the
// same limit for the names alone.
const maxXattrs = 64 << 10

// xattrPrefix is a name space of extended attributes: names are stored
// without it. Access control lists have no further name.
type xattrPrefix struct {
	index  byte
	prefix string
	whole  bool
}

// xattrPrefixes returns all name spaces that EROFS and Linux know.
func xattrPrefixes() []xattrPrefix {
	return []xattrPrefix{
		{1, "user.", false},
		{2, "system.posix_acl_access", true},
		{3, "system.posix_acl_default", true},
		{4, "trusted.", false},
		{6, "security.", false},
	}
}

// splitXattr returns the index of a name's name space and the rest of it.
func splitXattr(name string) (index byte, rest string, ok bool) {
	for _, p := range xattrPrefixes() {
		if rest, ok := strings.CutPrefix(name, p.prefix); ok && p.whole == (rest == "") {
			return p.index, rest, true
		}
	}
	return 0, "", false
}

// joinXattr is the inverse of splitXattr.
func joinXattr(index byte, rest string) (string, bool) {
	for _, p := range xattrPrefixes() {
		if p.index == index && p.whole == (rest == "") {
			return p.prefix + rest, true
		}
	}
	return "", false
}

// encodeXattrs returns xattrs as they are stored behind an inode, sorted by
// name; nil when there are none.
func encodeXattrs(xattrs map[string][]byte) ([]byte, error) {
	if len(xattrs) == 0 {
		return nil, nil
	}
	b := make([]byte, xattrHeaderSize) // no filter, no shared xattrs
	for _, name := range slices.Sorted(maps.Keys(xattrs)) {
		value := xattrs[name]
		index, rest, ok := splitXattr(name)
		switch {
		case !ok:
			return nil, fmt.Errorf("xattr %q is in no name space that erofs knows", name)
		case len(name) > maxName || strings.Contains(rest, "\x00"):
			return nil, fmt.Errorf("xattr %q: bad name", name)
		case len(value) > 1<<16-1:
			return nil, fmt.Errorf("xattr %q has %d bytes, at most %d are possible", name, len(value), 1<<16-1)
		}
		b = append(b, byte(len(rest)), index)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
		b = append(b, rest...)
		b = append(b, value...)
		b = append(b, make([]byte, alignUp(len(b), 4)-len(b))...)
		if len(b) > maxXattrs {
			return nil, fmt.Errorf("xattrs take more than %d bytes", maxXattrs)
		}
	}
	return b, nil
}

// decodeXattrs is the inverse of encodeXattrs.
func decodeXattrs(b []byte) (map[string][]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) <= xattrHeaderSize || b[4] != 0 {
		return nil, fmt.Errorf("%w: shared or empty xattrs", ErrCorrupt)
	}
	xattrs := make(map[string][]byte)
	for b = b[xattrHeaderSize:]; len(b) > 0; {
		if len(b) < xattrEntrySize {
			return nil, fmt.Errorf("%w: truncated xattr", ErrCorrupt)
		}
		nameLen, index := int(b[0]), b[1]
		valueLen := int(binary.LittleEndian.Uint16(b[2:]))
		end := xattrEntrySize + nameLen + valueLen
		if alignUp(end, 4) > len(b) {
			return nil, fmt.Errorf("%w: xattr leaves its inode", ErrCorrupt)
		}
		rest := string(b[xattrEntrySize : xattrEntrySize+nameLen])
		name, ok := joinXattr(index, rest)
		if !ok || strings.Contains(rest, "\x00") {
			return nil, fmt.Errorf("%w: xattr %d:%q", ErrCorrupt, index, rest)
		}
		if _, ok := xattrs[name]; ok {
			return nil, fmt.Errorf("%w: xattr %q exists twice", ErrCorrupt, name)
		}
		xattrs[name] = slices.Clone(b[end-valueLen : end])
		b = b[alignUp(end, 4):]
	}
	return xattrs, nil
}
