// Package erofs writes and reads uncompressed EROFS images, the read-only
// file systems that a machine's root and workspace are made of.
//
// A [Writer] takes files one by one ([Writer.Add], [Writer.AddFile], or a
// whole archive with [FromTar]) and streams them into an image: only the
// directory tree is kept in memory, and the same input gives the same bytes.
// It needs no root and no mkfs. An [Image] reads such an image back ([Open],
// [Image.Lookup], [Image.Walk], [ToTar]); it trusts nothing in it.
//
// Images need Linux 5.15 when they hold sparse files, and Linux 5.4
// otherwise. The package does not compress, does not use several devices, and
// reads only what it writes: no 32-byte inodes, no shared xattrs.
package erofs

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrChanged is wrapped by the error of AddFile about a file whose size
	// changed while it was read. The writer is as it was before the call, so
	// the caller may try again or leave the file out.
	ErrChanged = errors.New("file changed while it was read")

	// ErrCorrupt is wrapped by all errors about what an image holds.
	ErrCorrupt = errors.New("corrupt erofs image")
)

// Entry is one file of an image.
type Entry struct {
	// Path is relative, slash-separated and clean, such as "etc/passwd". The
	// root is "." (or ""). Names are bytes, as in Linux; UTF-8 is not needed.
	Path     string
	Mode     uint32 // as in Linux: type (unix.S_IFMT) and permissions (07777)
	UID, GID uint32
	MTime    time.Time // zero: Options.BuildTime
	Size     int64     // of a regular file
	Target   string    // of a symbolic link

	// Link makes the entry a hard link to the file at this path, which must be
	// in the image already and no directory. All else but Path is ignored.
	Link string

	Rdev   uint64            // of a device, see unix.Mkdev
	Xattrs map[string][]byte // by full name, such as "security.capability"
}

// IsWhiteout says whether the entry is an overlayfs whiteout, the mark that
// hides a file of the layers below.
func (e *Entry) IsWhiteout() bool {
	return e.Mode&unix.S_IFMT == unix.S_IFCHR && e.Rdev == 0
}

// IsOpaque says whether the entry is an overlayfs opaque directory, which hides
// the directory of that name in the layers below.
func (e *Entry) IsOpaque() bool {
	return e.Mode&unix.S_IFMT == unix.S_IFDIR && string(e.Xattrs[xattrOpaque]) == "y"
}

// xattrOpaque marks opaque directories.
const xattrOpaque = "trusted.overlay.opaque"

// checkPath returns the clean form of an entry's path, "" for the root.
func checkPath(path string) (string, error) {
	if path == "." || path == "" {
		return "", nil
	}
	if len(path) > maxPath {
		return "", fmt.Errorf("path of %d bytes, at most %d are possible", len(path), maxPath)
	}
	for name := range strings.SplitSeq(path, "/") {
		if err := checkName(name); err != nil {
			return "", fmt.Errorf("path %q: %w", path, err)
		}
	}
	return path, nil
}

// checkName says whether a directory may hold an entry of this name.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("empty name")
	case name == "." || name == "..":
		return fmt.Errorf("name %q", name)
	case len(name) > maxName:
		return fmt.Errorf("name of %d bytes, at most %d are possible", len(name), maxName)
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("name %q has a slash or a zero byte", name)
	}
	return nil
}

// notExist is the error of a lookup.
func notExist(path string) error {
	return &fs.PathError{Op: "lookup", Path: path, Err: fs.ErrNotExist}
}
