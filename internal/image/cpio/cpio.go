// Package cpio writes the archive that the kernel unpacks into its first root
// file system: an initramfs in the "newc" format.
//
// Files go in by name and content; the archive depends on nothing else: all
// belongs to root and dates from 1970, and inodes are numbered in order. The
// package does not compress (a kernel unpacks plain archives fastest) and does
// not read archives. See Documentation/driver-api/early-userspace/buffer-format.rst
// of the Linux kernel.
package cpio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// File types, as in Linux.
const (
	typeDir     = 0o040000
	typeChar    = 0o020000
	typeRegular = 0o100000
	typeSymlink = 0o120000
)

// trailer ends an archive.
const trailer = "TRAILER!!!"

// Writer writes one archive. Names are relative and slash-separated, and a
// directory must come before what is in it. The first error stays.
type Writer struct {
	w     io.Writer
	inode uint32
	err   error
}

// NewWriter returns a Writer to w, which it writes to in small pieces.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// WriteFile adds a regular file.
func (w *Writer) WriteFile(name string, perm uint32, content []byte) error {
	return w.WriteFileFrom(name, perm, bytes.NewReader(content), int64(len(content)))
}

// WriteFileFrom adds a regular file whose content is the next size bytes of r.
func (w *Writer) WriteFileFrom(name string, perm uint32, r io.Reader, size int64) error {
	return w.write(header{name: name, mode: typeRegular | perm&0o7777, size: size, nlink: 1}, r)
}

// Mkdir adds a directory.
func (w *Writer) Mkdir(name string, perm uint32) error {
	return w.write(header{name: name, mode: typeDir | perm&0o7777, nlink: 2}, nil)
}

// Symlink adds a symbolic link to target.
func (w *Writer) Symlink(name, target string) error {
	h := header{name: name, mode: typeSymlink | 0o777, size: int64(len(target)), nlink: 1}
	return w.write(h, strings.NewReader(target))
}

// Mknod adds a character device.
func (w *Writer) Mknod(name string, perm, major, minor uint32) error {
	return w.write(header{name: name, mode: typeChar | perm&0o7777, major: major, minor: minor, nlink: 1}, nil)
}

// Close ends the archive; it does not close the underlying writer.
func (w *Writer) Close() error {
	if err := w.write(header{name: trailer, nlink: 1}, nil); err != nil {
		return err
	}
	w.err = errors.New("cpio: archive is closed")
	return nil
}

// header is a member's header.
type header struct {
	name         string
	mode, nlink  uint32
	size         int64
	major, minor uint32 // of a device
}

func (w *Writer) write(h header, content io.Reader) error {
	if w.err == nil {
		w.err = w.tryWrite(h, content)
		if w.err != nil {
			w.err = fmt.Errorf("cpio: add %q: %w", h.name, w.err)
		}
	}
	return w.err
}

func (w *Writer) tryWrite(h header, content io.Reader) error {
	switch {
	case h.name == "" || strings.HasPrefix(h.name, "/") || strings.Contains(h.name, "\x00"):
		return errors.New("bad name")
	case h.mode != 0 && h.name == trailer:
		return errors.New("the name ends the archive")
	case h.size < 0 || h.size > math.MaxUint32:
		return fmt.Errorf("size %d: the format has 32 bits for it", h.size)
	}
	ino := uint32(0)
	if h.mode != 0 {
		w.inode++
		ino = w.inode
	}
	// Magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor,
	// rdevmajor, rdevminor, namesize, check; then the name with its zero byte.
	_, err := fmt.Fprintf(w.w, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		ino, h.mode, 0, 0, h.nlink, 0, h.size, 0, 0, h.major, h.minor, len(h.name)+1, 0, h.name)
	if err != nil {
		return err
	}
	if err := w.pad(110 + int64(len(h.name)) + 1); err != nil {
		return err
	}
	if content == nil {
		return nil
	}
	if _, err := io.CopyN(w.w, content, h.size); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return w.pad(h.size)
}

// pad fills up n bytes to a multiple of four.
func (w *Writer) pad(n int64) error {
	_, err := w.w.Write(make([]byte, -n&3))
	return err
}
