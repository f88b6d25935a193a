// Package diff makes the layer that turns one root file system into another.
//
// It reads the new one as a tar stream, compares it with the old one, an EROFS
// image, and writes a tar stream of what is new or different, with OCI
// whiteouts (.wh.NAME) for what is gone. Times do not count: a file that was
// written again with the same contents is the same file. Neither stream is
// kept; memory is needed for the names of the files alone.
package diff

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/image/erofs"
)

// Write writes to w the layer that makes new of old. Anything in /dev is left
// alone: the guest's kernel fills it.
func Write(w io.Writer, old *erofs.Image, new io.Reader) error {
	buf := bufio.NewWriterSize(w, 1<<20)
	d := &differ{
		old:     old,
		out:     tar.NewWriter(buf),
		seen:    make(map[string]bool),
		written: make(map[string]bool),
		dirs:    make(map[string]*tar.Header),
	}
	if err := d.run(tar.NewReader(bufio.NewReaderSize(new, 1<<20))); err != nil {
		return fmt.Errorf("compare with the layer below: %w", err)
	}
	if err := d.out.Close(); err != nil {
		return err
	}
	return buf.Flush()
}

type differ struct {
	old     *erofs.Image
	out     *tar.Writer
	seen    map[string]bool        // paths in the new system
	written map[string]bool        // paths in the layer
	dirs    map[string]*tar.Header // the new system's directories
}

func (d *differ) run(in *tar.Reader) error {
	for {
		h, err := in.Next()
		if err == io.EOF {
			return d.whiteouts()
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if name == "" || name == "dev" || strings.HasPrefix(name, "dev/") {
			continue
		}
		h.Name = name
		if d.seen[name] {
			return fmt.Errorf("%s is in the archive twice", name)
		}
		d.seen[name] = true
		if err := d.entry(h, in); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// entry writes one file of the new system if it differs from the old one.
func (d *differ) entry(h *tar.Header, content io.Reader) error {
	old, err := d.old.Lookup(h.Name)
	if errors.Is(err, fs.ErrNotExist) {
		old, err = erofs.Entry{}, nil // equal to nothing
	}
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		d.dirs[h.Name] = h
		if sameAttributes(h, old) {
			return nil
		}
		return d.header(h)
	case tar.TypeLink:
		return d.link(h, old)
	case tar.TypeReg:
		if sameAttributes(h, old) && h.Size == old.Size {
			return d.regular(h, content)
		}
		if err := d.header(h); err != nil {
			return err
		}
		_, err := io.Copy(d.out, content)
		return err
	}
	if sameAttributes(h, old) {
		return nil
	}
	return d.header(h)
}

// regular compares contents that may be equal. Up to the first difference they
// are, so what was read of the new file can then be had from the old one.
func (d *differ) regular(h *tar.Header, content io.Reader) error {
	old, err := d.old.Open(h.Name)
	if err != nil {
		return err
	}
	var a, b [32 << 10]byte
	for off := int64(0); off < h.Size; {
		n, err := io.ReadFull(content, a[:min(int64(len(a)), h.Size-off)])
		if err != nil {
			return err
		}
		if _, err := old.ReadAt(b[:n], off); err != nil && err != io.EOF {
			return err
		}
		if bytes.Equal(a[:n], b[:n]) {
			off += int64(n)
			continue
		}
		if err := d.header(h); err != nil {
			return err
		}
		_, err = io.Copy(d.out, io.MultiReader(io.NewSectionReader(old, 0, off), bytes.NewReader(a[:n]), content))
		return err
	}
	return nil
}

// link handles a further name of a file that was seen before. It stays a link
// if its file is in this layer; else both are compared in the old system.
func (d *differ) link(h *tar.Header, old erofs.Entry) error {
	target := strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")
	if d.written[target] {
		h.Linkname = target
		return d.header(h)
	}
	from, err := d.old.Lookup(target)
	if err != nil {
		return fmt.Errorf("link to %s: %w", target, err)
	}
	content, err := d.old.Open(target)
	if err != nil {
		return err
	}
	if old.Path != "" && equalEntries(from, old) {
		mine, err := d.old.Open(h.Name)
		if err != nil {
			return err
		}
		if same, err := equalContents(content, mine); same || err != nil {
			return err
		}
	}
	// A link across layers is a copy.
	h.Typeflag, h.Linkname, h.Size = tar.TypeReg, "", from.Size
	h.Mode, h.Uid, h.Gid, h.ModTime = int64(from.Mode&0o7777), int(from.UID), int(from.GID), from.MTime
	h.PAXRecords = make(map[string]string)
	for name, value := range from.Xattrs {
		h.PAXRecords[paxXattr+name] = string(value)
	}
	if err := d.header(h); err != nil {
		return err
	}
	_, err = io.Copy(d.out, io.NewSectionReader(content, 0, from.Size))
	return err
}

// header writes a header, and those of the directories that lead to it: a
// layer's directories take the place of the lower ones.
func (d *differ) header(h *tar.Header) error {
	if err := d.parents(path.Dir(h.Name)); err != nil {
		return err
	}
	if d.written[h.Name] {
		return nil
	}
	d.written[h.Name] = true
	// Nothing that is not compared: no names of users, no further times.
	out := tar.Header{
		Format:     tar.FormatPAX,
		Typeflag:   h.Typeflag,
		Name:       h.Name,
		Linkname:   h.Linkname,
		Size:       h.Size,
		Mode:       h.Mode,
		Uid:        h.Uid,
		Gid:        h.Gid,
		ModTime:    h.ModTime,
		Devmajor:   h.Devmajor,
		Devminor:   h.Devminor,
		PAXRecords: xattrs(h),
	}
	if h.Typeflag == tar.TypeDir {
		out.Name += "/"
	}
	return d.out.WriteHeader(&out)
}

func (d *differ) parents(dir string) error {
	if dir == "." || d.written[dir] {
		return nil
	}
	h := d.dirs[dir]
	if h == nil {
		// Without it in the archive, what is there keeps its attributes.
		return d.parents(path.Dir(dir))
	}
	return d.header(h)
}

// whiteouts writes the marks for what the old system has and the new one has
// not.
func (d *differ) whiteouts() error {
	return d.old.Walk(func(e erofs.Entry, _ func() *io.SectionReader) error {
		if e.Path == "." || d.seen[e.Path] {
			return nil
		}
		if e.Path == "dev" {
			return fs.SkipDir
		}
		// A directory that became a file hides what was in it.
		if parent := path.Dir(e.Path); parent != "." && d.dirs[parent] == nil {
			return skip(e)
		}
		if err := d.parents(path.Dir(e.Path)); err != nil {
			return err
		}
		err := d.out.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg,
			Name:     path.Join(path.Dir(e.Path), ".wh."+path.Base(e.Path)),
			Mode:     0o644,
		})
		if err != nil {
			return err
		}
		return skip(e)
	})
}

func skip(e erofs.Entry) error {
	if e.Link == "" && e.Mode&unix.S_IFMT == unix.S_IFDIR {
		return fs.SkipDir
	}
	return nil
}

const paxXattr = "SCHILY.xattr."

// xattrs returns the records of a header that are extended attributes.
func xattrs(h *tar.Header) map[string]string {
	out := maps.Clone(h.PAXRecords)
	maps.DeleteFunc(out, func(k, _ string) bool { return !strings.HasPrefix(k, paxXattr) })
	return out
}

// sameAttributes reports whether a header describes an old file, contents
// aside.
func sameAttributes(h *tar.Header, old erofs.Entry) bool {
	types := map[byte]uint32{
		tar.TypeReg:     unix.S_IFREG,
		tar.TypeDir:     unix.S_IFDIR,
		tar.TypeSymlink: unix.S_IFLNK,
		tar.TypeChar:    unix.S_IFCHR,
		tar.TypeBlock:   unix.S_IFBLK,
		tar.TypeFifo:    unix.S_IFIFO,
	}
	fileType, known := types[h.Typeflag]
	if !known || old.Path == "" || old.Mode&unix.S_IFMT != fileType || int64(old.UID) != int64(h.Uid) || int64(old.GID) != int64(h.Gid) {
		return false
	}
	switch h.Typeflag {
	case tar.TypeSymlink:
		return h.Linkname == old.Target // its mode has no meaning
	case tar.TypeChar, tar.TypeBlock:
		if unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)) != old.Rdev {
			return false
		}
	}
	mine := xattrs(h)
	if len(mine) != len(old.Xattrs) {
		return false
	}
	for name, value := range old.Xattrs {
		if mine[paxXattr+name] != string(value) {
			return false
		}
	}
	return old.Mode&0o7777 == uint32(h.Mode)&0o7777
}

// equalEntries reports whether two files of the old system are alike, contents
// aside.
func equalEntries(a, b erofs.Entry) bool {
	return a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.Size == b.Size &&
		maps.EqualFunc(a.Xattrs, b.Xattrs, slices.Equal)
}

func equalContents(a, b *io.SectionReader) (bool, error) {
	if a.Size() != b.Size() {
		return false, nil
	}
	var bufA, bufB [32 << 10]byte
	for off := int64(0); off < a.Size(); {
		n := min(int64(len(bufA)), a.Size()-off)
		for _, r := range []struct {
			from *io.SectionReader
			to   []byte
		}{{a, bufA[:n]}, {b, bufB[:n]}} {
			if _, err := r.from.ReadAt(r.to, off); err != nil && err != io.EOF {
				return false, err
			}
		}
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			return false, nil
		}
		off += n
	}
	return true, nil
}
